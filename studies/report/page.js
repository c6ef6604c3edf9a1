"use strict";
(() => {
  const specs = JSON.parse(document.getElementById("specs").textContent);
  const dark = window.matchMedia("screen and (prefers-color-scheme: dark)");
  const views = {};
  const isUnder = (row) =>
    [row.label, row.line, row.panel].some((name) => String(name ?? "").startsWith("Counterfactual"));

  const theme = (night) => {
    const ink = night ? "#e7e9ec" : "#1c2126";
    const soft = night ? "#a5adb8" : "#545d68";
    const line = night ? "#2f353d" : "#e6e7e2";
    const text = { labelColor: soft, titleColor: soft, labelFontSize: 12.5, titleFontSize: 12.5 };
    return {
      background: "transparent",
      font: "system-ui, -apple-system, 'Segoe UI', 'Noto Sans', Arial, sans-serif",
      view: { stroke: null },
      // Room for half of a label at the right end of an axis.
      padding: { left: 5, top: 5, right: 18, bottom: 5 },
      axis: { ...text, gridColor: line, domainColor: line, tickColor: line, titleFontWeight: 500, labelLimit: window.innerWidth < 600 ? 112 : 230, titlePadding: 10 },
      axisX: { labelSeparation: 8 },
      axisY: { labelPadding: 8 },
      header: { labelColor: ink, labelFontSize: 13, labelFontWeight: 600, labelPadding: 6 },
      legend: { ...text, titleFontWeight: 500, offset: 14 },
      text: { color: ink },
      range: { diverging: night ? ["#3a83bf", "#262c34", "#d9622b"] : ["#2f7fc1", "#f1f1ed", "#c8501a"] },
    };
  };

  // Counterfactual runs stand under their student until they are asked for.
  const hideUnder = (spec) => {
    const count = (rows) => new Set(rows.map((row) => row.label)).size;
    for (const [name, rows] of Object.entries(spec.datasets ?? {})) {
      const kept = rows.filter((row) => !isUnder(row));
      if (kept.length && spec.usermeta?.rows) spec.height *= count(kept) / count(rows);
      if (kept.length) spec.datasets[name] = kept;
    }
  };

  const themed = (spec, night, under) => {
    const copy = structuredClone(spec);
    if (!under) hideUnder(copy);
    for (const parameter of copy.params ?? []) {
      if (parameter.name === "ink") parameter.value = night ? "#e7e9ec" : "#1c2126";
    }
    return { ...copy, config: theme(night) };
  };

  const draw = async (night, places = document.querySelectorAll(".chart")) => {
    for (const place of places) {
      const name = place.dataset.spec;
      const section = place.closest("section");
      views[name]?.finalize();
      const under = section.querySelector("input[data-under]")?.checked;
      const result = await vegaEmbed(place, themed(specs[name], night, under), {
        mode: "vega-lite",
        renderer: "svg",
        actions: { export: true, source: false, compiled: false, editor: false },
        downloadFileName: name,
      });
      views[name] = result.view;
      for (const choice of section.querySelectorAll("select[data-parameter]")) {
        await result.view.signal(choice.dataset.parameter, choice.value).runAsync();
      }
    }
    document.documentElement.dataset.drawn = night ? "dark" : "light";
  };

  const offer = (section) => {
    const charts = [...section.querySelectorAll(".chart")];
    const sets = charts.flatMap((place) => Object.values(specs[place.dataset.spec].datasets ?? {}));
    if (!sets.some((rows) => rows.some(isUnder) && !rows.every(isUnder))) return;
    const label = document.createElement("label");
    label.className = "more";
    label.innerHTML = '<input type="checkbox" data-under> counterfactual runs too';
    section.querySelector("h3").after(label);
  };

  const open = () => {
    const target = document.getElementById(location.hash.slice(1));
    for (let one = target; one; one = one.parentElement?.closest("details")) one.open = true;
    target?.scrollIntoView();
  };

  const sort = (heading) => {
    const table = heading.closest("table");
    const body = table.tBodies[0];
    const column = heading.cellIndex;
    const numeric = heading.classList.contains("number");
    // Numbers begin with the largest, words with A.
    const first = numeric ? "descending" : "ascending";
    const second = numeric ? "ascending" : "descending";
    const direction = heading.getAttribute("aria-sort") === first ? second : first;
    const key = (row) => {
      const { dataset, textContent } = row.cells[column];
      return numeric ? (dataset.key ?? "") : textContent.replace(/^—$/, "");
    };
    const order = (a, b) => {
      const [left, right] = [key(a), key(b)];
      // What was not measured stays last in both directions.
      if (left === "" || right === "") return (left === "") - (right === "");
      const difference = numeric ? left - right : left.localeCompare(right, "en", { numeric: true });
      return direction === "ascending" ? difference : -difference;
    };
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", direction);
    body.append(...[...body.rows].sort(order));
  };

  for (const heading of document.querySelectorAll("table.sortable th")) {
    heading.addEventListener("click", () => sort(heading));
  }
  for (const choice of document.querySelectorAll("select[data-parameter]")) {
    choice.addEventListener("change", () => {
      for (const place of choice.closest("section").querySelectorAll(".chart")) {
        views[place.dataset.spec]?.signal(choice.dataset.parameter, choice.value).runAsync();
      }
    });
  }
  for (const section of document.querySelectorAll("details.group > section")) offer(section);
  for (const box of document.querySelectorAll("input[data-under]")) {
    box.addEventListener("change", () => {
      const near = box.closest("section") ?? box.closest("details");
      near.classList.toggle("with-under", box.checked);
      draw(dark.matches, near.querySelectorAll(".chart"));
    });
  }
  // A chart is as wide as its place, which a closed group does not have.
  for (const group of document.querySelectorAll("details.group")) {
    group.addEventListener("toggle", () => window.dispatchEvent(new Event("resize")));
  }
  window.addEventListener("hashchange", open);
  dark.addEventListener("change", () => draw(dark.matches));
  draw(dark.matches);
  open();
})();

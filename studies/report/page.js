"use strict";
(() => {
  const specs = JSON.parse(document.getElementById("specs").textContent);
  const dark = window.matchMedia("screen and (prefers-color-scheme: dark)");
  const owners = JSON.parse(document.getElementById("owners").textContent);
  const MARGINS = 72; // between a chart on a small screen and the window's edges
  const views = {};
  // Of whom a counterfactual run is shown, in each section and each table of the appendix.
  const opened = new Map();
  const scopeOf = (place) => place.closest("section") ?? place.closest("details");
  const shownIn = (place) => opened.get(scopeOf(place)) ?? new Set();
  const ownerOf = (row) => owners[row.label] ?? owners[row.panel];

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

  // Takes lines that are not shown out of the legends, with their colours.
  const prune = (part, hidden) => {
    if (part === null || typeof part !== "object") return;
    if (Array.isArray(part.range) && part.domain?.some((name) => hidden.has(name))) {
      const kept = part.domain.map((name) => !hidden.has(name));
      for (const side of ["domain", "range"]) part[side] = part[side].filter((_, place) => kept[place]);
    }
    for (const [name, inner] of Object.entries(part)) if (name !== "datasets") prune(inner, hidden);
  };

  // A counterfactual run stands under its student or teacher, and is shown when that is opened.
  const hideUnder = (spec, shown) => {
    const count = (rows) => new Set(rows.map((row) => row.label)).size;
    const hidden = new Set();
    for (const [name, rows] of Object.entries(spec.datasets ?? {})) {
      const kept = rows.filter((row) => !ownerOf(row) || shown.has(ownerOf(row)));
      for (const row of rows) if (kept.length && ownerOf(row) && !shown.has(ownerOf(row))) hidden.add(row.line);
      if (kept.length && spec.usermeta?.rows) spec.height *= count(kept) / count(rows);
      if (kept.length) spec.datasets[name] = kept;
    }
    hidden.delete(undefined);
    if (hidden.size) prune(spec, hidden);
  };

  const themed = (spec, night, shown) => {
    const copy = structuredClone(spec);
    hideUnder(copy, shown);
    const { least } = copy.usermeta ?? {};
    if (least > window.innerWidth - MARGINS) copy.width = least;
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
      const result = await vegaEmbed(place, themed(specs[name], night, shownIn(place)), {
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

  const opener = (owner, text) => {
    const button = document.createElement("button");
    Object.assign(button, { type: "button", className: "opener", textContent: text });
    button.dataset.opens = owner;
    button.setAttribute("aria-expanded", "false");
    button.addEventListener("click", () => toggle(scopeOf(button), owner));
    return button;
  };

  const toggle = (scope, owner) => {
    const shown = opened.get(scope) ?? new Set();
    if (!shown.delete(owner)) shown.add(owner);
    opened.set(scope, shown);
    for (const one of scope.querySelectorAll("[data-opens]")) {
      one.setAttribute("aria-expanded", String(shown.has(one.dataset.opens)));
    }
    for (const one of scope.querySelectorAll("[data-owner]")) {
      one.classList.toggle("shown", shown.has(one.dataset.owner));
    }
    draw(dark.matches, scope.querySelectorAll(".chart"));
  };

  // Whoever has a counterfactual run opens it: in the first of its rows, above charts by its name.
  const offer = (scope) => {
    const under = [...scope.querySelectorAll("tr[data-owner]")].map((row) => row.dataset.owner);
    const drawn = [...scope.querySelectorAll(".chart")]
      .flatMap((place) => Object.values(specs[place.dataset.spec].datasets ?? {}))
      .filter((rows) => !rows.every(ownerOf))
      .flatMap((rows) => rows.map(ownerOf).filter(Boolean));
    const rows = [...scope.querySelectorAll("tbody tr:not([data-owner])")];
    const above = new Set(drawn);
    for (const owner of new Set(under)) {
      const first = rows.find((row) => row.cells[0].textContent.replace(/ \(.*/, "") === owner);
      if (first) first.cells[0].append(opener(owner, "counterfactual"));
      else above.add(owner);
    }
    if (!above.size) return;
    const line = document.createElement("p");
    line.className = "more";
    line.append("Show the counterfactual of", ...[...above].map((owner) => opener(owner, owner)));
    scope.querySelector("h3, summary").after(line);
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
  const apart = "details.group > section, #every-table > details";
  for (const scope of document.querySelectorAll(apart)) offer(scope);
  // A chart is as wide as its place, which a closed group does not have.
  for (const group of document.querySelectorAll("details.group")) {
    group.addEventListener("toggle", () => window.dispatchEvent(new Event("resize")));
  }
  window.addEventListener("hashchange", open);
  dark.addEventListener("change", () => draw(dark.matches));
  draw(dark.matches);
  open();
})();

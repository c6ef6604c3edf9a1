"""The page in a real browser: what it draws, sorts, shows on hover, prints, and never asks for."""

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from audits.answer.answer import VERDICT_NAMES
from audits.results import merge_parts, write_part
from studies.plan.planner import make_plan
from studies.plan.study_file import read_study
from studies.report import write_report
from studies.run.cell_state import CellFiles
from tests.processes import ROOT
from tests.studies.planted import STEP, planted_scores
from tests.studies.small_study import finish, write_project

browsers = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")

LAPTOP, TABLET = {"width": 1400, "height": 900}, {"width": 800, "height": 900}
PHONE = {"width": 390, "height": 844}
PAPER = {"width": 720, "height": 1000}
SECONDS = (100, 9, 1000, 75, 20000)
# Contrast of two colours by WCAG 2.2, sections "relative luminance" and "contrast ratio".
CONTRASTS = """
(selector) => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const rgb = (colours) => {
    canvas.clearRect(0, 0, 1, 1);
    for (const colour of colours) { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); }
    return canvas.getImageData(0, 0, 1, 1).data;
  };
  const luminance = (colours) => {
    const [r, g, b] = [...rgb(colours)].slice(0, 3).map((value) => {
      const share = value / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    const found = [];
    for (let one = element; one; one = one.parentElement) {
      found.unshift(getComputedStyle(one).backgroundColor);
    }
    return ["#ffffff", ...found];
  };
  const says = (node) => node.nodeType === Node.TEXT_NODE && node.data.trim();
  return [...document.querySelectorAll(selector)]
    .filter((one) => [...one.childNodes].some(says) && one.checkVisibility())
    .map((one) => {
      const style = getComputedStyle(one);
      const ground = behind(one);
      const colour = one instanceof SVGElement ? style.fill : style.color;
      const [a, b] = [luminance([...ground, colour]), luminance(ground)];
      const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
      return [ratio, one.textContent.trim().slice(0, 40)];
    });
}
"""
# Charts of panels side by side have a width of their own; they scroll, and shrink on paper.
WIDER_THAN_ITS_PLACE = """
() => {
  const specs = JSON.parse(document.getElementById("specs").textContent);
  return [...document.querySelectorAll(".chart")].filter((chart) => {
    const clipped = getComputedStyle(chart).overflowX !== "visible";
    const spec = specs[chart.dataset.spec];
    const scrolls = spec.width !== "container" || spec.usermeta?.least > innerWidth - 72;
    if (clipped && scrolls) return false;
    return chart.querySelector("svg").getBoundingClientRect().width > chart.clientWidth + 1;
  }).map((chart) => chart.dataset.spec);
}
"""


@dataclass
class Opened:
    """A page in a browser, and all that it said and asked for while it loaded."""

    page: "browsers.Page"
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def look(self, size: dict[str, int], scheme: str = "light", media: str = "screen") -> None:
        """Shows the page at a size, in a colour scheme, on a medium, once its charts are drawn."""
        self.page.set_viewport_size(size)
        self.page.emulate_media(color_scheme=scheme, media=media)
        drawn = "dark" if (scheme, media) == ("dark", "screen") else "light"
        self.page.wait_for_function(f"document.documentElement.dataset.drawn === '{drawn}'")
        # Charts take a new width with the next frame.
        self.page.evaluate(
            "() => new Promise((done) => requestAnimationFrame(() => setTimeout(done)))"
        )

    def unfold(self, *, shut: bool = False) -> None:
        """Opens everything that a click opens, or shuts it."""
        self.page.locator("details").evaluate_all(f"a => a.forEach(one => one.open = {not shut:d})")

    def column(self, table: str, number: int) -> list[str]:
        """Returns a table's column as it is read, from the top."""
        return self.page.locator(f"{table} tbody td:nth-child({number})").all_text_contents()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The page of a finished study: one AUROC is not measurable, every cell took another time."""
    folder = tmp_path_factory.mktemp("study")
    write_project(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        plan = make_plan(read_study("configs/studies/small.yaml"), Path("runs/small"), {})
        finish(plan)
        for seconds, cell in zip(SECONDS, plan.cells, strict=True):
            facts = {"seconds": seconds, "versions": {"torch": "2"}, "machine": "x86"}
            CellFiles(cell).write("done", facts)
        first = plan.cells[0]
        row = {"run": first.alias, "role": first.role, "step": STEP, "audit": "membership"}
        row |= {"population": "private", "name": "recall", "metric": "auroc"}
        write_part(first.run_dir, "results", STEP, "more", [row])
        merge_parts(first.run_dir)
        yield write_report(plan, Path("runs/small")).resolve()


@pytest.fixture(scope="module")
def opened(report: Path) -> Iterator[Opened]:
    """The page, loaded once, on a laptop."""
    with browsers.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM)
        found = Opened(browser.new_page(viewport=LAPTOP, color_scheme="light"))
        found.page.on("console", lambda message: found.said.append(message.text))
        found.page.on("pageerror", lambda error: found.said.append(str(error)))
        found.page.on("request", lambda request: found.asked.append(request.url))
        found.page.set_default_timeout(20_000)
        found.page.goto(report.as_uri())
        found.look(LAPTOP)
        yield found
        browser.close()


def test_the_page_loads_without_a_word_and_without_the_network(
    opened: Opened, report: Path
) -> None:
    assert opened.said == []
    assert opened.asked == [report.as_uri()]
    assert report.stat().st_size <= 5_000_000


@pytest.mark.parametrize("size", [LAPTOP, PHONE], ids=["laptop", "phone"])
def test_the_answer_is_on_the_first_screen(opened: Opened, size: dict[str, int]) -> None:
    opened.unfold(shut=True)
    opened.look(size)
    page = opened.page
    page.evaluate("scrollTo(0, 0)")
    end = "one => one.getBoundingClientRect().bottom"
    last = ".models" if size is PHONE else "#answer"
    assert page.locator(last).evaluate(end) <= size["height"]
    assert page.evaluate("document.documentElement.scrollWidth") == size["width"]
    said = page.locator("#answer").inner_text()
    assert "The teacher and the student " in said
    assert "For the control, which met no teacher" in said
    assert page.locator("#answer .models tbody tr").count() == 3
    for row in page.locator("#answer .models tbody tr").all():
        assert row.locator(".verdict").inner_text() in set(VERDICT_NAMES.values())
        assert row.locator(".bar circle").is_visible()
    for word in ("Attack: Loss", "90 + 90 records", "What to do", "Know this first"):
        assert word in said


def test_little_is_shown_before_something_is_opened(opened: Opened) -> None:
    opened.unfold(shut=True)
    opened.look(LAPTOP)
    page = opened.page
    assert len(page.locator("body").inner_text().split()) <= 2_500
    seen = "a => a.filter(one => one.checkVisibility({contentVisibilityAuto: true})).length"
    assert page.locator(".mark-symbol path, .mark-rule line").evaluate_all(seen) == 0
    assert page.locator("#answer .bar circle").count() <= 10
    shown = page.locator("body").inner_text()
    assert not re.search(r"\b\w+_\w+\b|\w=\w", shown), "a name of the code"


def test_the_keyboard_reaches_a_table_and_a_definition(opened: Opened) -> None:
    opened.unfold(shut=True)
    opened.look(LAPTOP)
    page = opened.page
    page.locator("#every-table > summary").focus()
    for key in ("Enter", "Tab", "Enter", "Tab"):
        page.keyboard.press(key)
    inside = "document.activeElement.closest('#every-table > details[open]') !== null"
    assert page.evaluate(inside)
    rows = page.locator("#every-table > details[open] tbody tr")
    assert rows.first.is_visible()
    term = page.locator("#answer .term", has_text="teacher").first
    term.focus()
    told = term.evaluate("one => getComputedStyle(one, '::after').content")
    source = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    assert len(told) > 30
    assert told.strip('"') in source


def test_counterfactual_runs_stand_under_their_student_until_asked_for(opened: Opened) -> None:
    opened.unfold()
    opened.look(LAPTOP)
    table = opened.page.locator("#table-membership")
    under = table.locator("tbody tr", has_text="Counterfactual student")
    assert under.count() == 4
    rows = [row.split("\t")[0] for row in table.locator("tbody").inner_text().splitlines()]
    student = next(name for name in rows if name.startswith("Student"))
    assert not under.first.is_visible()
    button = table.locator("tbody tr", has_text=student).get_by_role("button")
    button.click()
    assert button.get_attribute("aria-expanded") == "true"
    assert under.first.is_visible()
    above = under.first.evaluate("row => row.previousElementSibling.cells[0].innerText")
    assert above.startswith("Student")
    assert not table.locator("tbody tr", has_text="Counterfactual teacher").first.is_visible()
    marks = opened.page.locator(".chart[data-spec=attacks] path[aria-label*=Counterfactual]")
    assert marks.count() == 0
    opened.page.locator("#leaks button", has_text="Student").click()
    marks.first.wait_for()
    assert {"teacher" in mark.get_attribute("aria-label") for mark in marks.all()} == {False}
    for one in (button, opened.page.locator("#leaks button", has_text="Student")):
        one.click()
    assert not under.first.is_visible()


def test_every_chart_is_drawn_and_every_link_arrives(opened: Opened) -> None:
    specs = opened.page.evaluate("Object.keys(JSON.parse(specs.textContent))")
    drawn = opened.page.evaluate(
        """() => [...document.querySelectorAll(".chart")]
          .filter((chart) => chart.querySelectorAll("svg .role-mark path").length > 0)
          .map((chart) => chart.dataset.spec)"""
    )
    assert sorted(drawn) == sorted(specs)
    assert {"attacks", "heat", "roc", "rouge", "tasks"} <= set(drawn)
    opened.unfold(shut=True)
    links = opened.page.locator("nav a").all()
    assert len(links) >= 6
    for link in links:
        link.click()
        opened.page.locator(f"{link.get_attribute('href')}[open]").wait_for()


def test_numbers_sort_as_numbers_and_a_second_click_turns_them(opened: Opened) -> None:
    opened.unfold()
    table = "#table-runs table"
    heading = opened.page.locator(f"{table} th", has_text="Time")
    number = heading.evaluate("cell => cell.cellIndex + 1")
    keys = f"{table} tbody td:nth-child({number})"
    for direction, expected in (
        ("descending", sorted(SECONDS)[::-1]),
        ("ascending", sorted(SECONDS)),
    ):
        heading.get_by_role("button").click()
        found = opened.page.locator(keys).evaluate_all("a => a.map(one => Number(one.dataset.key))")
        assert (heading.get_attribute("aria-sort"), found) == (direction, expected)


def test_what_was_not_measured_is_last_both_ways(opened: Opened) -> None:
    opened.unfold()
    table = "#table-membership table"
    heading = opened.page.locator(f"{table} th", has_text="AUROC")
    number = heading.evaluate("cell => cell.cellIndex + 1")
    heading.get_by_role("button").click()
    falling = opened.column(table, number)
    heading.get_by_role("button").click()
    rising = opened.column(table, number)
    assert falling[-1] == rising[-1] == "not measurable"
    values = [float(text.split()[0]) for text in rising[:-1]]
    assert values == sorted(values)
    assert len(values) > 10
    assert [float(text.split()[0]) for text in falling[:-1]] == sorted(values)[::-1]


def test_words_sort_from_a_by_the_keyboard_and_leave_one_sorted_heading(opened: Opened) -> None:
    opened.unfold()
    table = "#table-runs table"
    opened.page.locator(f"{table} th button", has_text="Time").focus()
    opened.page.keyboard.press("Enter")
    opened.page.locator(f"{table} th button", has_text="Role").focus()
    opened.page.keyboard.press("Enter")
    assert opened.column(table, 2) == sorted(opened.column(table, 2))
    marked = opened.page.locator(f"{table} th[aria-sort]")
    assert marked.evaluate_all("a => a.map(one => [one.textContent, one.ariaSort])") == [
        ["Role", "ascending"]
    ]


def test_a_mark_tells_its_figure_on_hover(opened: Opened) -> None:
    opened.unfold()
    opened.look(LAPTOP)
    members, others = planted_scores("teacher", 1, 0)
    won = sum(float((member > others).mean()) for member in members) / len(members)
    mark = opened.page.locator(".chart[data-spec=attacks] .mark-symbol path[aria-label*=Teacher]")
    mark.and_(opened.page.locator("[aria-label*='Loss']")).first.hover()
    tooltip = opened.page.locator("#vg-tooltip-element.visible")
    tooltip.wait_for()
    told = dict(zip(*[iter(tooltip.locator("td").all_text_contents())] * 2, strict=True))
    told = {name.rstrip(":"): value for name, value in told.items()}
    assert told["Run"] == "Teacher"
    assert told["Estimate"] == f"{won:.3f}"
    assert told["Members"] == "90"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [LAPTOP, TABLET, PHONE], ids=["laptop", "tablet", "phone"])
def test_nothing_is_wider_than_the_window_and_all_text_is_legible(
    opened: Opened, size: dict[str, int], scheme: str
) -> None:
    opened.unfold()
    opened.look(size, scheme)
    width = opened.page.evaluate("document.documentElement.scrollWidth")
    assert width == size["width"]
    assert opened.page.evaluate(WIDER_THAN_ITS_PLACE) == []
    found = opened.page.evaluate(CONTRASTS, "body *:not(script, svg, svg *)")
    axes = opened.page.evaluate(CONTRASTS, ".chart .role-axis text, .chart .role-legend text")
    assert len(found) > 100
    assert len(axes) > 50
    assert [one for one in found + axes if one[0] < 4.5] == []
    paper = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", paper)[:3])) > 600) == (scheme == "light")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_paper_hides_nothing_that_a_click_would_show(opened: Opened, scheme: str) -> None:
    opened.look(PAPER, scheme, "print")
    page = opened.page
    assert page.evaluate("document.documentElement.scrollWidth") == PAPER["width"]
    assert page.evaluate(WIDER_THAN_ITS_PLACE) == []
    opened.unfold(shut=True)
    # A page of paper has the answer; the appendix begins after ten at most.
    bottom = "one => one.getBoundingClientRect().bottom"
    assert page.locator("#answer").evaluate(bottom) <= PAPER["height"]
    top = page.locator(".appendix").first.evaluate("one => one.offsetTop")
    assert top <= 9 * PAPER["height"]
    folded = page.locator("details > :is(section, .scroll)")
    assert folded.count() >= 8
    assert folded.evaluate_all("a => a.every(one => one.checkVisibility())")
    cut = "a => a.filter(one => one.scrollHeight > one.clientHeight + 1).length"
    assert page.locator(".scroll").evaluate_all(cut) == 0
    assert page.locator("#roc select").is_visible()
    found = page.evaluate(CONTRASTS, "body *:not(script, svg, svg *), .chart .role-axis text")
    assert [one for one in found if one[0] < 4.5] == []
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_charts_drawn_for_the_night_are_turned_on_paper(opened: Opened) -> None:
    opened.look(PAPER, "dark", "print")
    turned = """(drawn) => {
      document.documentElement.dataset.drawn = drawn;
      return getComputedStyle(document.querySelector(".chart svg")).filter;
    }"""
    # A browser may print before the charts are drawn anew.
    assert opened.page.evaluate(turned, "dark") == "invert(1) hue-rotate(180deg)"
    assert opened.page.evaluate(turned, "light") == "none"

"""Pages and docstrings cite what a reader has."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import ROOT

CODE = ("common", "datamodules", "kdmodules", "audits", "callbacks", "studies", "kd_privacy")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
NAMED = re.compile(r"(?<![\w/.*<\"-])((?:[\w-]+/)*[\w-]+\.md)\b")
DECISION = re.compile(r"\bmethod\.md(?:`|\))?,? (?:items? )?(\d+)(?:(?:,| and) (\d+))*")
LINK = re.compile(r"\]\(([^)\s]+)\)")


def texts() -> Iterator[tuple[str, str]]:
    """Yields name and text of every file that a reader of the project opens."""
    for folder in (*CODE, "benchmarks", "examples", "tests", "configs"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".py", ".yaml", ".html") and path != Path(__file__):
                yield str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")
    for path in PAGES:
        yield str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")


def missing(name: str, text: str, root: Path = ROOT) -> list[str]:
    """Returns the documents that a text names and that are not in the repository.

    What code writes is no document: a path in quotation marks counts only in prose.
    """
    homes = (root, root / Path(name).parent, root / "docs", root / "benchmarks" / "results")
    return [
        f"{name}: {cited}"
        for cited in NAMED.findall(text)
        if not any((home / cited).is_file() for home in homes)
    ]


def test_every_document_that_is_cited_is_in_the_repository() -> None:
    assert [line for name, text in texts() for line in missing(name, text)] == []


def test_a_document_that_nobody_has_is_named() -> None:
    assert missing("audits/a.py", "as techniques.md says; see docs/claims.md") == [
        "audits/a.py: techniques.md"
    ]


def test_no_text_counts_items_of_a_page_that_nobody_has() -> None:
    numbered = re.compile(r"[Cc]orrections?, item|\bissue \d|\bitem \d+ of the review")
    assert [name for name, text in texts() if numbered.search(text)] == []


def test_decisions_that_are_cited_exist() -> None:
    text = (ROOT / "docs" / "method.md").read_text(encoding="utf-8")
    known = [int(number) for number in re.findall(r"^\*\*(\d+)\. ", text, re.M)]
    assert known == list(range(1, len(known) + 1))
    cited = {
        (name, int(number))
        for name, text in texts()
        for found in DECISION.finditer(text)
        for number in re.findall(r"\d+", found.group(0))
    }
    assert cited
    assert sorted(one for one in cited if one[1] not in known) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    lost = []
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        if link.startswith(("http", "mailto:")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            lost.append(link)
    assert lost == []


def anchors(page: Path) -> set[str]:
    """Returns the anchors of a page's headings, as GitHub and pandoc make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings
    }


def test_the_index_links_every_page() -> None:
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    linked = {link.partition("#")[0] for link in LINK.findall(index)}
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"index.md"}
    assert pages - linked == set()


@pytest.mark.parametrize("page", PAGES[2:], ids=lambda page: page.name)
def test_a_page_begins_with_what_one_can_do_after_it(page: Path) -> None:
    title, empty, first, *_ = page.read_text(encoding="utf-8").split("\n")
    assert title.startswith("# ")
    assert not empty
    assert first.startswith("After this page you ")


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 110


def test_the_ways_through_the_code_are_short() -> None:
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    ways = index.partition("## Ways through the code")[2].split("\n**")[1:]
    files = [set(re.findall(r"`([\w/]+\.py)`", way)) for way in ways]
    for way, most in zip(files, (10, 12, 10), strict=True):
        named = {path for path in way if "/" in path}
        assert 5 < len(named) <= most
        assert [path for path in sorted(named) if not (ROOT / path).is_file()] == []

"""A fragment goes by its path or by its name."""

from pathlib import Path

import pytest

from common.fragments import find_fragment, nearest_fragment, packaged_fragments
from tests.processes import ROOT

EXTERNAL = ROOT / "configs" / "audits" / "external.yaml"


@pytest.mark.parametrize(
    "name", ["audits/external", "audits/external.yaml", "configs/audits/external.yaml"]
)
def test_every_name_of_a_packaged_fragment(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert packaged_fragments() == ROOT / "configs"
    assert find_fragment(name) == EXTERNAL
    own = tmp_path / name
    own.parent.mkdir(parents=True)
    own.write_text("run: {}", encoding="utf-8")
    assert find_fragment(name) == Path(name)
    assert find_fragment(str(own)) == own


@pytest.mark.parametrize(
    "name",
    ["audits/externl", "audits", "../pyproject", "trainer: {max_epochs: 1}", "a" * 5000, "a\0b"],
)
def test_what_is_no_fragment(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_fragment(name) is None


def test_the_nearest_fragment_is_offered() -> None:
    assert nearest_fragment("audits/externl") == "audits/external"
    assert nearest_fragment("configs/studies/quickstrat.yaml") == "studies/quickstart"
    assert nearest_fragment("trainer: {max_epochs: 1}") is None
    assert nearest_fragment("a" * 5000) is None

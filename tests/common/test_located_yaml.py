"""YAML of a user: what PyYAML reads is read, and what it refuses is told with its line."""

from pathlib import Path

import pytest
import yaml

from common.errors import UserError
from common.located_yaml import load_located

MERGED = """\
a: &a {x: 1, y: {z: 2}}
b: &b {x: 3, w: 4}
c:
  <<: [*a, *b]
  w: 5
d: {<<: *a}
"""


def test_merges_are_those_of_pyyaml_and_know_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(MERGED)
    located = load_located(path)
    assert located.data == yaml.safe_load(MERGED)
    assert located.lines["c", "w"] == 5
    assert located.lines["c", "y", "z"] == located.lines["d", "x"] == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: !!int four\n", r"a.yaml:2: invalid YAML: .*'four'"),
        ("a: 1\nb: 2026-13-45\n", r"a.yaml:2: invalid YAML: month"),
        ("a: 1\nb: !!python/object:os.x 3\n", r"a.yaml:2: invalid YAML: could not .*os.x'$"),
        ("a: 1\nb: x\x01\n", r"a.yaml:2: invalid YAML: special characters"),
        ("a: 1\n<<: 3\n", r"a.yaml:2: invalid YAML: << takes a mapping"),
        ("a: &a {b: *a}\n", r"a.yaml:1: invalid YAML: an alias lies inside its own anchor"),
        ("a: &a [b]\n? *a\n: 1\n", r"a.yaml:1: invalid YAML: a key that is no name"),
        ("a: 1\nb: [{c: 1, c: 2}]\n", r"a.yaml:2: key 'c' is given twice"),
        ("a: 1\nb: !!set {c, d}\n", r"a.yaml:2: the tag !!set is not read"),
    ],
)
def test_what_yaml_refuses_is_named_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        load_located(path)

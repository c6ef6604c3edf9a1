"""Every interval over records counts near-duplicates as one: all callers are walked."""

import ast
from collections.abc import Iterator

import pytest

from tests.processes import ROOT

PACKAGES = ("audits", "callbacks", "studies", "kd_privacy")
# A statistic that is passed on is called by this name.
PASSED_ON = "statistic"
BY_CONSTRUCTION = {
    "audits/bounds/sampled_text.py": "texts are drawn independently of each other",
    "audits/membership/ceiling_rows.py": "a cluster is one score, the mean of its records'",
    "audits/memorization/exposure.py": "a canary is a record of its own and has no duplicate",
}


def trees() -> Iterator[tuple[str, ast.Module]]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def optional_clusters(node: ast.AST) -> dict[str, int | None]:
    """Returns the parameters for clusters that a caller may leave out, with their places."""
    found: dict[str, int | None] = {}
    if isinstance(node, ast.FunctionDef):
        positional = [*node.args.posonlyargs, *node.args.args]
        first = len(positional) - len(node.args.defaults)
        found |= {one.arg: place for place, one in enumerate(positional) if place >= first}
        keyword = zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
        found |= {one.arg: None for one, default in keyword if default is not None}
    elif isinstance(node, ast.ClassDef):
        fields = [one for one in node.body if isinstance(one, ast.AnnAssign)]
        found |= {
            one.target.id: place
            for place, one in enumerate(fields)
            if isinstance(one.target, ast.Name) and one.value is not None
        }
    return {name: place for name, place in found.items() if name.endswith("clusters")}


def statistics() -> dict[str, dict[str, int | None]]:
    """Returns every function and class with such parameters, by name."""
    return {
        node.name: parameters
        for _, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
        and (parameters := optional_clusters(node))
    }


def name_of(function: ast.expr) -> str:
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def forgotten(tree: ast.Module, known: dict[str, dict[str, int | None]]) -> Iterator[str]:
    """Yields the calls without clusters of whose result more than the value is read."""
    value_alone = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr == "value"
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or id(node) in value_alone:
            continue
        given = {one.arg: one.value for one in node.keywords}
        starred = any(isinstance(one, ast.Starred) for one in node.args)
        for parameter, place in known.get(name_of(node.func), {}).items():
            argument = given.get(parameter)
            if argument is None and place is not None and not starred and len(node.args) > place:
                argument = node.args[place]
            spread = None in given or (starred and place is not None)
            left_out = argument is None and not spread
            if left_out or (isinstance(argument, ast.Constant) and argument.value is None):
                yield f"line {node.lineno}: {name_of(node.func)} without {parameter}"


def test_every_caller_passes_clusters() -> None:
    known = statistics()
    assert {"auroc", "swap_estimate", "certified_tpr", "ratio_interval", "share_interval"} <= set(
        known
    )
    known[PASSED_ON] = known["auroc"]
    found = {
        file: wrong
        for file, tree in trees()
        if file not in BY_CONSTRUCTION and (wrong := list(forgotten(tree, known)))
    }
    assert found == {}


def test_what_is_passed_on_is_called_by_the_name_that_is_walked() -> None:
    known = statistics()
    for file, tree in trees():
        nodes = list(ast.walk(tree))
        imported = {
            one.name for node in nodes if isinstance(node, ast.ImportFrom) for one in node.names
        }
        calls = [node.func for node in nodes if isinstance(node, ast.Call)]
        called = {id(one) for one in calls}
        passed = {
            node.id
            for node in nodes
            if isinstance(node, ast.Name)
            and id(node) not in called
            and node.id in imported & known.keys()
            and node.id.islower()
        }
        # Called here, or handed to a function of another file that calls it by the same name.
        names = {*map(name_of, calls), *(one.id for one in nodes if isinstance(one, ast.Name))}
        assert not passed or PASSED_ON in names, f"{file} passes {passed} on"


@pytest.mark.parametrize(
    ("call", "wrong"),
    [
        ("auroc(x, y)", 2),
        ("auroc(x, y, member_clusters=a)", 1),
        ("auroc(x, y, member_clusters=None, nonmember_clusters=None)", 2),
        ("statistics.auroc(x, y, level=0.9)", 2),
        ("auroc(x, y, member_clusters=a, nonmember_clusters=b)", 0),
        ("auroc(x, y).value", 0),
        ("auroc(x, y).lower", 2),
        ("rank_statistics(x, y, a, b)", 0),
        ("rank_statistics(x, y)", 2),
        ("ratio_interval(sums, counts, ids)", 0),
        ("TaughtRecords(values, teacher)", 1),
    ],
)
def test_the_walk_sees_what_is_left_out(call: str, wrong: int) -> None:
    assert len(list(forgotten(ast.parse(call), statistics()))) == wrong

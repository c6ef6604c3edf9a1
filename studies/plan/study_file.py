"""The study file: its schema, read and checked before anything runs.

```yaml
name: quickstart              # folder runs/quickstart; letters, digits, - and _
title: What the page is called
description: One paragraph for the page.
data: builtin                 # a fragment, or {fragment: builtin, overrides: {data.source: FILE}}
families:                     # a fragment, or {teacher: gpt2-tiny, sizes: [gpt2-tiny]}
  - gpt2-tiny
techniques:                   # a fragment, or {fragment: kd, label: kd-hot, start: init,
                              #                 fragments: [../presets/as_released/kd.yaml],
                              #                 overrides: {model.kd_loss.beta: 0.1}}
  - kd
controls: [control, counterfactual]
replicates: [1]               # each a fresh split, teacher seed and student seed
repeats: 1                    # teachers and students of fresh seeds on the split of each replicate
shared_never: false           # the records that no run trains on are the same in all replicates
shadows: 0                    # teachers and students of other coin tosses, for rmia and lira
seeds: [0]                    # student seeds within a replicate; 0 shares the replicate's number
audits: [membership, utility]
trainer: [cpu]
overrides: {}                 # options of every cell
stages:                       # settings of a built-in stage, or a stage of one's own (with a role)
  teacher:
    overrides: {trainer.max_epochs: 20}
threads_per_cell: 1
```

A fragment `x` is `configs/<kind>/x.yaml`; one that holds `/` or ends in `.yaml` is a path, from the
study file's folder or from the working folder. `configs/recipes/<technique or stage>/<family>.yaml`
is added where there is one; a technique's own `fragments` come after it. A stage's `needs` names,
for an option, the stage whose output it is given, or a list of stages: `needs: {model.teacher:
[teacher, teacher_2]}` distils an ensemble.

An entry of `techniques` with `objectives` and `sources` is their product: the technique of its
fragment with each objective on each response source, named `<objective>+<source>`, and all else
equal. `{fragment: kd, start: init, objectives: [forward_kl, jsd], sources: [dataset, student]}` is
four techniques. Their fragments are `configs/objectives/x.yaml` and `configs/sources/x.yaml`; one
with options of its own is `{fragment: jsd, label: jsd-skewed, overrides: {model.kd_loss.beta:
0.1}}`.

`replicates` is what claims about techniques need: everything is fresh in each. `repeats: k` trains
k teachers and all that follows from each on the *same* split, with fresh seeds: what the
decomposition record by record needs, which asks three models or more of each record. Repeats of a
replicate are averaged before anything is said about techniques. They share its shadow worlds.

`shadows: k` adds, for every teacher and student of the study, k more whose teachers met the pool
by other coins: references of the attacks `rmia` and `lira`, named `shadow0`, `shadow1`, ..., which
are not audited themselves. An audit of one stage alone is a fragment of that stage.

`start` says which weights a technique's students begin with: `network` those of their family's
fragment, `init` those of a student that was fine-tuned on the public split, `teacher` those of the
very cell that teaches them, from which `model.network.depth_stride` keeps every n-th block (the
counterfactual student starts from the counterfactual teacher). Weights that are copied from a
teacher are a channel of their own for its private data, beside what distillation passes on: compare
such students with each other, not with those of another start.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from common.errors import UserError
from common.located_yaml import Key, load_located
from studies.plan.checked_yaml import CheckedYaml
from studies.plan.stage_section import CONTROLS, read_stages
from studies.plan.stages import Stage
from studies.plan.technique_section import Technique, read_techniques

__all__ = ["Family", "StudyFile", "read_study"]

_STUDY_KEYS = (
    "name title description data families techniques controls replicates repeats shared_never "
    "seeds shadows audits trainer overrides stages threads_per_cell"
).split()


@dataclass(frozen=True)
class Family:
    """Fragment of the teacher and of each student size; names are the fragments' stems."""

    teacher: Path
    sizes: tuple[Path, ...]


@dataclass(frozen=True)
class StudyFile:
    """A checked study file; fragments are paths of files that exist."""

    path: Path
    configs: Path
    name: str
    title: str
    description: str
    data: Path
    families: tuple[Family, ...]
    techniques: tuple[Technique, ...]
    replicates: tuple[int, ...]
    repeats: int
    shared_never: bool
    seeds: tuple[int, ...]
    shadows: int
    audits: tuple[Path, ...]
    trainer: tuple[Path, ...]
    overrides: Mapping[str, object]
    stages: Mapping[str, Stage]
    base_fragments: Mapping[str, Path]
    stage_fragments: Mapping[str, tuple[Path, ...]]
    threads_per_cell: int


def read_study(path: str | Path) -> StudyFile:
    """Reads and checks a study file.

    Raises:
        UserError: Names file, line and key of an unknown key, a wrong type, a missing fragment, an
            unknown stage, or a cycle of needs.
    """
    source = load_located(Path(path))
    check = CheckedYaml(source, _configs_folder(source.path))
    top = check.mapping((), source.data, _STUDY_KEYS)
    for required in ("name", "data", "families"):
        if required not in top:
            raise source.error((), f"the key {required!r} is missing")
    data, data_overrides = _data(check, top["data"])
    techniques = read_techniques(check, top.get("techniques", []))
    controls = check.items(("controls",), top.get("controls", list(CONTROLS)))
    shadows = check.integer(("shadows",), top.get("shadows", 0), least=0)
    stages = read_stages(
        check,
        top.get("stages", {}),
        [check.choice(("controls", i), item, CONTROLS) for i, item in enumerate(controls)],
        students=bool(techniques),
        starts={technique.start for technique in techniques},
        shadows=shadows,
    )
    return StudyFile(
        path=source.path,
        configs=check.configs,
        name=check.name(("name",), top["name"]),
        title=check.text(("title",), top.get("title", top["name"])),
        description=check.text(("description",), top.get("description", "")),
        data=data,
        families=_families(check, top["families"]),
        techniques=techniques,
        replicates=check.integers(("replicates",), top.get("replicates", [1]), least=1),
        repeats=check.integer(("repeats",), top.get("repeats", 1), least=1),
        shared_never=check.boolean(("shared_never",), top.get("shared_never", False)),
        seeds=check.integers(("seeds",), top.get("seeds", [0]), least=0),
        shadows=shadows,
        audits=check.fragments(("audits",), top.get("audits", []), "audits"),
        trainer=check.fragments(("trainer",), top.get("trainer", []), "trainers"),
        overrides=check.options(("overrides",), top.get("overrides", {})) | data_overrides,
        stages=stages,
        base_fragments={
            name: check.fragment(("stages", name, "base"), stage.base, "base")
            for name, stage in stages.items()
        },
        stage_fragments={
            name: check.fragments(("stages", name, "fragments"), list(stage.fragments), "recipes")
            for name, stage in stages.items()
        },
        threads_per_cell=check.integer(
            ("threads_per_cell",), top.get("threads_per_cell", 1), least=1
        ),
    )


def _configs_folder(study: Path) -> Path:
    """Returns the `configs` above the study file, in the working folder, or of this project."""
    above = [parent for parent in study.resolve().parents if parent.name == "configs"]
    project = Path(__file__).resolve().parents[2] / "configs"
    for folder in (*above, Path("configs"), project):
        if folder.is_dir():
            return _short(folder)
    raise UserError(f"{study}: no folder `configs` above it or in {Path.cwd()}")


def _short(path: Path) -> Path:
    """Returns the path as one would type it from the working folder."""
    here = Path.cwd()
    return path.resolve().relative_to(here) if path.resolve().is_relative_to(here) else path


def _data(check: CheckedYaml, value: object) -> tuple[Path, dict[str, object]]:
    if isinstance(value, str):
        return check.fragment(("data",), value, "data"), {}
    entry = check.mapping(("data",), value, ("fragment", "overrides"), required="fragment")
    return (
        check.fragment(("data", "fragment"), entry["fragment"], "data"),
        check.options(("data", "overrides"), entry.get("overrides", {})),
    )


def _families(check: CheckedYaml, value: object) -> tuple[Family, ...]:
    families = []
    for index, item in enumerate(check.items(("families",), value, least=1)):
        key: Key = ("families", index)
        if isinstance(item, str):
            fragment = check.fragment(key, item, "families")
            families.append(Family(fragment, (fragment,)))
            continue
        entry = check.mapping(key, item, ("teacher", "sizes"), required="teacher")
        sizes = check.items((*key, "sizes"), entry.get("sizes", [entry["teacher"]]), least=1)
        families.append(
            Family(
                check.fragment((*key, "teacher"), entry["teacher"], "families"),
                check.fragments((*key, "sizes"), sizes, "families"),
            )
        )
    return tuple(families)

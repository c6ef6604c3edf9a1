"""The study file: its schema, read and checked before anything runs.

```yaml
name: quickstart              # folder runs/quickstart; letters, digits, - and _
title: What the page is called
description: One paragraph for the page.
data: builtin                 # a fragment, or {fragment: builtin, overrides: {data.source: FILE}}
families:                     # a fragment, or {teacher: gpt2-tiny, sizes: [gpt2-tiny], start: init}
  - gpt2-tiny
techniques:                   # a fragment, or {fragment: kd, label: kd-hot, start: init,
                              #                 fragments: [../presets/as_released/kd.yaml],
                              #                 overrides: {model.kd_loss.beta: 0.1}}
  - kd
defences: []                  # a fragment, or {fragment: dp_teacher, label: dp-8, techniques: [kd],
                              #                 counterfactual: false, overrides: {...}}
undefended: true              # what defences change is there without any, too
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

`extends: other.yaml` lays the file over another one of its folder: mappings are merged, lists and
all else take the place of what stands there. Cells that both describe alike are the same cells.

A fragment `x` is `configs/<kind>/x.yaml`; one that holds `/` or ends in `.yaml` is a path, from the
study file's folder or from the working folder. `configs/recipes/<technique or stage>/<family>.yaml`
is added where there is one; the tiny and mini networks of all families are trained alike, by the
recipes of `gpt2-tiny` and `gpt2-mini`. A technique's own `fragments` come after it. A stage's
`needs` names, for an option, the stage whose output it is given, or a list of stages: `needs:
{model.teacher: [teacher, teacher_2]}` distils an ensemble.

An entry of `techniques` with `objectives` and `sources` is their product: the technique of its
fragment with each objective on each response source, named `<objective>+<source>`, and all else
equal. `{fragment: kd, start: init, objectives: [forward_kl, jsd], sources: [dataset, student]}` is
four techniques. Their fragments are `configs/objectives/x.yaml` and `configs/sources/x.yaml`; one
with options of its own is `{fragment: jsd, label: jsd-skewed, overrides: {model.kd_loss.beta:
0.1}}`.

A defence `x` is `configs/defences/x.yaml`, laid over everything else of all teachers (with their
counterfactuals and shadows), or of all students where it sets what only students have. Each has
cells of its own, of what it changes and of what is taught by that; `techniques` names those that it
is for, and `counterfactual: false` spares it those runs. A defended student is compared with the
counterfactual student of the same defence. `needs` gives its students other stages than their own:
the parts of an ensemble, say, which are stages of the role `reference`.

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
such students with each other, not with those of another start. A family's `start` is that of its
students whatever their techniques say: `init` heals a network that was cut out of a deeper one.
"""

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, StrictBool, StrictInt, StrictStr, model_validator

from common.fragments import find_fragment, packaged_fragments
from common.located_yaml import LocatedYaml, load_located
from studies.plan.defences import Defences
from studies.plan.schema import Folders, Name, Options, Section, distinct, fragment_of, mistake
from studies.plan.stage_section import read_stages
from studies.plan.stages import Stage
from studies.plan.techniques import Start, Techniques

_Family = Annotated[Path, fragment_of("families")]
_Control = Literal["control", "counterfactual"]


class Family(Section):
    """Fragment of the teacher and of each student size; names are the fragments' stems.

    Attributes:
        teacher: The teacher's.
        sizes: The students'.
        start: Which weights the students begin with; None leaves that to each technique.
    """

    short: ClassVar[str] = "teacher"
    teacher: _Family
    sizes: tuple[_Family, ...] = Field(min_length=1)
    start: Start | None = None

    @model_validator(mode="before")
    @classmethod
    def _of_one_size(cls, value: Any) -> Any:
        given = {"teacher": value} if isinstance(value, str) else value
        if isinstance(given, dict) and "teacher" in given:
            return {"sizes": [given["teacher"]], **given}
        return given


class _Data(Section):
    short: ClassVar[str] = "fragment"
    fragment: Annotated[Path, fragment_of("data")]
    overrides: Options = {}


class _Content(Section):
    """What a study file holds."""

    name: Name
    extends: StrictStr | None = None
    title: StrictStr = ""
    description: StrictStr = ""
    data: _Data
    families: tuple[Family, ...] = Field(min_length=1)
    techniques: Techniques = ()
    defences: Defences = ()
    undefended: StrictBool = True
    controls: tuple[_Control, ...] = ("control", "counterfactual")
    replicates: Annotated[
        tuple[Annotated[StrictInt, Field(ge=1)], ...], Field(min_length=1), AfterValidator(distinct)
    ] = (1,)
    repeats: Annotated[StrictInt, Field(ge=1)] = 1
    shared_never: StrictBool = False
    seeds: Annotated[
        tuple[Annotated[StrictInt, Field(ge=0)], ...], Field(min_length=1), AfterValidator(distinct)
    ] = (0,)
    shadows: Annotated[StrictInt, Field(ge=0)] = 0
    audits: tuple[Annotated[Path, fragment_of("audits")], ...] = ()
    trainer: tuple[Annotated[Path, fragment_of("trainers")], ...] = ()
    overrides: Options = {}
    stages: dict[Name, Any] = {}
    threads_per_cell: Annotated[StrictInt, Field(ge=1)] = 1

    @model_validator(mode="after")
    def _defences_are_for_its_techniques(self) -> Self:
        known = [str(technique.label) for technique in self.techniques]
        for index, defence in enumerate(self.defences):
            for label in defence.techniques or ():
                if label not in known:
                    message = f"no technique {label!r}; this study has {', '.join(known)}"
                    raise mistake(message, "defences", index, "techniques")
        return self


class StudyFile(_Content):
    """A checked study file; fragments are paths of files that exist."""

    path: Path
    configs: Path
    stages: dict[str, Stage]


def load_study(path: Path, extending: tuple[Path, ...] = ()) -> LocatedYaml:
    """Reads a study file's entries, laid over those of the file that it extends.

    Args:
        path: The file.
        extending: Files that extend it.

    Raises:
        UserError: As `load_located`; a file that is not there or extends itself.
    """
    own = load_located(path)
    name = own.data.get("extends") if isinstance(own.data, dict) else None
    if name is None:
        return own
    # Fragments that both name by a path lie where either looks for them.
    base = path.parent / Path(str(name)).name
    if base.name != str(name) or not base.is_file():
        raise own.error(("extends",), f"no such study file beside it: {name}")
    if base in (*extending, path):
        raise own.error(("extends",), f"{base} extends itself")
    return own.over(load_study(base, (*extending, path)))


def read_study(path: str | Path) -> StudyFile:
    """Reads and checks a study file, given by its path or, as ``studies/quickstart``, by its name.

    Raises:
        UserError: Names file, line and key of an unknown key, a wrong type, a missing fragment, an
            unknown stage, or a cycle of needs.
    """
    source = load_study(find_fragment(str(path)) or Path(path))
    folders = Folders(source.path.parent, _configs_folder(source.path))
    content = _Content.read(source, source.data, folders)
    stages = read_stages(
        source,
        content.stages,
        folders,
        controls=content.controls,
        starts={
            family.start or technique.start
            for family in content.families
            for technique in content.techniques
        },
        shadows=content.shadows,
    )
    for index, defence in enumerate(content.defences):
        for option, names in defence.needs.items():
            for name in names:
                if name not in stages or stages[name].model != "teacher":
                    known = ", ".join(one for one in stages if stages[one].model == "teacher")
                    message = f"no stage {name!r} of a teacher's network; there are {known}"
                    raise source.error(("defences", index, "needs", option), message)
    return StudyFile.model_construct(
        **{
            **dict(content),
            "title": content.title or content.name,
            "path": source.path,
            "configs": folders.configs,
            "stages": stages,
        }
    )


def _configs_folder(study: Path) -> Path:
    """Returns the `configs` above the study file, in the working folder, or of this project."""
    above = [parent for parent in study.resolve().parents if parent.name == "configs"]
    for folder in (*above, Path("configs")):
        if folder.is_dir():
            return _short(folder)
    return _short(packaged_fragments())


def _short(path: Path) -> Path:
    """Returns the path as one would type it from the working folder."""
    here = Path.cwd()
    return path.resolve().relative_to(here) if path.resolve().is_relative_to(here) else path

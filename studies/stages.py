"""The stages of a study: what each trains, what it needs, under which options it is given that.

Every name of a `kd-privacy` option that a study passes by itself stands here and nowhere else.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

__all__ = [
    "DEPTH_STRIDE_OPTION",
    "INIT_OPTION",
    "ROLES",
    "ROLE_OPTION",
    "RUN_DIR_OPTION",
    "RUN_NAME_OPTION",
    "SEED_OPTION",
    "SPLIT_SEED_OPTION",
    "STAGES",
    "TEACHER_OPTION",
    "TECHNIQUE_OPTION",
    "THREADS_OPTION",
    "Stage",
]

RUN_DIR_OPTION = "run_dir"
RUN_NAME_OPTION = "run.name"
ROLE_OPTION = "run.role"
TECHNIQUE_OPTION = "run.technique"
SEED_OPTION = "seed_everything"
SPLIT_SEED_OPTION = "data.splits.seed"
THREADS_OPTION = "threads"
TEACHER_OPTION = "model.teacher"
INIT_OPTION = "model.network.source"
DEPTH_STRIDE_OPTION = "model.network.depth_stride"

ROLES = (
    "base",
    "teacher",
    "counterfactual_teacher",
    "init",
    "control",
    "counterfactual",
    "student",
    "reference",
)


@dataclass(frozen=True)
class Stage:
    """One kind of cell.

    Attributes:
        name: Name in study files and aliases.
        role: `run.role` of its cells.
        base: Base fragment (`configs/base/<base>.yaml`).
        model: Which of the family's fragments builds it: the teacher's, or one per student size.
        per_technique: One cell for each technique of the study, with the technique's fragment.
        needs: Option -> names of the stages whose `output` folders it is given.
        recipe: Folder in `configs/recipes` of a stage without technique; its own name if empty.
        fragments: More fragments, after the recipe.
        overrides: Options, after every fragment.
        output: Folder in the run that later stages use.
    """

    name: str
    role: str
    base: str
    model: Literal["teacher", "student"] = "student"
    per_technique: bool = False
    needs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    recipe: str = ""
    fragments: tuple[str, ...] = ()
    overrides: Mapping[str, object] = field(default_factory=dict)
    output: str = "export"


STAGES: dict[str, Stage] = {
    stage.name: stage
    for stage in (
        Stage("teacher", "teacher", "teacher", model="teacher"),
        Stage(
            "counterfactual_teacher",
            "counterfactual_teacher",
            "counterfactual_teacher",
            model="teacher",
            recipe="teacher",
        ),
        Stage("init", "init", "init"),
        Stage("control", "control", "control"),
        Stage(
            "student",
            "student",
            "student",
            per_technique=True,
            needs={TEACHER_OPTION: ("teacher",)},
        ),
        Stage(
            "counterfactual",
            "counterfactual",
            "student",
            per_technique=True,
            needs={TEACHER_OPTION: ("counterfactual_teacher",)},
        ),
    )
}

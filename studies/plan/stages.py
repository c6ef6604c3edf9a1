"""The stages of a study: what each trains, what it needs, under which options it is given that.

Every name of a `kd-privacy` option that a study passes by itself stands here and nowhere else.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from common.roles import Role

RUN_DIR_OPTION = "run_dir"
RUN_NAME_OPTION = "run.name"
ROLE_OPTION = "run.role"
TECHNIQUE_OPTION = "run.technique"
SEED_OPTION = "seed_everything"
SPLIT_SEED_OPTION = "data.splits.seed"
NEVER_SEED_OPTION = "data.splits.never_seed"
PROTOCOL_OPTION = "data.splits.protocol"
THREADS_OPTION = "threads"
TEACHER_OPTION = "model.teacher"
INIT_OPTION = "model.network.source"
PSEUDONYMISE_OPTION = "data.pseudonymise"
SHADOW_OPTION = "data.splits.shadow"
REFERENCES_OPTION = "references.models"
DEPTH_STRIDE_OPTION = "model.network.depth_stride"
OF_ONE_CELL = (
    *(RUN_DIR_OPTION, RUN_NAME_OPTION, ROLE_OPTION, TECHNIQUE_OPTION),
    *(SEED_OPTION, SPLIT_SEED_OPTION, SHADOW_OPTION),
)
"""Options that a study gives each cell by itself: their values differ and are of one type."""


@dataclass(frozen=True)
class Stage:
    """One kind of cell.

    Attributes:
        name: Name in study files and aliases.
        role: `run.role` of its cells.
        base: Base fragment: its path in a study that was read, its name in this list.
        model: Which of the family's fragments builds it: the teacher's, or one per student size.
        per_technique: One cell for each technique of the study, with the technique's fragment.
        needs: Option -> names of the stages whose `output` folders it is given.
        recipe: Folder in `configs/recipes` of a stage without technique; its own name if empty.
        fragments: More fragments, after the audits: what they say of an audit wins.
        overrides: Options, after every fragment.
        output: Folder in the run that later stages use.
        shadow: One cell for each shadow world, in which the coins of the pool are thrown anew.
        judged_by: Stage whose cells, one of each shadow world, are references of this stage's
            audits, as `shadow0`, `shadow1`, ...; none if empty.
        audited: Whether the study's audits run on its cells.
    """

    name: str
    role: Role
    base: str | Path
    model: Literal["teacher", "student"] = "student"
    per_technique: bool = False
    needs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    recipe: str = ""
    fragments: tuple[Path, ...] = ()
    overrides: Mapping[str, object] = field(default_factory=dict)
    output: str = "export"
    shadow: bool = False
    judged_by: str = ""
    audited: bool = True


STAGES: dict[str, Stage] = {
    stage.name: stage
    for stage in (
        Stage(
            "shadow_teacher",
            Role.reference,
            "teacher",
            model="teacher",
            recipe="teacher",
            shadow=True,
            audited=False,
        ),
        Stage("teacher", Role.teacher, "teacher", model="teacher", judged_by="shadow_teacher"),
        Stage("control", Role.control, "control"),
        Stage("init", Role.init, "init"),
        Stage(
            "shadow",
            Role.reference,
            "student",
            per_technique=True,
            needs={TEACHER_OPTION: ("shadow_teacher",)},
            shadow=True,
            audited=False,
        ),
        Stage(
            "student",
            Role.student,
            "student",
            per_technique=True,
            needs={TEACHER_OPTION: ("teacher",)},
            judged_by="shadow",
        ),
        Stage(
            "counterfactual_teacher",
            Role.counterfactual_teacher,
            "counterfactual_teacher",
            model="teacher",
            recipe="teacher",
            judged_by="shadow_teacher",
        ),
        Stage(
            "counterfactual",
            Role.counterfactual,
            "student",
            per_technique=True,
            needs={TEACHER_OPTION: ("counterfactual_teacher",)},
            judged_by="shadow",
        ),
    )
}
"""In the order in which a study runs them: what leaks, and the control, before the worlds that say
where it came from. A stage that another needs comes earlier still, where it is needed.
"""

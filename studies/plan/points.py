"""The coordinates of a study's cells in its matrix, and what a cell is called."""

from dataclasses import dataclass
from itertools import product
from pathlib import Path

from studies.plan.defences import Defence, undefended_and
from studies.plan.stages import Stage
from studies.plan.study_file import Family, StudyFile
from studies.plan.techniques import Start, Technique


@dataclass(frozen=True)
class Point:
    """Coordinates of a cell in the matrix; what a stage does not vary is None."""

    stage: Stage
    family: Family
    replicate: int
    repeat: int
    size: Path | None = None
    technique: Technique | None = None
    student_seed: int | None = None
    world: int | None = None
    defence: Defence | None = None

    @property
    def fragment(self) -> Path:
        """The family's fragment of its own network."""
        return self.size or self.family.teacher

    @property
    def start(self) -> Start | None:
        """Which weights a technique's student begins with; None of what no technique trains."""
        return (self.family.start or self.technique.start) if self.technique else None

    @property
    def wanted(self) -> bool:
        """Whether its defence is for its technique."""
        if self.defence is None or self.technique is None or self.defence.techniques is None:
            return True
        return self.technique.label in self.defence.techniques

    @property
    def draw(self) -> tuple[int, int, int, int]:
        """Replicate, student seed, repeat, world: runs that differ in one are independent."""
        world = 0 if self.world is None else self.world + 1
        return self.replicate, self.student_seed or 0, self.repeat, world


def points_of(
    study: StudyFile, stage: Stage, family: Family, replicate: int, repeat: int
) -> list[Point]:
    """Returns a stage's points on one of a family's and replicate's repeats."""
    student = stage.model == "student"
    starts = {family.start or technique.start for technique in study.techniques}
    if stage.name == "init" and "init" not in starts:
        return []
    defences = undefended_and(study.defences, stage, study.stages, undefended=study.undefended)
    points = (
        Point(stage, family, replicate, repeat, *varied)
        for varied in product(
            family.sizes if student else [None],
            study.techniques if stage.per_technique else [None],
            study.seeds if student else [None],
            range(study.shadows) if stage.shadow else [None],
            list(defences),
        )
    )
    return [point for point in points if point.wanted]


def alias_of(study: StudyFile, point: Point) -> str:
    """Returns the readable name of a point's cell, unique in the study."""
    label = point.technique.label if point.technique else None
    defence = f"under_{point.defence.name}" if point.defence else None
    parts = [point.stage.name, label, defence, point.fragment.stem.replace("-", "_")]
    teachers = [family for family in study.families if point.size in family.sizes]
    if len(teachers) > 1:
        parts.append(f"of_{point.family.teacher.stem}".replace("-", "_"))
    parts.append(f"r{point.replicate}")
    if point.student_seed is not None and study.seeds != (0,):
        parts.append(f"s{point.student_seed}")
    if point.repeat > 1:
        parts.append(f"repeat{point.repeat}")
    if point.world is not None:
        parts.append(f"w{point.world}")
    return "-".join(part for part in parts if part)

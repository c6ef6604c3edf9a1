"""What a run's training guarantees: its own file, or what its teacher or its source has."""

from pathlib import Path

from audits.guarantee import Channel
from callbacks.run import RunContext, run_folder, run_identity
from common.guarantee import Guarantee, of_source, of_teachers, read, write
from common.roles import COUNTERFACTUAL_ROLES
from kdmodules.external import ExternalModule
from kdmodules.privacy.disjoint_parts import doubts_about_public, doubts_about_split, of_one_run
from kdmodules.responses import TeacherResponses
from kdmodules.student import StudentModule


def inherit_guarantee(context: RunContext) -> None:
    """Writes a student's guarantee, which is its teacher's, into its own folder.

    It is void where the student may have met private records past its teacher: in the weights that
    it starts from, or as public records of a split that its teacher's is not.
    """
    module = context.module
    if context.trainer.is_global_zero and isinstance(module, StudentModule):
        found = of_teachers(module.teachers.sources)
        if found is not None:
            folder = run_folder(context.trainer)
            write(folder, found.voided(*_ways_past(module, folder)) if found.holds else found)


def _ways_past(module: StudentModule, folder: Path) -> tuple[str, ...]:
    teachers = module.teachers.sources
    found = doubts_about_split(str(folder), teachers)
    for start in (module.network.source, module.network.adapter_base):
        if start is not None and not any(of_one_run(start, teacher) for teacher in teachers):
            found += doubts_about_public("the student's start", start, teachers)
    return found


def run_guarantee(context: RunContext) -> Guarantee | None:
    """Returns what is guaranteed of the run's model: by its own folder, or by that of a model which
    was trained elsewhere."""
    module = context.module
    found = read(run_folder(context.trainer))
    if found is None and isinstance(module, ExternalModule):
        return of_source(module.source)
    return found


def audited_guarantee(context: RunContext) -> Guarantee | None:
    """Returns what is guaranteed of the records that audits call members.

    None behind a counterfactual model, whose training read the others.
    """
    swapped = run_identity(context.trainer).role in COUNTERFACTUAL_ROLES
    return None if swapped else run_guarantee(context)


def channel_of(context: RunContext) -> Channel | None:
    """Returns what a student reads of its teacher; None for what is no student.

    Text alone is read where no objective weighs the teacher's distribution, on responses or plain
    text, and the source samples once. Its draws are secret where nobody can repeat them; at another
    temperature than 1 it is not the text that `audits.text_bound` bounds.
    """
    module = context.module
    if not isinstance(module, StudentModule):
        return None
    weighed = module.reduction.kd_ratio > 0 or (module.lm_coef > 0 and module.text_kd_ratio > 0)
    source = module.responses
    if weighed or not source.prepares_with_teachers:
        return Channel.log_probabilities
    if not isinstance(source, TeacherResponses) or source.sampling.temperature != 1.0:
        return Channel.text
    return Channel.secret_text if source.secret_draws else Channel.text

"""audit.json of a run: what its tables answer, and what was tested."""

import json

from audits.answer.machine import FILE_NAME, audit_json
from audits.answer.one_run import last_rows, run_answer
from audits.answer.tested import SIDES, described_run, record_sets, weights_identity
from callbacks.run import RunContext, reference_models, run_folder
from common.atomic_file import replacing
from datamodules import ExternalDataModule, InstructionDataModule


def write_answer(context: RunContext) -> None:
    """Writes a run's audit.json beside its merged tables; nothing where no audit ran.

    Work for all ranks, since weights are hashed; the first one writes.
    """
    weights = weights_identity(context.module.language_model)
    if not context.trainer.is_global_zero:
        return
    folder, data = run_folder(context.trainer), context.data
    answer = run_answer(folder)
    if answer is None:
        return
    tested = described_run(
        context.identity,
        context.module.language_model,
        data.encoder,
        record_sets(data, _sources(context)),
        weights,
        source=getattr(context.module, "source", context.module.network.source),
        coins=data.dealt_by_coins(data.member_population),
        references=reference_models(context.trainer).models,
    )
    content = audit_json(answer, last_rows(folder), [tested])
    with replacing(folder / FILE_NAME) as file:
        file.write(json.dumps(content, indent=1, allow_nan=False).encode("utf-8"))


def _sources(context: RunContext) -> dict[str, str]:
    """Returns where the records of each side are from, as far as a data module says it."""
    data = context.data
    if isinstance(data, InstructionDataModule):
        return dict.fromkeys(SIDES, data.source)
    given = data.sources if isinstance(data, ExternalDataModule) else ()
    return dict(zip(SIDES, given, strict=False))

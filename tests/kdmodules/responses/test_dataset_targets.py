"""ImitKD's targets: the data set's own words on its rows, the teacher's argmax on the student's."""

from dataclasses import replace

import pytest
import torch

from common.errors import UserError
from datamodules.batches import InstructionBatch
from kdmodules.losses import DatasetTargets, ForwardKL, KDStep, Reduction, TeacherTopK
from kdmodules.responses import MixedResponses
from kdmodules.sampling.sampler import SamplingSettings
from tests.kdmodules.responses.conftest import batch_of, random_records


def step_of(origin: torch.Tensor, **options: object) -> KDStep:
    draw = torch.Generator().manual_seed(0)
    hidden, taught = (torch.randn(9, 6, generator=draw, dtype=torch.float64) for _ in range(2))
    weight, teacher = (torch.randn(20, 6, generator=draw, dtype=torch.float64) for _ in range(2))
    return KDStep(
        student_hidden=hidden.requires_grad_(),
        student_weight=weight.requires_grad_(),
        targets=torch.randint(20, (9,), generator=draw),
        teachers=((taught, teacher),),
        extras={"from_dataset": origin},
        reduction=Reduction(**options),
    )


@pytest.mark.parametrize("chunk_tokens", [None, 4])
def test_each_row_has_the_targets_of_the_papers_code(chunk_tokens: int | None) -> None:
    origin = torch.tensor([1.0, 0, 0, 1, 1, 0, 0, 0, 1])
    step = step_of(origin, chunk_tokens=chunk_tokens)
    sums = DatasetTargets(TeacherTopK(ForwardKL(), 1))(step)
    sums.total.backward()
    # As that code does it: one table of target words, then an ordinary cross-entropy.
    hidden, weight = (t.detach().clone() for t in (step.student_hidden, step.student_weight))
    (taught, teacher), words = step.teachers[0], step.targets.clone()
    argmax = (taught @ teacher.T).argmax(-1)
    words[origin == 0] = argmax[origin == 0]
    assert (words != argmax).any()
    nats = torch.nn.functional.cross_entropy(
        hidden.requires_grad_() @ weight.requires_grad_().T, words, reduction="none"
    )
    nats.sum().backward()
    torch.testing.assert_close(sums.total, nats.sum())
    torch.testing.assert_close(sums.terms["kd"], nats[origin == 0].sum().detach())
    torch.testing.assert_close(
        sums.terms["dataset_cross_entropy"], nats[origin == 1].sum().detach()
    )
    torch.testing.assert_close(step.student_hidden.grad, hidden.grad)
    torch.testing.assert_close(step.student_weight.grad, weight.grad)


def test_rows_of_student_text_alone_are_the_wrapped_objective() -> None:
    step = step_of(torch.zeros(9))
    wrapped = TeacherTopK(ForwardKL(), 1)
    torch.testing.assert_close(DatasetTargets(wrapped)(step).total, wrapped(step).total)


def test_what_it_needs_is_asked_for() -> None:
    objective = DatasetTargets(ForwardKL())
    with pytest.raises(UserError, match="must be MixedResponses"):
        objective(replace(step_of(torch.zeros(9)), extras={}))
    with pytest.raises(UserError, match="temperature 1"):
        objective(step_of(torch.zeros(9), temperature=2.0))
    assert set(objective.required_extras) <= set(MixedResponses.extras)


@pytest.mark.parametrize("coin", ["record", "batch"])
def test_the_source_says_whose_text_each_row_is(make_context, coin: str) -> None:
    records = random_records(16)
    source = MixedResponses(0.5, coin=coin, sampling=SamplingSettings(max_new_tokens=4))
    own = {record.record_id: record.response_ids for record in records}
    seen = set()
    for step in range(8):
        found: InstructionBatch = source.replace(
            batch_of(records), make_context(records, step=step)
        )
        for row, name in enumerate(found.record_ids):
            text = tuple(found.input_ids[row][found.response_mask[row]].tolist())
            from_dataset = bool(found.extras["from_dataset"][row])
            assert from_dataset == (text == own[name])
            seen.add(from_dataset)
    assert seen == {True, False}

"""Rounds of rollouts: their prompts, their advantages by a naive loop, their place in a step."""

import io
import math
from collections import Counter
from dataclasses import replace

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from common.errors import UserError
from datamodules.batches import EncodedRecord
from kdmodules.losses import KDStep, PolicyGradient
from kdmodules.responses import ResponseContext, TeacherMixedRollouts
from kdmodules.responses.rollouts import Rollout
from kdmodules.sampling.mixture_sampling import MixtureSettings
from tests.kdmodules.responses.conftest import MakeContext, batch_of, random_records, tiny

MIXTURE = MixtureSettings(teacher_share=0.2, max_new_tokens=10)
LOADER = batch_of([EncodedRecord("loader", "open_qa", (3, 4), (5, 0), False, False)])


def rollouts(**options) -> TeacherMixedRollouts:
    return TeacherMixedRollouts(MIXTURE, rollouts=8, inner_epochs=2, **options)


def token_logp(model: torch.nn.Module, record: EncodedRecord) -> list[float]:
    ids = torch.tensor([record.prompt_ids + record.response_ids])
    with torch.no_grad():
        logp = model(ids).logits[0].double().log_softmax(-1)
    start = len(record.prompt_ids)
    return [logp[start + t - 1, token].item() for t, token in enumerate(record.response_ids)]


def teacher_logp(context: ResponseContext, record: EncodedRecord) -> list[float]:
    """Log of the teachers' mean probability of each token."""
    each = [token_logp(teacher.model, record) for teacher in context.teachers]
    return [math.log(sum(map(math.exp, at)) / len(each)) for at in zip(*each, strict=True)]


def naive_advantages(
    found: list[Rollout], context: ResponseContext, released: bool
) -> list[list[float]]:
    """Rewards, returns and whitening in Python floats, rollout by rollout, token by token."""
    returns = []
    for rollout in found:
        q = token_logp(context.student.model, rollout.record)
        p = teacher_logp(context, rollout.record)
        reward = [max(-100.0, min(100.0, (b - a) / 0.5)) for a, b in zip(q, p, strict=True)]
        row = []
        for t in range(len(reward)):
            after = reward[t:] if released else reward[t + 1 :]
            discount = 0.95 if released else 1.0
            total = sum(discount**k * value for k, value in enumerate(after))
            row.append(total / max(len(after), 1))
        returns.append(row)
    flat = [value for row in returns for value in row]
    mean = sum(flat) / len(flat)
    variance = sum((value - mean) ** 2 for value in flat) / len(flat)
    return [[(value - mean) / math.sqrt(variance + 1e-8) for value in row] for row in returns]


@pytest.mark.parametrize("released", [False, True])
@pytest.mark.parametrize("seeds", [(2,), (2, 3, 4)])
def test_advantages_are_those_of_a_naive_loop(
    make_context: MakeContext,
    tokenizer: PreTrainedTokenizerFast,
    seeds: tuple[int, ...],
    released: bool,
) -> None:
    records = random_records(11)
    context = make_context(records, teachers=tuple(tiny(tokenizer, seed) for seed in seeds))
    source = rollouts(as_released=released)
    source.prepare(context)
    source.replace(LOADER, context)
    assert len(source.current) == 8
    expected = naive_advantages(source.current, context, released)
    for rollout, advantages in zip(source.current, expected, strict=True):
        assert rollout.advantages.tolist() == pytest.approx(advantages, abs=2e-4)
        q = token_logp(context.student.model, rollout.record)
        p = teacher_logp(context, rollout.record)
        weights = [
            math.exp(a) / (0.8 * math.exp(a) + 0.2 * math.exp(b)) for a, b in zip(q, p, strict=True)
        ]
        assert rollout.old_logp.tolist() == pytest.approx(q, abs=1e-4)
        assert rollout.mixture_weight.tolist() == pytest.approx(weights, abs=1e-4)


def released_advantages(returns: list[list[float]], width: int) -> list[list[float]]:
    """A micro-batch as the authors' code whitens it: every row padded to the window's end by zeros,
    and each cell of the table counts.
    """
    table = [row + [0.0] * (width - len(row)) for row in returns]
    cells = [value for row in table for value in row]
    mean = sum(cells) / len(cells)
    variance = sum((value - mean) ** 2 for value in cells) / len(cells)
    return [[(value - mean) / math.sqrt(variance + 1e-8) for value in row] for row in returns]


def test_whitening_by_micro_batch_counts_the_padding_of_all_ranks(
    make_context: MakeContext,
) -> None:
    draw = torch.Generator().manual_seed(0)
    raw, round_ = {}, []
    for index, length in enumerate((1, 2, 3, 2, 4, 10, 1, 3)):
        # Nothing that the student says is likelier to the teacher: mean returns are negative.
        returns = torch.randn(length, generator=draw) - 1.5
        record = EncodedRecord(f"r{index}", "open_qa", (3, 4), (5,) * length, False, False)
        raw[record.record_id] = returns.tolist()
        round_.append(Rollout(record, torch.zeros(length), torch.ones(length), returns))
    flat = torch.cat([one.advantages for one in round_])
    by_round = [(value - flat.mean()) / flat.std() for value in flat.tolist()]
    source = rollouts(as_released=True, whitening="micro_batch")
    source.round, source.current = 0, round_
    signs = {}
    for micro_batch in range(2):
        context = make_context([], accumulate=2, micro_batch=micro_batch, global_batch=8)
        found = {}
        for rank in range(2):
            batch = source.replace(LOADER, replace(context, rank=rank, world_size=2))
            for row, name in enumerate(batch.record_ids):
                found[name] = batch.extras["advantages"][row][batch.response_mask[row]].tolist()
        assert len(found) == 4
        expected = released_advantages([raw[name] for name in found], MIXTURE.max_new_tokens)
        for (name, advantages), values in zip(found.items(), expected, strict=True):
            assert advantages == pytest.approx(values, abs=1e-5)
            signs[name] = values
    released = [value for index in range(8) for value in signs[f"r{index}"]]
    assert sum(released) / len(released) < -0.5
    assert sum(a * b < 0 for a, b in zip(released, by_round, strict=True)) > len(released) / 4


def test_extras_lie_on_their_tokens(make_context: MakeContext) -> None:
    context = make_context(random_records(8))
    source = rollouts()
    batch = source.replace(LOADER, context)
    by_prompt = {rollout.record.record_id: rollout for rollout in source.current}
    for row, name in enumerate(batch.record_ids):
        mask, rollout = batch.response_mask[row], by_prompt[name]
        assert tuple(batch.input_ids[row][mask].tolist()) == rollout.record.response_ids
        for extra in ("old_logp", "mixture_weight", "advantages"):
            assert batch.extras[extra].shape == batch.input_ids.shape
            assert torch.equal(batch.extras[extra][row][mask], getattr(rollout, extra))
            assert not batch.extras[extra][row][~mask].any()


def test_a_round_is_trained_on_once_per_inner_epoch(make_context: MakeContext) -> None:
    records = random_records(24)
    source = rollouts()
    epochs: list[Counter] = []
    orders = []
    # 8 rollouts in batches of 4, twice, are 4 steps; two ranks and two micro-batches each.
    for step in range(8):
        names: list[str] = []
        for micro_batch in range(2):
            for rank in range(2):
                context = make_context(records, step=step, accumulate=2, micro_batch=micro_batch)
                # A round is sampled with one rank here: sampling on two needs two processes.
                source.replace(LOADER, context)
                found = source.replace(LOADER, replace(context, rank=rank, world_size=2))
                names += found.record_ids
        assert len(names) == len(set(names)) == 4
        if step % 2 == 0:
            epochs.append(Counter())
        epochs[-1].update(names)
        orders.append(names)
    assert all(set(epoch.values()) == {1} and len(epoch) == 8 for epoch in epochs)
    assert epochs[0] == epochs[1] != epochs[2] == epochs[3]
    assert orders[0] + orders[1] != orders[2] + orders[3]


def test_prompts_are_the_records_each_once_per_pass(make_context: MakeContext) -> None:
    records = random_records(6)
    context = make_context(records)
    source = rollouts()
    seen = [
        record.record_id
        for number in range(3)
        for part in source.prompts(number, context).values()
        for record in part
    ]
    assert len(seen) == 24
    for start in range(0, 24, 6):
        assert sorted(seen[start : start + 6]) == [f"r{i}" for i in range(6)]
    # A prompt that comes twice in a round is answered twice, differently.
    source.replace(LOADER, context)
    texts = Counter((r.record.record_id, r.record.response_ids) for r in source.current)
    assert max(Counter(name for name, _ in texts).values()) == 2
    assert set(texts.values()) == {1}
    assert "loader" not in {name for name, _ in texts}


def test_state_continues_identically(make_context: MakeContext) -> None:
    records = random_records(10)
    whole, first, second = rollouts(), rollouts(), rollouts()

    def run(source: TeacherMixedRollouts, steps: range) -> list:
        found = []
        for step in steps:
            batch = source.replace(LOADER, make_context(records, step=step))
            found.append((batch.record_ids, batch.input_ids.tolist(), batch.response_mask.tolist()))
            found.append([batch.extras[name].tolist() for name in sorted(batch.extras)])
            found.append(source.metrics())
            with torch.no_grad():
                # Rollouts cannot be sampled again: the student has moved on.
                make_context(records).student.model.get_output_embeddings().weight.mul_(1.01)
        return found

    student = make_context(records).student.model
    start = {name: value.clone() for name, value in student.state_dict().items()}
    expected = run(whole, range(9))
    student.load_state_dict(start)
    found = run(first, range(6))
    saved = io.BytesIO()
    torch.save(first.state_dict(), saved)
    saved.seek(0)
    second.load_state_dict(torch.load(saved, weights_only=True))
    assert found + run(second, range(6, 9)) == expected


def test_a_rank_without_rollouts_gets_a_filler(make_context: MakeContext) -> None:
    context = make_context(random_records(8), global_batch=1)
    source = TeacherMixedRollouts(MIXTURE, rollouts=2, inner_epochs=1)
    source.replace(LOADER, context)
    batch = source.replace(LOADER, replace(context, rank=1, world_size=2))
    assert batch.record_ids == [""]
    assert not batch.response_mask.any()
    assert set(batch.token_extras()) == {"old_logp", "mixture_weight", "advantages"}


def test_the_objective_takes_them(make_context: MakeContext) -> None:
    context = make_context(random_records(8))
    batch = rollouts().replace(LOADER, context)
    lm, teacher = context.student, context.teachers[0]
    sums = PolicyGradient()(
        KDStep(
            student_hidden=lm.hidden(batch),
            student_weight=lm.padded_head,
            targets=batch.targets(),
            teachers=((teacher.hidden(batch), teacher.padded_head),),
            extras=batch.token_extras(),
            vocabulary_size=lm.vocabulary_size,
        )
    )
    sums.total.backward()
    # Before any update rho is w: the surrogate is known without the model.
    extras = batch.token_extras()
    rho, advantages = extras["mixture_weight"].double(), extras["advantages"].double()
    expected = torch.maximum(-advantages * rho, -advantages * rho.clamp(0.8, 1.2)).sum()
    assert sums.terms["policy_gradient"].item() == pytest.approx(
        expected.item(), rel=1e-3, abs=1e-3
    )
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in lm.parameters())


def test_unusable_settings_are_refused(make_context: MakeContext) -> None:
    records = random_records(3)
    with pytest.raises(UserError, match="rollouts=8 is no multiple"):
        rollouts().prepare(make_context(records, global_batch=3))
    with pytest.raises(UserError, match="names no teacher"):
        rollouts().prepare(make_context(records, teachers=()))
    for name in ("rollouts", "inner_epochs", "sampling_batch_size", "reward_scaling"):
        with pytest.raises(UserError, match=name):
            TeacherMixedRollouts(**{name: 0})

"""A head's bias, soft cap, padding and half-precision weight, against autograd over all logits."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy as full_cross_entropy

from kdmodules.losses import ForwardKL, KDLoss, KDStep, Reduction, ReverseKL, TotalVariation
from kdmodules.models import head as heads
from kdmodules.models.head import Head, as_head
from kdmodules.sampling.likeliest import likeliest_tokens
from kdmodules.scoring import token_statistics

N, V, VALID = 23, 30, 27


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


def full_logits(hidden: Tensor, head: Head) -> Tensor:
    """All logits of the valid tokens in float64, written out."""
    logits = hidden.double()[:, :VALID] if head.weight is None else None
    if logits is None:
        logits = hidden.double() @ head.weight.double()[:VALID].T
    if head.bias is not None:
        logits = logits + head.bias.double()[:VALID]
    return logits if head.soft_cap is None else head.soft_cap * (logits / head.soft_cap).tanh()


HEADS = {
    "plain": Head(normal(1, V, 8)),
    "bias": Head(normal(1, V, 8), normal(2, V)),
    "soft cap": Head(normal(1, V, 8), None, 2.0),
    "all": Head(normal(1, V, 8), normal(2, V), 2.0),
    "identity": Head(None),
}
every_head = pytest.mark.parametrize("name", HEADS)


def inputs(name: str) -> Tensor:
    return normal(3, N, V if name == "identity" else 8)


@every_head
@pytest.mark.parametrize("objective", [ForwardKL(), ReverseKL(), TotalVariation()], ids=repr)
@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_loss_and_gradients_equal_autograds(
    name: str, objective: KDLoss, temperature: float
) -> None:
    hidden = inputs(name).requires_grad_()
    given = [None if p is None else p.clone().requires_grad_() for p in HEADS[name][:2]]
    head = Head(*given, HEADS[name].soft_cap)
    taught = (inputs("all") + 0.5, HEADS["all"])
    targets = torch.arange(N) % VALID
    step = KDStep(
        hidden, head, targets, [taught], vocabulary_size=VALID,
        reduction=Reduction(kd_ratio=0.7, temperature=temperature, chunk_tokens=6),
    )  # fmt: skip
    leaves = [leaf for leaf in (hidden, *given) if leaf is not None]
    total = objective(step).total
    found = torch.autograd.grad(total, leaves)
    logits, p = full_logits(hidden, head), full_logits(*taught)
    kd = objective.per_token(
        (logits / temperature).log_softmax(-1), (p / temperature).log_softmax(-1)
    )
    expected = 0.3 * full_cross_entropy(logits, targets, reduction="sum") + 0.7 * kd.sum()
    torch.testing.assert_close(total, expected)
    for own, naive in zip(found, torch.autograd.grad(expected, leaves), strict=True):
        torch.testing.assert_close(own, naive, atol=1e-10, rtol=1e-8)
    if head.weight is not None:
        assert not found[1][VALID:].any(), "padding has no gradient"


@every_head
def test_statistics_and_maxima_equal_all_logits(name: str) -> None:
    hidden, head = inputs(name), HEADS[name]
    logits = full_logits(hidden, head)
    targets = torch.arange(N) % VALID
    if name == "identity":
        hidden = hidden[:, :VALID]
    valid = head.rows(VALID)
    scores = token_statistics(hidden, valid, targets, chunk_tokens=5)
    logp = logits.log_softmax(-1)
    torch.testing.assert_close(scores.logp, logp.gather(1, targets[:, None])[:, 0])
    torch.testing.assert_close(scores.mean, (logp.exp() * logp).sum(-1))
    expected = (logits > logits.gather(1, targets[:, None])).sum(-1)
    assert torch.equal(scores.rank, expected)
    top, best = likeliest_tokens(hidden, valid)
    torch.testing.assert_close(top, logits.amax(-1))
    assert torch.equal(best, logits.argmax(-1))
    torch.testing.assert_close(valid.logits(hidden), logits)


def test_half_precision_weights_are_widened_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is computed is float32, and no part of the weight is wider than asked for."""
    for module in (heads, __import__("kdmodules.losses.head_product", fromlist=["_"])):
        monkeypatch.setattr(module, "WIDENED_ROWS", 4)
    hidden = inputs("all").bfloat16().requires_grad_()
    weight, bias = (part.bfloat16().requires_grad_() for part in HEADS["all"][:2])
    head = Head(weight, bias, 2.0)
    targets = torch.arange(N) % VALID
    step = KDStep(hidden, head, targets, vocabulary_size=VALID, reduction=Reduction(kd_ratio=0.0))
    sizes: list[int] = []
    plain_to = Tensor.to

    def watched(self: Tensor, *args: object, **kwargs: object) -> Tensor:
        wide = plain_to(self, *args, **kwargs)
        if self.dtype == torch.bfloat16 and wide.dtype == torch.float32 and self.shape[-1:] == (8,):
            sizes.append(0 if self.shape[0] == N else self.shape[0])
        return wide

    monkeypatch.setattr(Tensor, "to", watched)
    total = ForwardKL()(replace(step)).total
    with torch.no_grad():
        rounded = as_head(head).rows(VALID).logits(hidden)
    monkeypatch.undo()
    assert max(sizes) == 4
    assert total.dtype == rounded.dtype == torch.float32
    leaves = (hidden, weight, bias)
    found = torch.autograd.grad(total, leaves)
    copies = [leaf.detach().double().requires_grad_() for leaf in leaves]
    logits = full_logits(copies[0], Head(copies[1], copies[2], 2.0))
    expected = full_cross_entropy(logits, targets, reduction="sum")
    torch.testing.assert_close(total.double(), expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(rounded.double(), logits, rtol=1e-5, atol=1e-5)
    for own, naive in zip(found, torch.autograd.grad(expected, copies), strict=True):
        torch.testing.assert_close(own.double(), naive, atol=2e-2, rtol=2**-8)

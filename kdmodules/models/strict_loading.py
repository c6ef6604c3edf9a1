"""No weight that does not fit is ever used: what is missing, left over or of another shape.

A network that gets only some of its weights computes with random ones, and an audit of it finds no
leak where there is one.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain, zip_longest

from torch import Tensor
from transformers import PreTrainedModel

from common.errors import UserError

_NAMED = 3
_WRAPPERS = {
    "module.": "DistributedDataParallel",
    "_orig_mod.": "torch.compile",
    "model.module.": "DistributedDataParallel",
}
"""Prefixes that wrappers leave in the names of weights that were saved with them on."""

Shape = Sequence[int]


def require_names(
    what: str,
    missing: Collection[str],
    unexpected: Collection[str],
    mismatched: Iterable[tuple[str, Shape, Shape]] = (),
) -> None:
    """Refuses weights that are not exactly those of a network.

    Args:
        what: Whose weights, for the message: "model 'x'".
        missing: Names that the network has and the file lacks.
        unexpected: Names that the file has and the network lacks.
        mismatched: Name, shape in the file and shape in the network of each that differs.

    Raises:
        UserError: Naming up to three of them, at least one of each kind, and counting the rest.
    """
    kinds = (
        [f"{name} is missing" for name in sorted(missing)],
        [f"{name} is unexpected" for name in sorted(unexpected)],
        [
            f"{name} has the shape {list(stored)}, not {list(expected)}"
            for name, stored, expected in sorted(mismatched)
        ],
    )
    told = [fault for fault in chain.from_iterable(zip_longest(*kinds)) if fault is not None]
    if not told:
        return
    rest = f", and {len(told) - _NAMED} more" if len(told) > _NAMED else ""
    raise UserError(
        f"the weights of {what} do not fit its network: {', '.join(told[:_NAMED])}{rest}"
        f"{_likely_cause(unexpected)}"
    )


def require_weights(
    what: str,
    expected: Mapping[str, Tensor],
    stored: Mapping[str, Tensor],
    allowed: Mapping[str, Tensor] | None = None,
) -> None:
    """Refuses weights by name that are not, one by one, those of a network by name and shape.

    Args:
        what: Whose weights, for the message: "model 'x'".
        expected: Weights that must be there.
        stored: Weights that are there.
        allowed: Weights that may be there, the expected ones among them; only those if not given.

    Raises:
        UserError: As :func:`require_names`.
    """
    known = expected if allowed is None else allowed
    mismatched = [
        (name, stored[name].shape, known[name].shape)
        for name in known.keys() & stored.keys()
        if stored[name].shape != known[name].shape
    ]
    missing, unexpected = expected.keys() - stored.keys(), stored.keys() - known.keys()
    require_names(what, missing, unexpected, mismatched)


def require_tied(what: str, model: PreTrainedModel, weights: Mapping[str, Tensor]) -> None:
    """Refuses a head of its own where the configuration says that it is the embedding.

    Args:
        what: Whose weights, for the message.
        model: The network, which says which weights are tied.
        weights: Weights by name, those of a head among them where it has its own.

    Raises:
        UserError: Naming both, and in how many rows they differ.
    """
    if not model.config.tie_word_embeddings or not model._tied_weights_keys:
        return
    embedding, head = (f"{path}.weight" for path in embedding_paths(model))
    ours, theirs = weights.get(head), weights.get(embedding)
    if ours is None or theirs is None or ours is theirs:
        return
    differing = int((ours != theirs).any(dim=1).sum())
    if differing:
        raise UserError(
            f"{what} cannot be loaded: its configuration says tie_word_embeddings, but "
            f"{head} differs from {embedding} in {differing} of {len(ours)} rows; set "
            "tie_word_embeddings to false, or take the head out of the file"
        )


def embedding_paths(model: PreTrainedModel) -> tuple[str, str]:
    """Returns the dotted paths of a model's embedding and of its head."""
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    path_of = {id(module): name for name, module in model.named_modules()}
    return path_of[id(embedding)], path_of[id(head)]


def _likely_cause(unexpected: Collection[str]) -> str:
    for prefix, wrapper in _WRAPPERS.items():
        if unexpected and all(name.startswith(prefix) for name in unexpected):
            return (
                f"; every unexpected name begins with {prefix!r}, which {wrapper} leaves behind: "
                "save the model inside it"
            )
    return ""

"""What was tested: model, tokenizer, template and records by their hashes, without any text."""

import hashlib
from collections.abc import Mapping, Sequence

from common.errors import UserError
from common.wording import public_name
from datamodules.encoding import RecordEncoder
from datamodules.populations import Populations
from datamodules.records import InstructionRecord
from datamodules.templates import template_hash, template_name
from datamodules.tokenizer import vocabulary_hash
from kdmodules.models.causal_lm import CausalLM, model_device
from kdmodules.models.weights_hash import weights_hash
from kdmodules.teacher_cache.identity import source_hash

SIDES = ("members", "nonmembers", "never")
"""What records are to the model under audit: trained on, set against those, met by nobody."""


def described_run(
    identity: Mapping[str, object],
    lm: CausalLM,
    encoder: RecordEncoder,
    records: Sequence[Mapping[str, object]],
    weights: Mapping[str, str | None],
    *,
    source: str | None,
    coins: bool,
    references: Mapping[str, str],
) -> dict[str, object]:
    """Returns what was tested, in plain values, as `docs/audit_json.md` tells them.

    Args:
        identity: Run, role, seed and step of its rows.
        lm: The model.
        encoder: Text to its tokens.
        records: From `record_sets`.
        weights: From `weights_identity`.
        source: Where the model is from; None where training began from random weights.
        coins: Whether fair coins dealt members and non-members.
        references: Where the reference models are from, by name.
    """
    parameters = list(lm.model.parameters())
    return {
        **{name: identity[name] for name in ("run", "role", "seed", "step")},
        "model": {
            "source": None if source is None else public_name(source),
            "type": lm.model.config.model_type,
            "parameters": sum(one.numel() for one in parameters),
            "dtype": str(parameters[0].dtype).removeprefix("torch."),
            "device": str(model_device(lm.model)),
            "weights": dict(weights),
        },
        "tokenizer": {
            "tokens": len(encoder.tokenizer),
            "sha256": vocabulary_hash(encoder.tokenizer),
        },
        "template": {
            "name": public_name(template_name(encoder.template)),
            "sha256": template_hash(encoder.template),
        },
        "scored_tokens": encoder.score,
        "max_prompt_tokens": encoder.max_prompt_tokens,
        "max_tokens": encoder.max_tokens,
        "records": [dict(one) for one in records],
        "dealt_by_coins": coins,
        "references": {name: public_name(one) for name, one in sorted(references.items())},
    }


def weights_identity(lm: CausalLM, source: str | None = None) -> dict[str, str | None]:
    """Returns a hash of a model's weights, and of what; work for all ranks if they are sharded.

    Args:
        lm: The model.
        source: Where its weights were read from; None where they are in memory alone.

    Returns:
        Of a folder or file the SHA-256 of its files, of a hub name its commit, else the SHA-256 of
        the parameters with the configuration; neither of weights that lie outside memory.
    """
    if source is not None:
        try:
            found = source_hash(source)
        except UserError:  # a file within a repository, or a folder that is no cache of the hub's
            pass
        else:
            return {"of": "revision" if "@" in found else "files", "hash": found}
    if any(parameter.is_meta for parameter in lm.model.parameters()):
        return {"of": "nothing", "hash": None}
    return {"of": "parameters", "hash": weights_hash(lm)}


def record_sets(
    populations: Populations, sources: Mapping[str, str], limit: int | None = None
) -> list[dict[str, object]]:
    """Returns number and hash of the members, the non-members and the records that nobody met.

    Args:
        populations: The records.
        sources: Where they are from, by side: members, nonmembers, never.
        limit: Most records of one, the first ones.
    """
    members = populations.member_population
    names = (members, populations.opposed_to(members), "never")
    found: list[dict[str, object]] = []
    for side, name in zip(SIDES, names, strict=True):
        records = populations.population(name)[:limit] if populations.has(name) else []
        if records:
            found.append(
                {
                    "side": side,
                    "population": name,
                    "source": public_name(sources[side]) if side in sources else None,
                    "records": len(records),
                    "sha256": records_hash(records),
                }
            )
    return found


def records_hash(records: Sequence[InstructionRecord]) -> str:
    """Returns the SHA-256 of the names of records, hashes of what they say, in any order."""
    names = "\n".join(sorted(record.id for record in records))
    return hashlib.sha256(names.encode()).hexdigest()

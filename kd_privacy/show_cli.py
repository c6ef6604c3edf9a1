"""`kd-privacy show`: one record of each population as the model sees it, scored tokens marked."""

from collections.abc import Sequence
from itertools import groupby

from lightning.pytorch import LightningDataModule
from rich.console import Console
from rich.text import Text
from transformers import PreTrainedTokenizerBase

from audits.record_counts import count_records
from common.errors import UserError
from datamodules.encoded import EncodedRecord
from datamodules.external import ExternalDataModule
from datamodules.instruction import CANARY_POPULATIONS
from datamodules.record_module import RecordDataModule
from datamodules.splits import SPLITS
from datamodules.templates import template_name
from kdmodules.external import ExternalModule
from kdmodules.language_model import LanguageModelModule

COMMAND = "show"


def show_records(data: LightningDataModule, module: LanguageModelModule) -> None:
    """Prints how records are read, with what befell them; loads a tokenizer and no model.

    Args:
        data: Where the records come from.
        module: An external one has a tokenizer of its own where the data name none.

    Raises:
        UserError: If the data are of another kind, or as their `setup` does.
    """
    if not isinstance(data, RecordDataModule):
        raise UserError(f"data is a {type(data).__name__}: kd-privacy show reads records")
    if isinstance(data, ExternalDataModule) and isinstance(module, ExternalModule):
        data.tokenizer_source = data.tokenizer_source or module.source
    data.setup("validate")
    encoder, tokenizer = data.encoder, data.tokenizer
    console = Console(highlight=False, soft_wrap=True)
    ends, begins = (
        " ".join(map(str, tokenizer.convert_ids_to_tokens(list(ids)))) or "none"
        for ids in (encoder.end_ids, encoder.beginning_ids)
    )
    console.print(
        f"template {template_name(encoder.template)}, scored {encoder.score}, special tokens in "
        f"text {encoder.special_tokens_in_text}, beginning token {begins}, end tokens {ends}; "
        "⟦scored⟧",
        markup=False,
    )
    external = isinstance(data, ExternalDataModule)
    for name in ("external", "held_out") if external else (*SPLITS, *CANARY_POPULATIONS):
        records = data.population(name)
        encoded = encoder.encode_all([record for record in records if record.response])
        if not encoded:
            continue
        first = encoded[0]
        counts = {"records": len(records), "without a response": len(records) - len(encoded)}
        counts |= {key.replace("_", " "): n for key, n in count_records(encoded).items()}
        told = ", ".join(f"{key} {n}" for key, n in counts.items())
        console.print(
            f"\n{name}: {told}\n{first.record_id}: {len(first)} tokens, {first.n_scored} scored\n",
            markup=False,
        )
        console.print(marked(first, tokenizer))


def marked(record: EncodedRecord, tokenizer: PreTrainedTokenizerBase) -> Text:
    """Returns a record's text with its scored tokens in colour and double brackets."""
    ids = [*record.prompt_ids, *record.response_ids]
    scored = record.scored or (True,) * len(record.response_ids)
    flags = [False] * len(record.prompt_ids) + list(scored)
    text, start = Text(), 0
    for flag, run in groupby(flags):
        end = start + len(list(run))
        # By what the run adds to the text: some tokenizers drop a space where a text begins.
        words = _decoded(ids[:end], tokenizer)[len(_decoded(ids[:start], tokenizer)) :]
        text.append(f"⟦{words}⟧" if flag else words, style="bold green" if flag else "")
        start = end
    return text


def _decoded(ids: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> str:
    return str(tokenizer.decode(list(ids), clean_up_tokenization_spaces=False))

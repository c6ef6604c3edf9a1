"""One distillation step as TRL takes it: its GKDTrainer, and our rendition of what that computes.

TRL is optional. The rendition is written from what a GKDTrainer step does (TRL 1.16,
`trl.experimental.gkd`): records padded on the left, all logits of both models at every position,
the mask applied after the divergence, AdamW in its fused form.
"""

import math
import os
import time
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import torch
from datasets import Dataset
from torch import Tensor
from torch.nn.functional import kl_div
from transformers import (
    GenerationConfig,
    GPT2LMHeadModel,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainerCallback,
)

from benchmarks.lightning_step import Case, Run, Workplace, intervals
from datamodules.batches import EncodedRecord, collate
from datamodules.tokenizer import load_tokenizer, pad_id

Batches = Sequence[Sequence[EncodedRecord]]
MAX_GRAD_NORM = 1.0


def is_installed() -> bool:
    """Whether TRL can be imported."""
    return find_spec("trl") is not None


class _StepClock(TrainerCallback):
    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, *positional: Any, **named: Any) -> None:
        """Reads the clock."""
        self.ends.append(time.perf_counter())


def train_with_trl(case: Case, place: Workplace, batches: Batches) -> Run:
    """Trains with TRL's GKDTrainer on the batches given, in their order.

    TRL's defaults, but for float32 instead of bfloat16, a constant learning rate, and no gradient
    checkpointing, which would recompute activations and switch the cache of generation off.
    """
    os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
    gkd = import_module("trl.experimental.gkd")
    folder = place.folder / "trl"
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(folder / "events")
    clock = _StepClock()
    trainer = gkd.GKDTrainer(
        model=_load(place.student),
        teacher_model=_load(place.teacher),
        args=gkd.GKDConfig(
            output_dir=str(folder),
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            per_device_train_batch_size=case.batch_size,
            train_sampling_strategy="sequential",
            max_steps=len(batches),
            learning_rate=case.lr,
            lr_scheduler_type="constant",
            max_grad_norm=MAX_GRAD_NORM,
            beta=case.beta,
            lmbda=1.0 if case.on_policy else 0.0,
            temperature=case.temperature,
            max_new_tokens=case.new_tokens,
            logging_steps=1,
            report_to=["tensorboard"],
            save_strategy="no",
            disable_tqdm=True,
        ),
        train_dataset=Dataset.from_list([_example(r) for batch in batches for r in batch]),
        processing_class=_padded_tokenizer(place),
        callbacks=[clock],
    )
    trainer.train()
    losses = [float(entry["loss"]) for entry in trainer.state.log_history if "loss" in entry]
    return Run(intervals(clock.ends), losses, [list(batch) for batch in batches])


def _load(folder: Path) -> PreTrainedModel:
    return GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa")


def _padded_tokenizer(place: Workplace) -> PreTrainedTokenizerBase:
    tokenizer = load_tokenizer(str(place.student))
    tokenizer.pad_token_id = pad_id(tokenizer)
    return tokenizer


def _example(record: EncodedRecord) -> dict[str, object]:
    """A record as TRL's own collator takes one that has been tokenised."""
    prompt, response = list(record.prompt_ids), list(record.response_ids)
    return {
        "prompt": "",
        "input_ids": prompt + response,
        "completion_mask": [0] * len(prompt) + [1] * len(response),
    }


def generalised_jsd(
    student_logits: Tensor, teacher_logits: Tensor, scored: Tensor, beta: float
) -> Tensor:
    """TRL's loss at temperature 1: masked after a divergence of every position.

    Args:
        student_logits: [B, T, V].
        teacher_logits: [B, T, V].
        scored: [B, T] bool.
        beta: Teacher's weight in the mixture, in [0, 1); 0 is the forward KL.

    Returns:
        Scalar mean over the scored positions, in nats.
    """
    student, teacher = ((x / 1.0).log_softmax(-1) for x in (student_logits, teacher_logits))
    if beta == 0:
        per_position = kl_div(student, teacher, reduction="none", log_target=True)
    else:
        shifted = [student + math.log(1 - beta), teacher + math.log(beta)]
        mixed = torch.stack(shifted).logsumexp(0)
        from_teacher = kl_div(mixed, teacher, reduction="none", log_target=True)
        from_student = kl_div(mixed, student, reduction="none", log_target=True)
        per_position = beta * from_teacher + (1 - beta) * from_student
    return per_position[scored].sum() / scored.sum()


def train_with_rendition(case: Case, place: Workplace, batches: Batches) -> Run:
    """Trains in a plain loop that computes what TRL's step computes; nothing is logged."""
    student, teacher = _load(place.student).train(), _load(place.teacher).eval()
    optimizer = torch.optim.AdamW(student.parameters(), lr=case.lr, weight_decay=0.0, fused=True)
    padding = pad_id(load_tokenizer(str(place.student)))
    ends, losses = [], []
    for batch in batches:
        ids, mask, scored = _inputs(case, student, batch, padding)
        student_logits = student(input_ids=ids, attention_mask=mask).logits
        with torch.no_grad():
            teacher_logits = teacher(input_ids=ids, attention_mask=mask).logits
        loss = generalised_jsd(
            student_logits[:, :-1], teacher_logits[:, :-1], scored[:, 1:], case.beta
        )
        del student_logits, teacher_logits
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), MAX_GRAD_NORM)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        ends.append(time.perf_counter())
    return Run(intervals(ends), losses, [list(batch) for batch in batches])


def _inputs(
    case: Case, student: PreTrainedModel, batch: Sequence[EncodedRecord], padding: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Ids, mask and scored positions, [B, T] each: the records' own responses or fresh ones."""
    whole = collate(batch, padding, padding_side="left")
    if not case.on_policy:
        return whole.input_ids, whole.attention_mask, whole.response_mask
    prompts = [EncodedRecord(r.record_id, r.task, r.prompt_ids, (), False, False) for r in batch]
    left = collate(prompts, padding, padding_side="left")
    config = GenerationConfig(
        max_new_tokens=case.new_tokens,
        do_sample=True,
        temperature=case.temperature,
        top_k=0,
        top_p=1.0,
        eos_token_id=student.config.eos_token_id,
        pad_token_id=padding,
    )
    ids: Tensor = cast(Any, student).generate(
        left.input_ids, attention_mask=left.attention_mask, generation_config=config
    )
    width = left.input_ids.shape[1]
    is_end = ids[:, width:] == student.config.eos_token_id
    before_end = (is_end.cumsum(1) - is_end.int()) == 0
    mask = torch.cat([left.attention_mask, before_end.long()], dim=1)
    scored = torch.cat([left.response_mask, before_end], dim=1)
    return ids, mask, scored

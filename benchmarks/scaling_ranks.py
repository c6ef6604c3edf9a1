"""Processor time of a scoring pass that is dealt to several processes."""

import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch import distributed as dist
from transformers import GPT2Config, GPT2LMHeadModel

from audits.scoring.model_access import ModelAccess
from audits.scoring.scoring_pass import score_records
from benchmarks.memorization import silent
from common.ranks import Ranks
from datamodules.batches import EncodedRecord
from kdmodules.models.causal_lm import CausalLM

RECORDS, TOKENS, VOCABULARY = 2_000, 64, 4_096


def processor_seconds_of_ranks(world_size: int) -> float:
    """Returns the seconds of all processes together; their start is not counted."""
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(_rank, args=(folder, world_size), nprocs=world_size)
        return sum(float(path.read_text()) for path in Path(folder).glob("seconds-*"))


def _rank(rank: int, folder: str, world_size: int) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world_size
    )
    config = GPT2Config(
        vocab_size=VOCABULARY, n_layer=2, n_embd=64, n_head=4, bos_token_id=0, eos_token_id=0
    )
    lm = CausalLM(GPT2LMHeadModel(config).eval(), VOCABULARY)
    ranks = Ranks(rank, world_size)
    access = ModelAccess(lm, SimpleNamespace(pad_id=0), ranks, 16, 8192, 0, silent)
    encoded = _records()
    dist.barrier()
    began = time.process_time()
    with torch.no_grad():
        score_records(access, encoded, "")
    seconds = time.process_time() - began
    (Path(folder) / f"seconds-{rank}").write_text(str(seconds))
    dist.destroy_process_group()


def _records() -> list[EncodedRecord]:
    draw = np.random.default_rng(0)
    return [
        EncodedRecord(
            f"record-{row}",
            "",
            tuple(draw.integers(VOCABULARY, size=16).tolist()),
            tuple(draw.integers(VOCABULARY, size=draw.integers(8, TOKENS)).tolist()),
            prompt_cut=False,
            response_cut=True,
        )
        for row in range(RECORDS)
    ]

"""All techniques, on all families between them: fit, then validate; each nears its teacher.

The other pairs of a technique and a family are slow tests.
"""

import math
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pandas as pd
import pytest

from kd_privacy.cli import main
from tests.integration.conftest import SMALL_DATA, TRAINING, losses, table

NETWORKS = {
    "gpt2": "{n_layer: 2, n_head: 2, n_embd: 32, n_positions: 512, resid_pdrop: 0.0, "
    "embd_pdrop: 0.0, attn_pdrop: 0.0}",
    "opt": "{num_hidden_layers: 2, num_attention_heads: 2, hidden_size: 32, "
    "word_embed_proj_dim: 32, ffn_dim: 64, max_position_embeddings: 512, dropout: 0.0}",
    "llama": "{num_hidden_layers: 2, num_attention_heads: 2, num_key_value_heads: 2, "
    "hidden_size: 32, intermediate_size: 64, max_position_embeddings: 512}",
}
TECHNIQUES = {
    "kd": [],
    "seqkd": ["--model.responses.sampling.max_new_tokens=32"],
    "imitkd": ["--model.responses.sampling.max_new_tokens=8"],
    "gkd": ["--model.responses.sampling.max_new_tokens=8"],
    "minillm": [
        "--model.responses.mixture.max_new_tokens=8",
        "--model.responses.rollouts=16",
        "--model.responses.inner_epochs=2",
    ],
    "distillm": ["--model.responses.sampling.max_new_tokens=8"],
}
# kd, gkd, seqkd, imitkd and minillm are trained in test_chat_models.py, test_private_text.py and
# test_as_released.py too.
FAST = {"gpt2": (), "opt": (), "llama": ("distillm",)}
PAIRS = [
    pytest.param(
        family,
        technique,
        marks=() if technique in FAST[family] else pytest.mark.slow,
        id=f"{family}-{technique}",
    )
    for family in sorted(NETWORKS)
    for technique in TECHNIQUES
]
TEXT = [
    "--model.plain_text.sources=builtin",
    "--model.plain_text.block_tokens=32",
    "--model.plain_text.max_blocks=64",
]


def arguments(command: str, family: str, *fragments: str) -> list[str]:
    names = [fragments[0], "data/builtin", f"families/{family}-tiny", *fragments[1:]]
    listed = [part for name in names for part in ("-c", f"configs/{name}.yaml")]
    return [command, *listed, f"--model.network.config={NETWORKS[family]}", *SMALL_DATA, *TRAINING]


def student(command: str, family: str, technique: str, teacher: Path, run_dir: Path) -> list[str]:
    return [
        *arguments(command, family, "base/student", f"techniques/{technique}", "audits/membership"),
        *TECHNIQUES[technique],
        *TEXT,
        f"--model.teacher={teacher}",
        "--trainer.max_epochs=3",
        # The last checkpoint's; other tests audit in the middle of a fit.
        "--trainer.callbacks.init_args.every_n_validations=0",
        f"--run_dir={run_dir}",
    ]


Taught = Callable[[str], tuple[Path, float]]


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Taught:
    """A family's toy teacher, and a student's divergence from it before the first step."""

    @cache
    def of(family: str) -> tuple[Path, float]:
        folder = tmp_path_factory.mktemp(family)
        options = ["--trainer.max_epochs=6", "--model.optimizer.lr=5e-3"]
        fit = arguments("fit", family, "base/teacher")
        main([*fit, *options, f"--run_dir={folder / 'teacher'}"])
        teacher = folder / "teacher" / "export"
        start = student("validate", family, "kd", teacher, folder / "start")
        main([*start, "--untrained=true"])
        return teacher, losses(folder / "start", "val/teacher_kl")[-1]

    return of


@pytest.mark.parametrize(("family", "technique"), PAIRS)
def test_a_technique_nears_its_teacher(
    family: str, technique: str, taught: Taught, tmp_path: Path
) -> None:
    teacher, before = taught(family)
    fitted, validated = tmp_path / "fit", tmp_path / "validate"
    main(student("fit", family, technique, teacher, fitted))
    curve = losses(fitted)
    assert all(math.isfinite(loss) for loss in curve)
    last = fitted / "checkpoints" / "last.ckpt"
    again = student("validate", family, technique, teacher, validated)
    main([*again, f"--ckpt_path={last}"])
    after = losses(validated, "val/teacher_kl")[-1]
    assert after == pytest.approx(losses(fitted, "val/teacher_kl")[-1], abs=1e-6)
    assert 0 < after < 0.9 * before
    rows = table(validated, "results")
    assert set(rows.family) == {family}
    assert set(rows.technique) == {technique}
    assert set(rows.step) == {len(curve)}
    pd.testing.assert_frame_equal(rows, table(fitted, "results"))

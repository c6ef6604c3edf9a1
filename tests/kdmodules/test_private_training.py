"""Private fits: full-batch AdamW without noise, empty draws, resume, the secret, what is shown."""

import json
import stat
from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from scipy import stats

from callbacks.private_guarantee import TrainingGuarantee
from callbacks.throughput import Throughput
from common.errors import UserError
from common.guarantee import read
from datamodules.canaries import CanaryPlan
from datamodules.instruction import InstructionDataModule
from datamodules.privacy_units import privacy_units
from datamodules.splits import POOL
from kdmodules.models.network import Network
from kdmodules.optimization import OptimizerSettings
from kdmodules.privacy.settings import PrivateTraining
from kdmodules.teacher import SupervisedModule
from tests.kdmodules.student_runs import CONFIG, NO_DROPOUT, make_data, make_trainer

OPTIMIZER = OptimizerSettings(lr=2e-3, weight_decay=0.1)


def make_teacher(
    dp: PrivateTraining, split: str = "private", dropout: float = 0.0
) -> SupervisedModule:
    config = {**CONFIG, **dict.fromkeys(NO_DROPOUT, dropout)}
    return SupervisedModule("private", Network("gpt2", None, config), OPTIMIZER, seed=1, dp=dp)


def fit(
    folder: Path,
    dp: PrivateTraining,
    data: InstructionDataModule | None = None,
    ckpt_path: Path | None = None,
    **options: object,
) -> SupervisedModule:
    """Two steps of a teacher, unless it is said otherwise."""
    module = make_teacher(dp, dropout=0.1 if dp.seed is None else 0.0)
    trainer = make_trainer(folder, **{"max_steps": 2, "limit_val_batches": 0, **options})
    trainer.fit(module, data or make_data(folder), ckpt_path=ckpt_path, weights_only=False)
    return module


def weights(module: SupervisedModule) -> torch.Tensor:
    return torch.cat([weight.detach().flatten() for weight in module.parameters()])


def test_without_noise_and_clipping_and_coins_it_is_full_batch_adamw(tmp_path: Path) -> None:
    data = make_data(tmp_path)
    data.setup("fit")
    records = data.tokens("private", data.training_records("private"))
    n = len(set(privacy_units(data, "private").unit_of.values()))
    data.batch_size = n
    found = fit(tmp_path, PrivateTraining(noise=0.0, clip=1e9, units=n, seed=0), data, max_steps=3)
    reference = make_teacher(PrivateTraining(noise=0.0))
    reference.trainer = found.trainer
    reference.configure_model()
    model = reference.language_model.model
    matrices = [weight for weight in model.parameters() if weight.ndim >= 2]
    vectors = [weight for weight in model.parameters() if weight.ndim < 2]
    optimizer = torch.optim.AdamW([{"params": matrices}, {"params": vectors, "weight_decay": 0.0}])
    optimizer.param_groups[0]["weight_decay"] = 0.1
    for step in range(3):
        # The cosine of three steps.
        lr = 1e-7 + (2e-3 - 1e-7) * (1 + torch.cos(torch.tensor(torch.pi * step / 3)).item()) / 2
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.zero_grad()
        for record in records:
            ids = torch.tensor([record.prompt_ids + record.response_ids])
            logits = model(input_ids=ids).logits[0, len(record.prompt_ids) - 1 : -1]
            loss = torch.nn.functional.cross_entropy(logits, torch.tensor(record.response_ids))
            (loss / n).backward()
        optimizer.step()
    torch.testing.assert_close(weights(found), weights(reference), rtol=1e-4, atol=2e-6)


def test_an_empty_draw_steps_and_adds_noise_over_the_expected_number(tmp_path: Path) -> None:
    seen: list[torch.Tensor] = []
    module = make_teacher(PrivateTraining(noise=1.5, clip=0.4, units=1e5, seed=4))
    module.on_before_optimizer_step = lambda _: seen.append(
        torch.cat([weight.grad.flatten().clone() for weight in module.parameters()])
    )
    before: list[torch.Tensor] = []
    module.on_train_start = lambda: before.append(weights(module))
    make_trainer(tmp_path, max_steps=2, limit_val_batches=0).fit(module, make_data(tmp_path))
    # The batch of 6 is what a draw is expected to hold, and what every sum is divided by.
    deviation = 1.5 * 0.4 / 6
    assert len(seen) == 2
    for one in seen:
        low, high = stats.chi2.ppf([1e-4, 1 - 1e-4], len(one))
        assert low < float((one.double() / deviation).square().sum()) < high
    assert not torch.equal(*seen)
    assert not torch.equal(before[0], weights(module))
    lines = (tmp_path / "private" / "dp_steps.jsonl").read_text().splitlines()
    assert [json.loads(line)["units"] for line in lines] == [0, 0]


def test_a_resumed_training_goes_on_with_the_draws_and_the_noise(tmp_path: Path) -> None:
    dp = PrivateTraining(noise=0.7)
    keeper = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=3, save_top_k=-1)
    whole = fit(tmp_path, dp, max_steps=6, callbacks=[keeper], enable_checkpointing=True)
    secret = tmp_path / "private" / "dp.key"
    written = secret.read_bytes()
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    at = tmp_path / "step=3.ckpt"
    resumed = fit(tmp_path, dp, max_steps=6, ckpt_path=at)
    assert torch.equal(weights(resumed), weights(whole))
    assert secret.read_bytes() == written
    with pytest.raises(UserError, match=r"had the noise 0\.7, this run's would be 0\.8"):
        fit(tmp_path, PrivateTraining(noise=0.8), max_steps=6, ckpt_path=at)
    anew = fit(tmp_path, dp, max_steps=6)
    assert secret.read_bytes() != written
    assert not torch.equal(weights(anew), weights(whole))
    secret.unlink()
    with pytest.raises(UserError, match=r"dp\.key holds no secret to go on with"):
        fit(tmp_path, dp, max_steps=6, ckpt_path=at)


def test_a_target_is_solved_for_and_told_with_what_voids_it(tmp_path: Path) -> None:
    found = {}
    for seed in (None, 3):
        dp = PrivateTraining(epsilon=4.0, delta=1e-3, seed=seed)
        module = fit(tmp_path, dp, max_steps=5, callbacks=[TrainingGuarantee()])
        found[seed] = read(tmp_path)
    secret, seeded = found[None], found[3]
    assert secret is not None
    assert seeded is not None
    assert secret.holds
    assert 3.9 < secret.epsilon <= 4.0
    assert (secret.delta, secret.steps, secret.unit) == (1e-3, 5, "cluster")
    assert secret.rate == pytest.approx(6 / module.expected_units)
    assert seeded.line.startswith("no guarantee (model.dp.seed is given, and repeats the noise)")
    assert (seeded.noise, seeded.epsilon) == (secret.noise, secret.epsilon)
    assert "train/loss" not in module.trainer.callback_metrics


def test_units_are_clusters_and_their_number_that_of_the_pool(tmp_path: Path) -> None:
    data = make_data(tmp_path, canaries=CanaryPlan(coin=20, exposure_per_level=2))
    data.setup("fit")
    private, held_out = (privacy_units(data, split) for split in POOL)
    pool = [place for place in data.world.placements if place.split in POOL]
    clusters = len({place.cluster for place in pool})
    assert private.expected == held_out.expected == (clusters + 20) / 2
    assert private.kind == "cluster"
    assert {private.unit_of[p.record.id] for p in data.placements("private")} == {
        p.cluster for p in data.placements("private")
    }
    repeated = [one.id for one in data.canaries if one.series == "exposure"]
    assert [private.unit_of[name] for name in repeated] == repeated
    assert not set(private.unit_of.values()) & set(held_out.unit_of.values())


def test_canaries_are_not_deduplicated_and_draws_not_counted(tmp_path: Path) -> None:
    data = make_data(tmp_path, canaries=CanaryPlan(coin=8), deduplicate=0.9)
    with pytest.raises(UserError, match=r"data\.deduplicate is 0\.9, and canaries"):
        fit(tmp_path, PrivateTraining(noise=1.0), data)
    with pytest.raises(UserError, match="Throughput tells how many records were drawn"):
        fit(tmp_path, PrivateTraining(noise=1.0), callbacks=[Throughput()])


def test_a_module_is_not_trained_twice_under_one_guarantee(tmp_path: Path) -> None:
    module = fit(tmp_path, PrivateTraining(noise=1.0))
    with pytest.raises(UserError, match="was trained privately before"):
        make_trainer(tmp_path / "again", max_steps=2).fit(module, make_data(tmp_path))

"""Estimated parameters and memory, against counts of real tensors and measured peaks."""

import json
from dataclasses import asdict, replace

import pytest
import torch
import yaml
from torch import Tensor

from benchmarks.estimates import Row, estimated_mb, fit, left_out_errors
from benchmarks.training_memory import Case, Peak
from kdmodules.models.causal_lm import CausalLM
from studies.plan.settings import Settings
from studies.run.estimates.activations import ATTENTION_DROPOUT_BYTES, kept_bytes
from studies.run.estimates.fitted import FITTED, LARGEST_ERROR
from studies.run.estimates.layout import Layout, UnknownLayoutError, layout_of
from studies.run.estimates.memory import estimate_memory
from studies.run.estimates.networks import NetworkSpec, UnknownNetworkError, network_of
from studies.run.estimates.training_run import Audit, Sampling, TeacherHome, TrainingRun
from tests.processes import ROOT

NO_DROPOUT = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
GPT2 = {"n_layer": 2, "n_embd": 96, "n_head": 4, "vocab_size": 64, **NO_DROPOUT}
LLAMA = {
    **{"num_hidden_layers": 2, "hidden_size": 96, "intermediate_size": 160, "vocab_size": 64},
    **{"num_attention_heads": 4, "num_key_value_heads": 4},
}
OPT = {
    **{"num_hidden_layers": 2, "hidden_size": 96, "word_embed_proj_dim": 96, "ffn_dim": 224},
    **{"num_attention_heads": 4, "vocab_size": 64, "dropout": 0.1},
}
LORA = json.dumps({"r": 4, "alpha": 8, "dropout": 0.1, "targets": None})


def spec(family: str, config: dict[str, object], adapter: str = "") -> NetworkSpec:
    return NetworkSpec(family, json.dumps(config), adapter)


def family_fragment(name: str) -> NetworkSpec:
    path = ROOT / "configs/families" / f"{name}.yaml"
    return network_of(Settings(yaml.safe_load(path.read_text())), None)


def saved_bytes(network: NetworkSpec, rows: int, tokens: int, dropout: bool = True) -> int:
    """Bytes of all distinct tensors but weights that autograd holds after a real forward pass."""
    model = network.build("cpu").train(dropout)
    weights = {one.data_ptr() for one in model.parameters()}
    seen: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        seen[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    ids = torch.zeros(rows, tokens, dtype=torch.long)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        CausalLM(model, 64).states(ids, torch.ones_like(ids))
    return sum(t.untyped_storage().nbytes() for p, t in seen.items() if p not in weights)


@pytest.mark.parametrize(
    ("name", "parameters", "trained"),
    [
        # The published counts; of LoRA r (in + out) for two projections of each block.
        ("gpt2-xl", 1_557_611_200, 1_557_611_200),
        ("opt-350m", 331_196_416, 331_196_416),
        ("open_llama-7b", 6_738_415_616 + 32 * 2 * 16 * 8192, 32 * 2 * 16 * 8192),
        ("open_llama-3b", 3_426_473_600 + 26 * 2 * 16 * 6400, 26 * 2 * 16 * 6400),
    ],
)
def test_parameters_of_published_networks(name: str, parameters: int, trained: int) -> None:
    figures = family_fragment(name).figures()
    assert (figures.parameters, figures.trainable) == (parameters, trained)
    assert figures.root + figures.depth * figures.block == parameters


@pytest.mark.parametrize(
    ("network", "tolerance"),
    [
        (spec("gpt2", GPT2), 0.005),
        (spec("gpt2", GPT2 | {"activation_function": "gelu_new", "resid_pdrop": 0.1}), 0.005),
        (spec("llama", LLAMA), 0.005),
        (spec("llama", LLAMA, LORA), 0.08),
        (spec("opt", OPT), 0.005),
    ],
)
def test_kept_bytes_are_those_of_a_real_forward_pass(
    network: NetworkSpec, tolerance: float
) -> None:
    kept = kept_bytes(network, "32-true")
    figures = network.figures()
    real = saved_bytes(network, rows=3, tokens=20) / 60
    assert kept.block * figures.depth + kept.outside == pytest.approx(real, rel=tolerance)


def test_a_step_without_dropout_keeps_no_mask() -> None:
    network = spec("opt", OPT)
    kept = kept_bytes(network, "32-true", dropout=False)
    real = saved_bytes(network, rows=3, tokens=20, dropout=False) / 60
    assert kept.block * network.figures().depth + kept.outside == pytest.approx(real, rel=0.005)
    assert kept.block < kept_bytes(network, "32-true").block
    attention = kept_bytes(spec("gpt2", GPT2 | {"attn_pdrop": 0.1}), "32-true", dropout=False)
    assert attention.attention == 0


def test_attention_dropout_keeps_square_matrices_on_a_cpu() -> None:
    network = spec("gpt2", GPT2 | {"attn_pdrop": 0.1})
    long, short = (saved_bytes(network, 1, tokens) / tokens for tokens in (64, 32))
    per_token = (long - short) / 32 / 2
    assert per_token == pytest.approx(4 * ATTENTION_DROPOUT_BYTES)
    assert kept_bytes(network, "32-true").attention == 4 * ATTENTION_DROPOUT_BYTES


def test_half_precision_keeps_less_and_autocast_keeps_the_weights_it_casts() -> None:
    network = spec("gpt2", GPT2)
    whole, mixed, half = (kept_bytes(network, p) for p in ("32-true", "bf16-mixed", "bf16-true"))
    assert half.block == pytest.approx(whole.block / 2, rel=0.01)
    assert half.block < mixed.block < whole.block
    matrices = 12 * 96 * 96
    assert mixed.cast == pytest.approx(2 * matrices, rel=0.03)
    assert whole.cast == half.cast == 0


def run_of(network: NetworkSpec, **changes: object) -> TrainingRun:
    run = TrainingRun(
        student=network.figures(),
        kept=kept_bytes(network, "32-true"),
        teachers=(),
        layout=Layout("single", 1),
        records=2,
        tokens=16,
    )
    return replace(run, **changes)


def terms(run: TrainingRun) -> dict[tuple[str, str], float]:
    return {(term.phase, term.name): term.bytes for term in estimate_memory(run).terms}


@pytest.mark.parametrize(
    ("strategy", "weights", "gradients", "moments"),
    [
        ("ddp", 4.0, 4.0, 8.0),
        ("deepspeed_2", 4.0, 1.0, 2.0),
        ("fsdp", 1.0, 1.0, 2.0),
        ("fsdp2", 1.0, 1.0, 2.0),
    ],
)
def test_state_is_divided_as_the_strategy_divides_it(
    strategy: str, weights: float, gradients: float, moments: float
) -> None:
    run = run_of(spec("gpt2", GPT2), layout=Layout(strategy, 4))
    found, parameters = terms(run), run.student.parameters
    assert found["held", "weights"] == weights * parameters
    assert found["held", "optimiser state"] == moments * parameters
    assert found["forward", "gradients"] == gradients * parameters
    assert (("held", "buckets of gradients") in found) == (strategy == "ddp")
    gathered = 4 * (run.student.root + 2 * run.student.block)
    sharded = strategy in ("fsdp", "fsdp2")
    assert found.get(("forward", "gathered weights"), 0) == (gathered if sharded else 0)


def test_precisions_of_the_state() -> None:
    student = spec("gpt2", GPT2).figures()
    expected = {
        ("single", 1, "bf16-mixed"): (4, 8),
        ("single", 1, "bf16-true"): (2, 4),
        ("deepspeed_2", 2, "bf16-mixed"): (2, 12 / 2),
    }
    for (strategy, devices, precision), (weight, state) in expected.items():
        run = run_of(spec("gpt2", GPT2), layout=Layout(strategy, devices, precision))
        found = terms(run)
        assert found["held", "weights"] == weight * student.parameters
        assert found["held", "optimiser state"] == state * student.parameters


def test_an_adapter_has_state_for_itself_alone_and_no_gradient_of_the_head() -> None:
    run = run_of(spec("llama", LLAMA, LORA))
    found, student = terms(run), run.student
    assert found["held", "optimiser state"] == 8 * student.trainable < student.parameters
    assert ("forward", "gradient of the head") not in found
    assert student.trainable == 2 * 2 * 4 * (96 + 96)


def test_what_teachers_sampling_and_audits_take() -> None:
    network = spec("gpt2", GPT2)
    teacher = replace(network.figures(), parameters=1_000_000, root=1000, block=200)
    cache = 2 * 2 * 96 * 4
    run = run_of(
        network,
        teachers=(teacher,),
        sampling=Sampling(rows=8, tokens=50, writers=(network.figures(),)),
        audit=Audit(tokens=700, writes=True, reference=500),
    )
    found = terms(run)
    assert found["held", "teachers"] == 4e6
    assert found["sampling", "keys and values"] == 8 * 50 * cache
    assert found["audit", "keys and values"] == 700 * cache
    assert found["audit", "reference model"] == 2000
    sharded = terms(replace(run, teacher_home=TeacherHome(bytes=2, shards=4)))
    assert sharded["held", "teachers"] == 2 * (250_000 + 1000)
    offloaded = terms(replace(run, teacher_home=TeacherHome(2, 4, offloaded=True)))
    assert offloaded["held", "teachers"] == 2 * 1000
    cached = terms(replace(run, teacher_home=TeacherHome(cached=True)))
    assert cached["held", "teachers' heads"] == 4 * 64 * 96
    assert ("held", "teachers") not in cached
    assert ("teacher", "forward pass without gradient") not in cached


def test_recomputed_blocks_keep_their_inputs_and_one_block() -> None:
    run = run_of(spec("gpt2", GPT2))
    kept, recomputed = (terms(replace(run, checkpointed=flag)) for flag in (False, True))
    a_block = 32 * FITTED.kept_factor * run.kept.block
    inputs = 32 * FITTED.kept_factor * 96 * 4
    saved = kept["forward", "activations"] - recomputed["forward", "activations"]
    assert saved == pytest.approx(2 * (a_block - inputs))
    assert recomputed["backward", "activations of a recomputed block"] == pytest.approx(a_block)


def test_the_peak_is_what_is_held_and_the_largest_phase() -> None:
    estimate = estimate_memory(run_of(spec("gpt2", GPT2)))
    phases = {term.phase for term in estimate.terms} - {"held"}
    sums = {p: sum(t.bytes for t in estimate.terms if t.phase == p) for p in phases}
    held = sum(t.bytes for t in estimate.terms if t.phase == "held")
    assert estimate.bytes == pytest.approx(held + max(sums.values()))
    assert sums[estimate.peak_phase] == max(sums.values())


@pytest.mark.parametrize(("devices", "gigabytes"), [(8, 24), (2, 80)])
def test_the_7b_3b_pair_fits_where_it_is_to_fit(devices: int, gigabytes: int) -> None:
    student, teacher = family_fragment("open_llama-3b"), family_fragment("open_llama-7b")
    layout = Layout("fsdp2", devices, "bf16-mixed")
    kept = kept_bytes(student, layout.precision)
    kd = TrainingRun(
        student=student.figures(),
        kept=kept,
        teachers=(teacher.merged().figures(),),
        layout=layout,
        records=max(1, 4 // devices),
        tokens=512,
        teacher_home=TeacherHome(shards=devices),
    )
    tuning = replace(
        kd,
        student=teacher.figures(),
        kept=kept_bytes(teacher, layout.precision),
        teachers=(),
        records=max(1, 8 // devices),
    )
    for run in (kd, tuning):
        assert estimate_memory(run).bytes < gigabytes * 1e9
    whole = replace(kd, teacher_home=TeacherHome(), layout=Layout("ddp", devices, "bf16-mixed"))
    assert estimate_memory(whole).bytes > 40e9


@pytest.fixture(scope="module")
def measured() -> dict[str, object]:
    return dict(json.loads((ROOT / "benchmarks/results/estimates.json").read_text()))


def rows_of(measured: dict[str, object]) -> list[Row]:
    listed = measured["memory"]
    assert isinstance(listed, list)
    return [Row(Case(**one["case"]), Peak(**one["peak"])) for one in listed]


def test_estimates_are_within_15_percent_of_measured_peaks(measured: dict[str, object]) -> None:
    for row in rows_of(measured):
        assert estimated_mb(row) == pytest.approx(row.peak.megabytes, rel=0.15), row.case.name


def test_the_fitted_figures_are_those_of_the_benchmark(measured: dict[str, object]) -> None:
    rows = rows_of(measured)
    assert asdict(fit(rows)) == pytest.approx(asdict(FITTED), rel=0.02)
    largest = max(abs(error) for error in left_out_errors(rows))
    assert largest <= LARGEST_ERROR <= largest + 0.01


def test_layouts_are_read_from_the_trainers_options() -> None:
    def found(**trainer: object) -> Layout:
        return layout_of(Settings({"trainer": {"accelerator": "gpu", **trainer}}))

    model_parallel = {"class_path": "lightning.pytorch.strategies.ModelParallelStrategy"}
    stages = {n: {"class_path": "x.DeepSpeedStrategy", "init_args": {"stage": n}} for n in (2, 3)}
    assert found(devices=1, strategy="fsdp") == Layout("single", 1)
    assert found(devices=4, num_nodes=2) == Layout("ddp", 8)
    assert found(devices="4", strategy=model_parallel) == Layout("fsdp2", 4)
    assert found(devices=[0, 1], strategy=stages[2]).strategy == "deepspeed_2"
    assert found(devices=2, precision="bf16").precision == "bf16-mixed"
    assert "--trainer.devices" in found().assumed
    for refused in ("xla", stages[3]):
        with pytest.raises(UnknownLayoutError, match="not modelled"):
            found(devices=2, strategy=refused)


def test_what_is_not_known_offline_is_said() -> None:
    published = {"family": "gpt2", "source": "openai-community/gpt2"}
    with pytest.raises(UnknownNetworkError, match="not on this machine"):
        network_of(Settings({"model": {"network": published}}), None)
    scratch = {"family": "gpt2", "config": {"n_layer": 1}}
    tree = {"model": {"network": scratch}, "data": {"tokenizer": "openai-community/gpt2"}}
    with pytest.raises(UnknownNetworkError, match="vocabulary"):
        network_of(Settings(tree), None)


def test_a_network_that_starts_from_another_cell_has_what_is_left_of_it() -> None:
    upstream = spec("gpt2", GPT2 | {"n_layer": 5}, LORA)
    tree = {"model": {"network": {"family": "gpt2", "depth_stride": 2}}}
    network = network_of(Settings(tree), upstream)
    assert network.figures().depth == 3
    assert network.figures().trainable == network.figures().parameters

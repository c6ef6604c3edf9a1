"""Estimated parameters and memory, against counts of real tensors and measured peaks."""

import json
from dataclasses import replace

import pytest
import torch
import yaml
from torch import Tensor

from benchmarks.estimates import Row, relative_error
from benchmarks.training_memory import Case, Peak
from kdmodules.models.causal_lm import CausalLM
from kdmodules.models.families import FAMILIES
from studies.plan.cells import Cell
from studies.plan.settings import Settings
from studies.run.estimates import estimate_cells
from studies.run.estimates.layout import Layout, UnknownLayoutError, layout_of
from studies.run.estimates.memory import Decoding, TeacherWeights, TrainingRun
from studies.run.estimates.networks import NetworkSpec, UnknownNetworkError, network_of
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
CPU = Layout("single", 1, on_cpu=True)
LORA = json.dumps({"r": 4, "alpha": 8, "dropout": 0.1, "targets": None})


def spec(family: str, config: dict[str, object], adapter: str = "") -> NetworkSpec:
    return NetworkSpec(family, json.dumps(config), adapter)


def family_fragment(name: str) -> NetworkSpec:
    path = ROOT / "configs/families" / f"{name}.yaml"
    return network_of(Settings(yaml.safe_load(path.read_text())), None)


def saved_bytes(network: NetworkSpec, tokens: int) -> float:
    """Bytes of all distinct tensors but weights that autograd holds after a real forward pass."""
    family = FAMILIES[network.family]
    config = family.config_class.from_dict(json.loads(network.config))
    model = family.model_class._from_config(config, attn_implementation="sdpa").train()
    weights = {one.untyped_storage().data_ptr() for one in model.parameters()}
    seen: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        seen.setdefault(tensor.untyped_storage().data_ptr(), tensor)
        return tensor

    ids = torch.zeros(3, tokens, dtype=torch.long)
    lm = CausalLM(model, 64)
    with (
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
        lm.in_step(dropout=True),
    ):
        lm.states(ids, torch.ones_like(ids))
    return sum(t.untyped_storage().nbytes() for p, t in seen.items() if p not in weights) / 3


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
    ("family", "config"),
    [
        ("gpt2", GPT2),
        ("gpt2", GPT2 | {"activation_function": "gelu_new"}),
        ("llama", LLAMA),
        ("opt", OPT | {"dropout": 0.0}),
        ("opt", OPT),
    ],
)
def test_what_autograd_keeps_of_a_block_is_that_of_a_real_forward_pass(
    family: str, config: dict[str, object]
) -> None:
    depth = "n_layer" if family == "gpt2" else "num_hidden_layers"
    three, two = (saved_bytes(spec(family, config | {depth: n}), tokens=20) for n in (3, 2))
    kept = spec(family, config).figures().kept
    assert 4 * kept == pytest.approx((three - two) / 20, rel=0.02)


def test_attention_dropout_keeps_square_matrices_on_a_cpu() -> None:
    network = spec("gpt2", GPT2 | {"attn_pdrop": 0.1})
    long, short = (saved_bytes(network, tokens) / tokens for tokens in (64, 32))
    runs = [run_of(network, layout=CPU, tokens=tokens) for tokens in (64, 32)]
    estimated = [terms(run)["step", "activations"] / (2 * run.tokens) for run in runs]
    assert long - short == pytest.approx(estimated[0] - estimated[1])
    assert estimated[0] > terms(run_of(network, tokens=64))["step", "activations"] / 128


def run_of(network: NetworkSpec, **changes: object) -> TrainingRun:
    run = TrainingRun(network.figures(), (), Layout("single", 1), records=2, tokens=16)
    return replace(run, **changes)


def terms(run: TrainingRun) -> dict[tuple[str, str], float]:
    return {(term.phase, term.name): term.bytes for term in run.memory.terms}


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
    assert found["held", "gradients"] == gradients * parameters
    assert (("held", "buckets of gradients") in found) == (strategy == "ddp")
    gathered = 2 * 4 * (run.student.root + 2 * run.student.block)
    sharded = strategy in ("fsdp", "fsdp2")
    name = ("held", "gathered weights and gradients")
    assert found.get(name, 0) == (gathered if sharded else 0)


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
    assert ("step", "gradient of the head") not in found
    assert student.trainable == 2 * 2 * 4 * (96 + 96)


def test_what_teachers_sampling_and_audits_take() -> None:
    network = spec("gpt2", GPT2)
    teacher = replace(network.figures(), parameters=1_000_000, root=1000, block=200)
    cache = 2 * 2 * 96 * 4
    run = run_of(
        network,
        teachers=(teacher,),
        writing=Decoding(8 * 50, (network.figures(),)),
        audit_tokens=700,
        audit_writes=True,
        reference=500,
    )
    found = terms(run)
    assert found["held", "teachers"] == 4e6
    assert found["writing", "keys and values"] == 8 * 50 * cache
    assert found["audit", "keys and values"] == 700 * cache
    assert found["audit", "reference model"] == 2000
    assert ("audit", "keys and values") not in terms(replace(run, audit_writes=False))
    gathered = 1000 + 2 * 200
    sharded = terms(replace(run, teacher_weights=TeacherWeights(bytes=2, shards=4)))
    assert sharded["held", "teachers"] == 2 * (250_000 + gathered)
    offloaded = terms(replace(run, teacher_weights=TeacherWeights(2, 4, offloaded=True)))
    assert offloaded["held", "teachers"] == 2 * gathered
    cached = terms(replace(run, teacher_weights=TeacherWeights(cached=True)))
    assert cached["held", "teachers' heads"] == 4 * 64 * 96
    assert ("held", "teachers") not in cached
    assert cached["audit", "teachers"] == 4e6


def test_recomputed_blocks_keep_their_inputs_and_one_block() -> None:
    run = run_of(spec("gpt2", GPT2 | {"n_layer": 5}))
    kept, recomputed = (
        terms(replace(run, checkpointed=flag))["step", "activations"] for flag in (False, True)
    )
    assert kept - recomputed == 32 * 4 * (4 * run.student.kept - 5 * 96)


def test_the_peak_is_what_is_held_and_the_largest_phase() -> None:
    estimate = run_of(spec("gpt2", GPT2), audit_tokens=10**6).memory
    assert estimate.peak_phase == "audit"
    phases = {term.phase for term in estimate.terms} - {"held"}
    sums = {p: sum(t.bytes for t in estimate.terms if t.phase == p) for p in phases}
    held = sum(t.bytes for t in estimate.terms if t.phase == "held")
    assert estimate.bytes == pytest.approx(held + max(sums.values()))


def cell_estimate(**options: str) -> TrainingRun:
    """The run that a cell's options come to, of one scratch network."""
    network = json.dumps({"family": "gpt2", "config": {**GPT2, "n_positions": 512}})
    given = {"model": "kdmodules.StudentModule", "model.network": network, **options}
    words = [word for name, value in given.items() for word in (f"--{name}", value)]
    cell = Cell("x", "x", "s", "s", None, "f", "s", 1, 1, {}, "x", "e", ("fit", *words), 1)
    run = estimate_cells((cell,))["x"].run
    assert run is not None
    return run


@pytest.mark.parametrize(
    ("source", "rows", "new"),
    [("DatasetResponses", 0, 0), ("StudentResponses", 8, 100), ("TeacherMixedRollouts", 64, 100)],
)
def test_classes_say_who_writes(source: str, rows: int, new: int) -> None:
    """A student writes for its own micro-batch, rollouts for a round; 256 tokens of a prompt."""
    options = "mixture" if source == "TeacherMixedRollouts" else "sampling"
    run = cell_estimate(
        **{
            "data.batch_size": "8",
            "data.max_prompt_tokens": "256",
            "model.responses": f"kdmodules.responses.{source}",
            f"model.responses.{options}.max_new_tokens": "100",
        }
        if rows
        else {"model.responses": f"kdmodules.responses.{source}"}
    )
    assert (run.writing.tokens if run.writing else 0) == rows * (256 + new)


def test_audits_say_whether_they_write_and_attacks_whether_they_refer() -> None:
    audits = [
        {"class_path": "callbacks.UtilityAudit"},
        {
            "class_path": "callbacks.MembershipAudit",
            "init_args": {
                "max_batch_tokens": 9000,
                "attacks": [{"class_path": "audits.membership.attacks.Reference"}],
            },
        },
    ]
    network = {"model.network.source": "somewhere"}
    both, last = (
        cell_estimate(**network, **{"trainer.callbacks": json.dumps(listed)})
        for listed in (audits, audits[1:])
    )
    assert (both.audit_writes, last.audit_writes) == (True, False)
    assert both.audit_tokens == 9000
    assert both.reference == both.student.parameters
    assert cell_estimate(**network).reference == 0


@pytest.mark.parametrize(("devices", "gigabytes"), [(8, 24), (2, 80)])
def test_the_7b_3b_pair_fits_where_it_is_to_fit(devices: int, gigabytes: int) -> None:
    student, teacher = family_fragment("open_llama-3b"), family_fragment("open_llama-7b")
    layout = Layout("fsdp2", devices, "bf16-mixed")
    kd = TrainingRun(
        student=student.figures(),
        teachers=(teacher.merged().figures(),),
        layout=layout,
        records=max(1, 4 // devices),
        tokens=512,
        teacher_weights=TeacherWeights(shards=devices),
    )
    tuning = replace(
        kd,
        student=teacher.figures(),
        teachers=(),
        records=max(1, 8 // devices),
    )
    for run in (kd, tuning):
        assert run.memory.bytes < gigabytes * 1e9
    whole = replace(
        kd, teacher_weights=TeacherWeights(), layout=Layout("ddp", devices, "bf16-mixed")
    )
    assert whole.memory.bytes > 40e9


@pytest.fixture(scope="module")
def measured() -> dict[str, object]:
    return dict(json.loads((ROOT / "benchmarks/results/estimates.json").read_text()))


def rows_of(measured: dict[str, object]) -> list[Row]:
    listed = measured["memory"]
    assert isinstance(listed, list)
    return [Row(Case(**one["case"]), Peak(**one["peak"])) for one in listed]


def test_estimates_against_measured_peaks(measured: dict[str, object]) -> None:
    """The documentation states these limits; the first is GPT-2 small's tokenizer."""
    errors = [relative_error(row) for row in rows_of(measured)]
    assert -0.045 < min(errors) < 0 < max(errors) < 0.285
    assert errors == pytest.approx(measured["errors"])


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

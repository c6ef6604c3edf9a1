"""Techniques whose own paper differs from the default: the objects that their files build."""

from lightning.pytorch.cli import LightningArgumentParser

from kdmodules.losses import DatasetTargets, ForwardKL, TeacherTopK
from kdmodules.responses import MixedResponses
from tests.configs.conftest import build, compose


def test_imitkd_of_its_paper(parser: LightningArgumentParser) -> None:
    listed = ["base/student", "data/builtin", "families/gpt2-tiny", "techniques/imitkd_paper"]
    model = build(parser, compose(parser, *listed)).model
    objective, source = model.kd_loss, model.responses
    assert type(objective) is DatasetTargets
    assert type(objective.objective) is TeacherTopK
    assert (type(objective.objective.objective), objective.objective.k) == (ForwardKL, 1)
    assert type(source) is MixedResponses
    assert (source.coin, source.dataset_decay, source.sampling.decoding) == (
        "record",
        200.0,
        "greedy",
    )
    assert model.lm_coef == 0


def test_its_other_settings_are_options(parser: LightningArgumentParser) -> None:
    fragments = ["base/student", "data/builtin", "families/gpt2-tiny", "techniques/imitkd_paper"]
    arguments = [part for name in fragments for part in ("-c", f"configs/{name}.yaml")]
    options = {
        "teacher": "T",
        "responses.sampling.decoding": "sample",
        "responses.sampling.top_k": "5",
        "responses.dataset_decay": "10",
        "kd_loss": "kdmodules.losses.ForwardKL",
    }
    arguments += [f"--model.{name}={value}" for name, value in options.items()]
    model = build(parser, parser.parse_args(["fit", *arguments])).model
    assert (model.responses.sampling.decoding, model.responses.sampling.top_k) == ("sample", 5)
    assert model.responses.dataset_decay == 10
    assert type(model.kd_loss) is ForwardKL

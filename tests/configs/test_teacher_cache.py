"""The fragments of the cached teacher, alone and with options over them."""

import pytest
from lightning.pytorch.cli import LightningArgumentParser

from kdmodules.teacher_cache import TeacherCache
from tests.configs.conftest import build, compose

STUDENT = ("base/student", "data/builtin", "families/gpt2-tiny")


def test_a_technique_of_fixed_text_takes_a_cache(parser: LightningArgumentParser) -> None:
    config = compose(parser, *STUDENT, "techniques/kd", "teacher_cache/full")
    assert build(parser, config).model.teacher_cache == TeacherCache()
    config.fit.model.init_args.teacher_cache.folder = "runs/shared"
    dumped = parser.dump(config)
    again = parser.parse_string(dumped)
    assert parser.dump(again) == dumped
    assert build(parser, again).model.teacher_cache == TeacherCache("runs/shared")


def test_the_likeliest_tokens_alone(parser: LightningArgumentParser) -> None:
    config = compose(parser, *STUDENT, "techniques/seqkd_soft", "teacher_cache/top_k")
    assert build(parser, config).model.teacher_cache == TeacherCache(kind="top_k", k=64)


def test_without_the_fragment_there_is_none(parser: LightningArgumentParser) -> None:
    config = compose(parser, *STUDENT, "techniques/gkd")
    assert build(parser, config).model.teacher_cache is None


def test_a_technique_that_samples_is_refused(parser: LightningArgumentParser) -> None:
    config = compose(parser, *STUDENT, "techniques/gkd", "teacher_cache/full")
    with pytest.raises(ValueError, match="cannot serve MixedResponses"):
        build(parser, config)

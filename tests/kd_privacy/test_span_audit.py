"""`kd_privacy.audit(..., spans=...)`: figures on page, in audit.json and card; ids in private/."""

import json
from pathlib import Path

import pandas as pd
import pytest
from transformers import PreTrainedTokenizerFast

import kd_privacy
from audits.model_card.span_section import span_section
from audits.spans.options import SpanOptions
from common.errors import UserError
from datamodules.synthetic import generate_records
from kd_privacy.audit_cli import audit_parser
from tests.kd_privacy.small_models import tiny

SIDES = [generate_records(90, seed) for seed in (1, 2)]
SPANS = SpanOptions(samples=2, sampled_records=2, answer_tokens=8, top_k=0)


@pytest.fixture(scope="module")
def found(tokenizer: PreTrainedTokenizerFast) -> kd_privacy.Audit:
    options = {"template": "alpaca", "progress": False, "spans": SPANS}
    return kd_privacy.audit(tiny("gpt2", tokenizer), tokenizer, *SIDES, **options)


def test_everything_that_is_saved_tells_of_spans_and_none_says_them(
    found: kd_privacy.Audit, tmp_path: Path
) -> None:
    page = found.save(tmp_path / "out").read_text(encoding="utf-8")
    assert "probability of a span, asked by its instruction" in page
    assert "generic prompts: answers that hold one of" in str(found)
    told = json.loads((tmp_path / "out" / "audit.json").read_text(encoding="utf-8"))
    metrics = {one["metric"] for one in told["figures"]}
    assert {"span_probability", "span_preferred_gap", "longest_common_tokens"} <= metrics
    worst = pd.read_csv(tmp_path / "out" / "private" / "worst_spans.csv")
    members = {one.content for one in SIDES[0]}
    assert len(worst) == 10
    assert set(worst.record) <= members
    secrets = [
        span.text for side in SIDES for r in side for span in r.sensitive if len(span.text) > 5
    ]
    files = [path for path in (tmp_path / "out").rglob("*") if path.suffix in (".html", ".json")]
    for text in (page, str(found), *(path.read_text(encoding="utf-8") for path in files)):
        assert not [secret for secret in secrets if secret in text]
    card = span_section(found.rows)
    assert "| probability of a span, the text before it given | external minus held_out |" in card


def test_a_gate_may_name_a_span(found: kd_privacy.Audit) -> None:
    way = "samples=2, temperature=1.0, top_k=0, top_p=1.0"
    line = f"spans/sensitive_span ({way}).span_answered.value"
    assert not found.failures([f"{line} > 0.5"])
    assert found.failures([f"{line} <= 0.5"])


def test_what_cannot_be_looked_for_is_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    bare = [{"instruction": r.instruction, "response": r.response} for r in SIDES[0][:8]]
    other = [{"instruction": r.instruction, "response": r.response} for r in SIDES[1][:8]]
    model, options = tiny("gpt2", tokenizer), {"template": "alpaca", "progress": False}
    with pytest.raises(UserError, match="'external' has sensitive spans: give the records"):
        kd_privacy.audit(model, tokenizer, bare, other, spans=True, **options)
    with pytest.raises(UserError, match="detect_pii is 'nothing': choose presidio"):
        kd_privacy.audit(model, tokenizer, bare, other, detect_pii="nothing", **options)
    assert audit_parser().parse_args(["M", "--members=A", "--nonmembers=B", "--spans"]).spans

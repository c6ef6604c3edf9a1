"""The card's front matter parses, its figures are those of the rows, and it gives no path away."""

import pytest
import yaml

from callbacks.export.model_card import DataDescription, model_card
from kdmodules.adapters import Adapter

IDENTITY = {
    "run": "student",
    "role": "student",
    "family": "gpt2",
    "size": "tiny",
    "technique": "kd",
    "seed": 7,
}
DATA = DataDescription(
    source="/home/someone/secret-project/clients.jsonl",
    split="public",
    counts={"private": 300, "held_out": 290},
    protocol="swap",
    manifest="ab12",
)
VERSIONS = {"torch": "2.13.0", "kd-privacy": "0.1.0"}


def row(**columns: object) -> dict[str, object]:
    return {
        "step": 10,
        "audit": "membership",
        "population": "private",
        "task": None,
        "block": None,
        "run_b": None,
        "name": "loss",
        "params": "{}",
        "metric": "auroc",
        "value": 0.71234,
        "lower": 0.65,
        "upper": 0.77,
        "n_members": 300,
        "n_nonmembers": 290,
        "shifted": None,
    } | columns


def front_matter(card: str) -> dict[str, object]:
    opening, text, _ = card.split("---\n", 2)
    assert opening == ""
    return yaml.safe_load(text)


def section(card: str, title: str) -> str:
    return card.split(f"## {title}\n", 1)[1].split("\n## ", 1)[0]


def test_the_front_matter_is_yaml_that_the_hub_reads() -> None:
    card = model_card(IDENTITY, [], VERSIONS, DATA, base_model="openai-community/gpt2")
    fields = front_matter(card)
    assert fields["library_name"] == "transformers"
    assert fields["pipeline_tag"] == "text-generation"
    assert fields["base_model"] == "openai-community/gpt2"
    assert {"kd", "student"} <= set(fields["tags"])
    hostile = model_card(IDENTITY | {"technique": "a: b\n---\n- c"}, [], VERSIONS, DATA)
    assert front_matter(hostile)["tags"][-2] == "a: b --- - c"


def test_the_privacy_table_holds_the_last_overall_figures() -> None:
    rows = [
        row(step=5, value=0.9),
        row(),
        row(task="open_qa", value=0.99),
        row(block=1, value=0.98),
        row(run_b="control", value=0.97),
        row(metric="tpr_at_fpr_0.01", value=0.1, lower=0.05, upper=0.2),
        row(name="min_k", params='{"k": 0.2}', shifted=False, lower=None, upper=None),
        row(name="zlib", shifted=True),
        row(name="blind", metric="p_value", value=0.5),
    ]
    privacy = section(model_card(IDENTITY, rows, VERSIONS, DATA), "Privacy")
    table = [line for line in privacy.splitlines() if line.startswith("|")]
    assert table[2:] == [
        "| loss | private against non-members | 0.712 [0.650, 0.770] | 0.100 [0.050, 0.200] "
        "| 300 | 290 | not settled |",
        "| min_k (k=0.2) | private against non-members | 0.712 [no interval] | not measured "
        "| 300 | 290 | no |",
        "| zlib | private against non-members | 0.712 [0.650, 0.770] | not measured "
        "| 300 | 290 | yes |",
    ]
    assert "a lower bound" in privacy


def test_a_figure_without_value_is_not_measurable() -> None:
    rows = [row(), row(metric="tpr_at_fpr_0.01", value=None, lower=None, upper=None)]
    assert "| not measurable |" in section(model_card(IDENTITY, rows, VERSIONS, DATA), "Privacy")


def test_utility_stands_beside_privacy_at_its_own_last_step() -> None:
    rows = [
        row(step=30),
        row(audit="utility", name="rouge_l", metric="f1", value=0.3, lower=0.2, upper=0.4, step=20),
        row(audit="utility", name="rouge_l", metric="f1", value=0.1, step=10),
    ]
    utility = section(model_card(IDENTITY, rows, VERSIONS, DATA), "Utility")
    assert "| rouge_l | f1 | private | 0.300 [0.200, 0.400] | 290 |" in utility
    assert "0.100" not in utility


def test_missing_audits_are_said_to_be_missing() -> None:
    card = model_card(IDENTITY, [], VERSIONS, DATA)
    assert "nothing is known" in section(card, "Privacy")
    assert "No utility audit" in section(card, "Utility")


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("/home/someone/secret-project/clients.jsonl", "clients.jsonl"),
        ("~/secret-project/clients.jsonl", "clients.jsonl"),
        ("../secret-project/clients.jsonl", "clients.jsonl"),
        (r"C:\secret-project\clients.jsonl", "clients.jsonl"),
        ("databricks/databricks-dolly-15k", "databricks/databricks-dolly-15k"),
    ],
)
def test_only_the_name_of_a_file_is_printed(source: str, shown: str) -> None:
    data = DataDescription(source, "private", {}, "swap")
    card = model_card(IDENTITY, [], VERSIONS, data, base_model=source)
    assert f"| source | {shown} |" in card
    assert front_matter(card)["base_model"] == shown
    assert "secret-project" not in card


def test_counts_versions_and_identity_are_listed() -> None:
    card = model_card(IDENTITY | {"size": None}, [], VERSIONS, DATA)
    assert "| records, private | 300 |" in card
    assert "| split manifest | ab12 |" in card
    assert "| torch | 2.13.0 |" in card
    assert "| seed | 7 |" in card
    assert "| size |" not in card


def test_an_adapter_is_named_with_its_figures() -> None:
    adapter = Adapter(r=8, alpha=32, dropout=0.05, targets=["q_proj", "v_proj"])
    card = model_card(IDENTITY, [], VERSIONS, DATA, adapter=adapter)
    told = "Only a LoRA adapter was trained (r 8, alpha 32, dropout 0.05 on q_proj, v_proj)"
    assert told in card
    assert "LoRA" not in model_card(IDENTITY, [], VERSIONS, DATA)


def test_cells_cannot_break_the_table() -> None:
    card = model_card(IDENTITY | {"size": "a|b\n<i>"}, [], VERSIONS, DATA)
    assert "| size | a\\|b &lt;i> |" in card


def test_a_run_needs_a_name() -> None:
    with pytest.raises(ValueError, match="name"):
        model_card({"role": "student"}, [], VERSIONS, DATA)

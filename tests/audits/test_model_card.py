"""The card's front matter parses, its figures are those of the rows, and it gives no path away."""

import pytest
import yaml
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import eval_results_to_model_index

from audits.answer import model_answer
from audits.answer.sentence import single_answer
from audits.model_card.card import DataDescription, model_card
from kdmodules.models.adapters import Adapter

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


def test_the_answer_comes_first_and_stands_in_the_front_matter() -> None:
    rows = [
        row(),
        row(metric="tpr_at_fpr_0.1", value=0.41, lower=0.3, upper=0.5),
        row(metric="tpr_at_fpr_0.01", value=None, lower=None, upper=None, n_nonmembers=40),
        row(
            audit="utility", name="perplexity", metric="perplexity", value=12.5, population="never"
        ),
    ]
    model = model_answer(rows, label="Student", run="student", role="student")
    answer = single_answer(model, {"membership", "utility"}, ["the sides may differ"])
    card = model_card(IDENTITY, rows, VERSIONS, DATA, answer=answer)
    first = ModelCard(card).text.split("## ")[0]
    assert first.index("# student") < first.index(answer.sentence) < first.index("Field")
    assert "| membership: Loss | 0.712 [0.650, 0.770] | 300 + 290 records | non-members | " in first
    assert "| undecided |" in first
    assert "10 false accusations per 100 | 41 of 100 [30, 50] |" in first
    assert "1 false accusations per 100 | not measurable with 40 non-members |" in first
    assert "**Caution:** the sides may differ" in first
    assert "memorization: " in first.split("**Not tested:**")[1]
    read = {one.metric_type: one for one in ModelCard(card).data.eval_results}
    assert {name: one.metric_value for name, one in read.items()} == {
        "auroc": 0.71234,
        "tpr_at_fpr_0.1": 0.41,
        "perplexity": 12.5,
    }
    assert {(one.task_type, one.dataset_name) for one in read.values()} == {
        ("text-generation", "private records")
    }
    assert read["auroc"].metric_args["lower"] == 0.65
    assert (
        eval_results_to_model_index("student", list(read.values()))
        == (front_matter(card)["model-index"])
    )


def section(card: str, title: str) -> str:
    return card.split(f"## {title}\n", 1)[1].split("\n## ", 1)[0]


def test_the_front_matter_is_yaml_that_the_hub_reads() -> None:
    card = model_card(IDENTITY, [], VERSIONS, DATA, base_model="openai-community/gpt2")
    fields = front_matter(card)
    assert fields["library_name"] == "transformers"
    assert fields["pipeline_tag"] == "text-generation"
    assert fields["base_model"] == "openai-community/gpt2"
    assert {"kd", "student"} <= set(fields["tags"])
    read = ModelCard(card)
    assert read.data.to_dict() == fields
    assert read.data.base_model == "openai-community/gpt2"
    assert read.text.startswith("\n# student\n")
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
        row(name="blind", value=0.5),
    ]
    privacy = section(model_card(IDENTITY, rows, VERSIONS, DATA), "Privacy")
    table = [line for line in privacy.splitlines() if line.startswith("|")]
    assert table[2:] == [
        "| loss | private against non-members | 0.712 [0.650, 0.770] | 0.100 [0.050, 0.200] "
        "| 300 | 290 | not settled | undecided: AUROC above chance, and the texts are not shown to "
        "be of one distribution |",
        "| min_k (k=0.2) | private against non-members | 0.712 [no interval] | not measured "
        "| 300 | 290 | no | undecided: no interval |",
        "| zlib | private against non-members | 0.712 [0.650, 0.770] | not measured "
        "| 300 | 290 | yes | undecided: AUROC above chance, and the texts alone tell the record "
        "sets apart |",
    ]
    assert "a lower bound" in privacy


def test_a_verdict_stands_beside_its_interval_and_its_rules() -> None:
    rows = [
        row(shifted=False),
        row(name="zlib", value=0.52, lower=0.46, upper=0.58, shifted=False),
    ]
    privacy = section(model_card(IDENTITY, rows, VERSIONS, DATA), "Privacy")
    assert "| no | leaks: AUROC above chance |" in privacy
    assert (
        "| no | nothing shown: an AUROC of 0.585 would have been seen; about 1,400 clu" in privacy
    )
    assert "hold for these weights" in privacy
    assert "*Undecided*" in privacy


def test_a_verdict_reads_the_certified_tail_of_its_own_attack() -> None:
    def tail(lower: float, upper: float, **columns: object) -> dict[str, object]:
        bounds = {"value": 0.02, "lower": lower, "upper": upper}
        return row(metric="tpr_certified_at_fpr_0.01", shifted=False) | bounds | columns

    near = {"value": 0.5, "lower": 0.48, "upper": 0.52, "shifted": False}
    rows = [
        row(**near),
        tail(0.0, 0.028),
        row(name="zlib", **near),
        tail(0.031, 0.06, name="zlib"),
        row(name="min_k", **near),
    ]
    privacy = section(model_card(IDENTITY, rows, VERSIONS, DATA), "Privacy")
    verdicts = [line.split(" | ")[-1] for line in privacy.splitlines() if line.startswith("| ")][2:]
    assert verdicts[0].startswith("clean: for these attacks; up to 2% of members may be fully exp")
    assert verdicts[1] == "leaks: TPR at 1% FPR at least 0.031 |"
    assert verdicts[2].startswith("nothing shown")
    assert "about 1,400 clusters of records a side" in privacy


def coins(dealt: bool = True, **columns: object) -> dict[str, object]:
    return row(name="balance", metric="dealt_by_coins", value=float(dealt), lower=None) | columns


@pytest.mark.parametrize("shifted", [None, True, False])
def test_where_coins_dealt_the_sides_their_texts_cap_no_verdict(shifted: bool | None) -> None:
    texts = {None: "not settled", True: "yes", False: "no"}[shifted]
    area = row(value=0.993, lower=0.983, upper=0.997, shifted=shifted)
    other = row(population="public", value=0.993, lower=0.983, upper=0.997, shifted=shifted)
    gap = row(
        audit="memorization",
        name="token_accuracy",
        metric="token_accuracy_gap",
        params='{"against": "held_out"}',
        lower=0.01,
        upper=0.05,
    )
    rows = [area, other, gap, coins(), coins(False, population="public")]
    card = model_card(IDENTITY, rows, VERSIONS, DATA)
    dealt, not_dealt = section(card, "Privacy").split("\n")[3:5]
    assert f"| {texts}; coins dealt the sides | leaks: AUROC above chance |" in dealt
    word = "leaks" if shifted is False else "undecided"
    assert f"| {texts} | {word}: AUROC above chance" in not_dealt
    assert "coins dealt the sides | leaks: above chance |" in section(card, "Memorization")
    # A memorization audit knows it of itself.
    alone = [gap, coins(audit="memorization")]
    told = section(model_card(IDENTITY, alone, VERSIONS, DATA), "Memorization")
    assert "| not settled; coins dealt the sides | leaks: above chance |" in told


def test_the_one_run_epsilon_is_printed_where_there_is_one() -> None:
    def epsilon(params: str, lower: float | None, **columns: object) -> dict[str, object]:
        return row(metric="epsilon_lower", params=params, value=lower, lower=lower) | columns

    rows = [
        row(),
        coins(),
        epsilon('{"delta": 0.00056, "unit": "cluster"}', 1.234, n_members=280, n_nonmembers=270),
        epsilon("{}", None),
        epsilon('{"k": 0.2}', 0.0, name="min_k", population="canary_in"),
    ]
    privacy = section(model_card(IDENTITY, rows, VERSIONS, DATA), "Privacy")
    table = [line for line in privacy.splitlines() if line.startswith("|")][3:]
    assert table[2:] == [
        "| loss | private | 1.234 | 0.00056 | cluster | 550 |",
        "| min_k (k=0.2) | canary_in | 0.000 | 0 | cluster of near-duplicates | 590 |",
    ]
    assert "95% confidence" in privacy
    assert "Epsilon" not in section(model_card(IDENTITY, rows[:2], VERSIONS, DATA), "Privacy")


def test_memorization_is_the_gap_to_held_out_records_over_all_lengths() -> None:
    def gap(params: str, **columns: object) -> dict[str, object]:
        columns = {"metric": "token_accuracy_gap", "lower": 0.01, "upper": 0.05} | columns
        return row(audit="memorization", name="token_accuracy", params=params, value=0.03) | columns

    rows = [
        gap('{"against": "held_out", "tokens": 32}', n_members=88),
        gap('{"against": "held_out", "tokens": 32}', step=5, n_members=87),
        gap('{"against": "never", "tokens": 32}', n_members=86),
        gap('{"against": "held_out", "length": "32+"}', n_members=85),
        gap('{"against": "held_out"}', metric="similarity_gap", n_members=84),
        gap('{"against": "held_out"}', metric="extraction_strength_gap", lower=-0.02),
    ]
    shown = section(
        model_card(IDENTITY, [*rows, row(shifted=False)], VERSIONS, DATA), "Memorization"
    )
    table = [line for line in shown.splitlines() if line.startswith("|")]
    assert table[2:] == [
        "| token_accuracy (tokens=32) | private minus held_out | 0.030 [0.010, 0.050] | 88 | 290 "
        "| no | leaks: above chance |",
        "| extraction_strength | private minus held_out | 0.030 [-0.020, 0.050] | 300 | 290 "
        "| no | nothing shown: a gap of 0.050 would have been seen |",
    ]
    # Without a membership audit nobody has asked whether the texts differ.
    alone = section(model_card(IDENTITY, rows, VERSIONS, DATA), "Memorization")
    assert "| not settled | undecided: above chance, and the texts" in alone
    (last,) = [line for line in alone.splitlines() if line.startswith("| extraction_strength")]
    assert "; were they, a gap of 0.050 would have been seen" in last
    only = section(model_card(IDENTITY, rows[2:3], VERSIONS, DATA), "Memorization")
    assert "No figure of what these weights write" in only


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
    assert "No memorization audit" in section(card, "Memorization")


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


def test_the_card_says_what_the_weights_were_fitted_on() -> None:
    data = DataDescription("corpus.jsonl", "held_out", {"private": 300, "held_out": 290}, "swap")
    taught = section(model_card(IDENTITY, [], VERSIONS, data), "Training data")
    assert "Fitted on the *held_out* split, 290 records. A teacher took part" in taught
    alone = section(model_card(IDENTITY | {"technique": None}, [], VERSIONS, DATA), "Training data")
    assert "Fitted on the *public* split.\n" in alone
    assert "teacher" not in alone


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

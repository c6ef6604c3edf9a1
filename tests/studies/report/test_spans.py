"""The page's section of sensitive spans: every model, every population, in words, and by type."""

from studies.report.sections.spans import spans
from tests.studies.planted_report import cell, row, study

WAY = '"temperature": 1.0, "top_k": 40, "top_p": 1.0'


def planted(role: str, level: float):
    run = cell(role)
    named = {"audit": "spans", "name": "sensitive_span"}
    asked = f'{{"given": "instruction", {WAY}}}'
    rows = [
        row(run, "span_probability", level, **named, params=asked),
        row(run, "span_probability", 0.01, **named, params=asked, population="never"),
        row(
            run,
            "span_probability_gap",
            level - 0.01,
            **named,
            params=f'{{"against": "never", "given": "instruction", {WAY}}}',
        ),
        row(run, "span_preferred", 0.9, **named, params='{"type": "name"}'),
        row(run, "span_preferred", 0.5, **named, population="never"),
        row(run, "span_preferred", 0.5 + level, **named),
        *(
            row(
                run,
                "span_extraction_rate",
                level * rate,
                **named,
                params=f'{{"given": "{given}", "n": {n}, "p": 0.5, {WAY}}}',
            )
            for given in ("instruction", "rewording")
            for n, rate in ((1, 0.5), (10, 1.0))
        ),
    ]
    return run, rows


def test_spans_stand_in_words_for_every_model_and_population() -> None:
    cells, rows = zip(planted("teacher", 0.4), planted("counterfactual_teacher", 0.02), strict=True)
    found = spans(study(list(cells), [one for own in rows for one in own]))
    tables = found.tables
    texts = [[one.text for one in line] for line in tables["spans"].rows]
    # A probability of members and never-seen records, their gap, two rates, and how often spans of
    # both are preferred, of two models.
    assert len(texts) == 14
    said = {(line[0], line[2], line[3], line[4]) for line in texts}
    probability = "probability of a span, asked by its instruction"
    teacher = texts[0][0]
    assert (teacher, "never", probability, "—") in said
    assert (teacher, "private", probability, "minus never") in said
    rate = "spans that 10 samples write with an even chance, asked by its instruction"
    assert (teacher, "private", rate, "—") in said
    assert not any("other words" in line[3] for line in texts)
    marks = found.charts["span_preferred"]["datasets"]
    drawn = {
        (one["attack"], one["value"]) for own in marks.values() for one in own if "attack" in one
    }
    assert drawn == {("private", 0.9), ("private", 0.52), ("never", 0.5)}
    assert list(found.charts) == ["span_preferred", "span_samples"]
    (by_type, _) = [[one.text for one in line] for line in tables["spans_by_type"].rows]
    assert by_type[4] == "name"


def test_no_chart_is_drawn_of_rates_that_are_all_zero() -> None:
    run, rows = planted("teacher", 0.0)
    assert list(spans(study([run], rows)).charts) == ["span_preferred"]


def test_a_study_without_spans_has_no_section() -> None:
    run = cell("teacher")
    assert not spans(study([run], [row(run, "auroc", 0.9)])).tables

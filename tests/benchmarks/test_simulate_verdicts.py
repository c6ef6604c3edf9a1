"""The simulation of verdicts' words counts what it says, and its targets can be missed."""

from dataclasses import replace

from benchmarks.simulate_verdicts import Audit, Cell, Population, Row, cells, page, simulate


def test_a_few_audits_of_every_kind() -> None:
    small = [replace(one, population=replace(one.population, n=400)) for one in cells()]
    for population in dict.fromkeys(one.population for one in small):
        own = [one for one in small if one.population == population]
        rows = simulate(own, 2)
        assert rows == simulate(own, 2)
        assert all(0 <= row.yes <= 2 for row in rows)


def test_a_leak_is_told_and_clusters_count() -> None:
    open_book = Population("half exposed", 400, exposed=0.5)
    (leak,) = simulate([Cell(open_book, "leaks", lambda audit: audit.word() == "leaks")], 3)
    assert leak.yes == 3
    clustered = Population("clusters", 1_200, clustered=True)
    alarms = [
        Cell(clustered, "ignored", lambda audit: audit.is_alarming(clusters=False)),
        Cell(clustered, "counted", Audit.is_alarming, at_most=0.001),
    ]
    ignored, counted = simulate(alarms, 200)
    # Of AUROCs whose spread is twice as large as it is taken for, one in ten is beyond 3.3 of it.
    assert ignored.yes >= 8
    assert counted.yes <= 2


def test_a_target_allows_for_the_simulation_s_own_error_and_no_more() -> None:
    cell = Cell(Population("no leak", 200), "leaks", lambda audit: True, at_most=0.05)
    assert [Row(cell, 1_000, yes).met for yes in (50, 73, 74, 80)] == [True, True, False, False]
    least = replace(cell, at_most=None, at_least=0.8)
    assert [Row(least, 1_000, yes).met for yes in (800, 761, 750)] == [True, True, False]
    assert Row(replace(cell, at_most=None), 10, 10).met is None
    text = page([Row(cell, 1_000, 80)], "command", 1.0)
    assert "| no leak | 200 | leaks | 1,000 | 0.080 | <= 0.05 | NO |" in text
    assert "1 of 1 targets missed" in text

"""The numbers on the pages are those of the board, each with its interval."""

from __future__ import annotations

import json

import pytest

from leaderboard.board.schema import Entry, Leaderboard, SuiteBoard
from leaderboard.scores.cells import Classes
from leaderboard.scores.outcome_shares import outcome_shares
from leaderboard.scores.values import Estimate
from leaderboard.site.addresses import entry_key, entry_page, suite_page
from leaderboard.site.compared import differences
from tests.leaderboard.site.reading import Cell, Page, Table


def drawn(cell: Cell) -> tuple[float | None, ...]:
    """What a cell says to scripts: the value, and the ends of its interval."""
    given = [cell.attributes.get(f"data-{part}") for part in ("value", "low", "high")]
    return tuple(None if one is None else float(one) for one in given)


def expected(one: Estimate) -> tuple[object, ...]:
    ends = (one.interval.low, one.interval.high) if one.interval else (None, None)
    return tuple(None if end is None else pytest.approx(end, abs=1e-4) for end in (one.value, *ends))


def entry_of(board: SuiteBoard, name: str) -> Entry:
    return next(entry for entry in board.entries if entry.defense.name == name)


def page_of(site: dict[str, Page], board: SuiteBoard, name: str) -> Page:
    return site[entry_page(board.suite, entry_of(board, name))]


def test_the_board_has_every_entry_with_its_score(site: dict[str, Page], board: Leaderboard) -> None:
    for one in board.suites:
        table = site[suite_page(one.suite)].tables[0]
        assert [drawn(cell) for cell in table.column("WRS")] == [expected(entry.headline.wrs) for entry in one.entries]
        assert len(table.rows) == 1 + len(one.entries)


def test_areas_of_scored_threat_models_have_a_column_and_others_none(site: dict[str, Page], board: Leaderboard) -> None:
    table = site[suite_page(board.suites[0].suite)].tables[0]
    areas = [head for head in table.heads if head.startswith("Area")]
    assert areas == ["Area, before edit", "Area, soft suffix", "Area, token suffix"]


def test_why_an_entry_is_not_ranked_stands_beside_it(site: dict[str, Page], board: Leaderboard) -> None:
    table = site[suite_page(board.suites[0].suite)].tables[0]
    said = {row[1].text for row in table.rows if "utility retained is 0.900" in row[1].text}
    assert len(said) == 1 and "Steering" in said.pop()


def test_withdrawn_entries_stay_and_say_why(site: dict[str, Page], board: Leaderboard) -> None:
    table = site[suite_page(board.suites[0].suite)].tables[0]
    row = next(place for place, found in enumerate(table.row_attributes) if found.get("class") == "withdrawn")
    assert "withdrawn: the code looked at its caller" in table.rows[row][1].text


def test_withdrawn_entries_are_not_among_the_best(site: dict[str, Page]) -> None:
    assert "Wall" not in [cell.text for cell in site["index.html"].tables[0].column("Defense")]


def test_attempts_are_counted_by_organisation(site: dict[str, Page], board: Leaderboard) -> None:
    table = next(one for one in site[suite_page(board.suites[0].suite)].tables if one.caption.startswith("Attempts"))
    assert [[cell.text for cell in row] for row in table.rows[1:]] == [
        ["Institute of Clamps", "3", "2", "1"],
        ["University", "3", "1", "0"],
    ]


def test_every_figure_has_one_table(site: dict[str, Page]) -> None:
    for page in site.values():
        assert len(page.plotted) == len(page.figures)


def test_curves_are_drawn_from_the_numbers_of_the_board(site: dict[str, Page], board: Leaderboard) -> None:
    page, entry = page_of(site, board.suites[0], "clamp"), entry_of(board.suites[0], "clamp")
    tables = {table.caption: table for table in page.tables}
    for task, result in entry.per_task.items():
        for name, threat in (
            ("before_edit", "before edit"),
            ("after_edit", "after edit"),
            ("soft_suffix", "soft suffix"),
        ):
            table, curve = tables[f"RS of {task} under {threat}"], result.curves[name]
            assert [drawn(cell) for cell in table.column("every recovery counts")] == [
                expected(one) for one in (result.rs0, *curve.raw.rs)
            ]
            assert [float(row["data-x"]) for row in table.row_attributes[1:]] == [0, *curve.budgets]


def test_diagnostic_curves_within_tau_are_lines_of_their_own(site: dict[str, Page], board: Leaderboard) -> None:
    page = page_of(site, board.suites[0], "clamp")
    table = next(one for one in page.tables if one.caption == "RS of ioi under after edit")
    assert [head for head in table.heads if "drift" in head] == [
        "only recoveries with drift within tau count",
        "only recoveries with drift within study limit count",
    ]


def test_recovery_is_drawn_against_drift_with_tau(site: dict[str, Page], board: Leaderboard) -> None:
    page, entry = page_of(site, board.suites[0], "clamp"), entry_of(board.suites[0], "clamp")
    figures = [one for one in page.figures if one["data-plot"] == "points"]
    assert [one["data-tau"] for one in figures] == ["0.1", "0.1"]
    table = next(one for one in page.tables if one.caption == "Recovery against drift, ioi")
    attacks = [
        cell
        for cell in entry.per_task["ioi"].cells
        if cell.first_success.drift_rel is not None and cell.role == "attack"
    ]
    assert [float(row["data-x"]) for row in table.row_attributes[1:]] == [
        one.first_success.drift_rel for one in attacks
    ]
    assert [drawn(cell) for cell in table.column("Recovered")] == [
        expected(one.budgets[-1].recovered_share) for one in attacks
    ]


def bars(page: Page) -> list[Table]:
    return [one for one in page.tables if one.caption.startswith(("Outcomes", "Parts"))]


def test_outcomes_and_parts_have_intervals(site: dict[str, Page], board: Leaderboard) -> None:
    page = page_of(site, board.suites[0], "clamp")
    assert {one.caption.split(" ")[0] for one in bars(page)} == {"Outcomes", "Parts"}
    shares = [cell for table in bars(page) for row in table.rows[1:] for cell in row[1:]]
    assert shares and all("(" in cell.text for cell in shares)


def test_a_bar_has_the_width_of_its_number(site: dict[str, Page], board: Leaderboard) -> None:
    found = site[suite_page(board.suites[0].suite)].tags
    fills = [one["width"] for tag, one in found if tag == "rect" and one.get("class") == "fill"]
    assert fills == ["100.0", "50.0", "25.0"]
    whiskers = [one["d"] for tag, one in found if tag == "path" and one.get("class") == "whisker"]
    low, high = (
        100 * getattr(entry_of(board.suites[0], "clamp").headline.wrs.interval, end) for end in ("low", "high")
    )
    assert whiskers[1] == f"M{low:.1f} 5H{high:.1f}"


def test_outcome_shares_are_of_all_eligible_examples() -> None:
    found = outcome_shares(Classes(never_suppressed=8, held=4, recovered=4, degenerate=0, failed=0), clusters=16)
    assert {name: one.value for name, one in found.items()} == {
        "never_suppressed": 0.5,
        "held": 0.25,
        "recovered": 0.25,
        "degenerate": 0,
        "failed": 0,
    }
    assert all(one.interval and one.interval.low <= (one.value or 0) <= one.interval.high for one in found.values())


def test_outcome_shares_of_one_cluster_have_no_interval() -> None:
    found = outcome_shares(Classes(never_suppressed=0, held=2, recovered=0, degenerate=0, failed=0), clusters=1)
    assert found["held"] == Estimate(value=1.0)
    assert outcome_shares(Classes(never_suppressed=0, held=0, recovered=0, degenerate=0, failed=0), clusters=0) == {}


def test_what_only_some_entries_have_is_shown_where_it_is(site: dict[str, Page], board: Leaderboard) -> None:
    steer, clamp = (page_of(site, board.suites[0], name) for name in ("steer", "clamp"))
    assert {"monitor", "curves", "drift", "attribution"} <= steer.ids and "monitor" not in clamp.ids
    beside = next(table for table in steer.tables if table.caption.startswith("lm-eval"))
    assert [cell.text for cell in beside.rows[1]] == [
        *("english-facts", "ioi", "acc", "40", ".8", ".7", ".500 (.400 to .600)", ".875")
    ]
    assert "does not apply: it reads no SAE" in " ".join(steer.text.split())


def test_defenses_over_saes_are_below_their_board(site: dict[str, Page], board: Leaderboard) -> None:
    table = next(one for one in site[suite_page(board.suites[0].suite)].tables if "over SAEs" in one.caption)
    assert [cell.text for cell in table.rows[1]] == ["clamp", "2", *[".50 (.40-.60)"] * 3]


def test_what_is_best_known_stands_beside_the_score_with_who_found_it(
    site: dict[str, Page], board: Leaderboard
) -> None:
    suite = board.suites[0]
    table = next(one for one in site[suite_page(suite.suite)].tables if "best first" in one.caption)
    place = [cell.text for cell in table.rows[0]].index("Best known")
    known = {row[1].text.split()[0]: row[place].text for row in table.rows[1:]}
    assert known["Steering"] == ".12 (.10-.20)" and known["Clamp,"] == "-"
    text = page_of(site, suite, "steer").text
    assert "Stronger attacks" in text and "Red Team" in text and "steps=64" in text
    assert "Stronger attacks" not in page_of(site, suite, "clamp").text


def test_the_command_names_suite_and_spec(site: dict[str, Page], board: Leaderboard) -> None:
    spec = "leaderboard/entries/toy__v1/institute-of-clamps__clamp/sha-clamp/spec.json"
    assert f"bench evaluate --suite embedded --defense {spec}" in page_of(site, board.suites[0], "clamp").text


def test_differences_of_two_have_opposite_signs(board: Leaderboard) -> None:
    one = board.suites[0]
    clamp, steer = (entry_key(entry_of(one, name)) for name in ("clamp", "steer"))
    found = differences(one)
    there, back = found[clamp][steer], found[steer][clamp]
    assert [line["area"]["value"] for line in there] == [-line["area"]["value"] for line in back] != []
    assert [line["area"]["low"] for line in there] == [-line["area"]["high"] for line in back]


def test_a_difference_is_of_the_run_that_it_names(board: Leaderboard) -> None:
    one = board.suites[0]
    clamp = entry_of(one, "clamp")
    twin = clamp.model_copy(update={"provenance": clamp.provenance.model_copy(update={"run_id": "run-2"})})
    found = differences(one.model_copy(update={"entries": [*one.entries, twin]}))
    assert entry_key(clamp) in found and entry_key(twin) not in found


def test_the_data_of_a_comparison_are_those_of_the_board(files: dict[str, bytes], board: Leaderboard) -> None:
    one = board.suites[0]
    entry = entry_of(one, "clamp")
    path = entry_page(one.suite, entry).replace("entries/", "data/").replace(".html", ".js")
    data = json.loads(files[path].decode().removeprefix("received(").removesuffix(");\n"))
    assert data["scores"]["WRS"]["value"] == entry.headline.wrs.value
    curve = entry.per_task["ioi"].curves["before_edit"]
    points = data["tasks"]["ioi"]["curves"]["before_edit"]["points"]
    assert [budget for budget, _ in points] == [0, *curve.budgets]
    assert [found["value"] for _, found in points[1:]] == [found.value for found in curve.raw.rs]

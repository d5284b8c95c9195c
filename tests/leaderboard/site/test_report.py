"""The report of a run: one file that needs nothing else, says what the rows say, and loses no example."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

import pytest

from benchmark.errors import RunDirectoryError, UsageError
from benchmark.run.ownership import FILES
from leaderboard.board.aggregate import suite_board
from leaderboard.board.schema import SuiteBoard
from leaderboard.rows.run import Run, read_run
from leaderboard.scores.examples import ORDER
from leaderboard.site.commands import report as verb
from leaderboard.site.inline import inlined
from leaderboard.site.report import report, write_report
from tests.leaderboard import row_factory as made
from tests.leaderboard.site import reports
from tests.leaderboard.site.reading import Page
from tests.leaderboard.site.reports import RESAMPLES, SITES, captioned, cells, examples, html_of
from tests.leaderboard.site.test_numbers import drawn, expected


@pytest.fixture(scope="module")
def run(reported: Path) -> Run:
    return read_run(reported)


@pytest.fixture(scope="module")
def board(run: Run) -> SuiteBoard:
    return suite_board([run], resamples=RESAMPLES)


@pytest.fixture(scope="module")
def unsettled(tmp_path_factory: pytest.TempPathFactory) -> Page:
    return Page("", html_of(reports.unsettled(tmp_path_factory.mktemp("unsettled") / "run")))


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page("report.html", html)


def test_it_needs_nothing_else(page: Page) -> None:
    assert page.values("src") == [] and not [tag for tag, _ in page.tags if tag in ("link", "img", "iframe", "object")]
    assert page.addresses and all(one.startswith("#") and one[1:] in page.ids for one in page.addresses)
    assert len(page.values("id")) == len(page.ids)


def test_only_its_own_styles_and_scripts_may_run(page: Page, html: str) -> None:
    policy = next(found["content"] for _, found in page.tags if "http-equiv" in found)
    assert policy.startswith("default-src 'none';") and "unsafe" not in policy and "http" not in policy
    parts = re.findall(r"<(?:script|style)>(.*?)</(?:script|style)>", html, re.DOTALL)
    hashes = [base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in parts]
    assert len(hashes) == 6 and all(f"'sha256-{one}'" in policy for one in hashes)
    assert not [name for _, found in page.tags for name in found if name.startswith("on") or name == "style"]


def test_another_script_has_no_place_in_the_policy() -> None:
    assert inlined(["site.css"], ["drawn.js"]).policy != inlined(["site.css"], ["tables.js"]).policy


def test_the_library_has_its_licence_with_it(html: str) -> None:
    assert "Permission is hereby granted" in html


def test_the_same_run_gives_the_same_bytes(run: Run, html: str) -> None:
    assert report(run, resamples=RESAMPLES).decode() == html


def test_every_defense_is_there_with_its_score(page: Page, board: SuiteBoard) -> None:
    table = captioned(page, "Areas: 1, nothing")
    assert [row[0].text for row in table.rows[1:]] == [entry.defense.name for entry in board.entries]
    assert [drawn(cell) for cell in table.column("WRS")] == [expected(entry.headline.wrs) for entry in board.entries]
    assert {f"d{place}-defense" for place in (1, 2)} <= page.ids


def test_every_plot_has_a_table_with_its_numbers(page: Page, board: SuiteBoard) -> None:
    assert len(page.figures) == len(page.plotted) > 0
    curve = board.entries[0].per_task["ioi"].curves["before_edit"]
    table = captioned(page, "RS of ioi under before edit")
    assert [drawn(cell) for cell in table.column("every recovery counts")[1:]] == [*map(expected, curve.raw.rs)]


def test_flags_stand_with_their_evidence(unsettled: Page) -> None:
    [row] = [row for row in captioned(unsettled, "What is doubtful").rows if row[0].text == "not-converged"][:1]
    assert row[2].text == "0.5" or row[2].text == ".5"
    assert "in 50.0% of rows" in row[3].text and "(before_edit/none)" in row[4].text
    assert "#not-converged" in unsettled.addresses and "not-converged" in unsettled.ids


def test_layers_are_told_by_their_share_in_their_order(page: Page) -> None:
    table = captioned(page, "Sites of the perturbations")
    own = [row for row in table.rows if row[0].text.strip() == "recovery, before edit"]
    assert [row[1].text for row in own] == SITES["written_sites"]
    assert [row[2].text for row in own] == [".20", ".80"] and drawn(own[1][3])[0] == 1.0


def test_one_site_is_no_question_of_layers(unsettled: Page, page: Page) -> None:
    assert "d1-layers" in page.ids and "d1-layers" not in unsettled.ids


def test_what_had_not_come_to_rest_is_counted(unsettled: Page) -> None:
    row = next(
        row for row in captioned(unsettled, "Convergence").rows if row[0].text.strip() == "recovery, before edit"
    )
    assert drawn(row[3])[0] == 0.5 and [row[2].text, row[4].text, row[5].text] == ["16", "28", "8"]


def test_threat_models_that_were_not_run_say_why(page: Page) -> None:
    table = captioned(page, "Every threat model")
    said = {row[1].text: row[4].text for row in table.rows[1:]}
    assert said["before edit"] == "-" and said["token suffix"] == "the suite gives it no budget here"


def test_what_is_not_there_is_said(page: Page) -> None:
    has = {row[0].text: row[1].text for row in captioned(page, "What a report").rows[1:]}
    assert has["Control defenses"] == "yes" and has["Attacks made for this defense, by its author"] == "no"


def test_no_example_is_lost(page: Page, run: Run) -> None:
    table = examples(page)
    rows = {(row[2].text, row[0].text) for row in table.rows[1:]}
    every = {("ioi", one) for cell in run.cells for one in cell.rows.column("example_id").to_pylist()}
    assert rows == every and len(table.rows) == 1 + len(every)


def test_an_example_has_what_each_attack_needed(page: Page) -> None:
    [first, *_, last] = examples(page).rows[1:]
    assert [cell.text for cell in first[:4]] == ["e000", "c000", "ioi", "recovered"]
    assert first[4].text == "recovered eps 0.05drift .050, margin -1.50" and first[4].attributes["data-value"] == "0.05"
    assert last[3].text == "held" and last[4].text.startswith("helddrift") and "data-value" not in last[4].attributes


def test_recovered_examples_are_those_of_the_curve(page: Page, board: SuiteBoard) -> None:
    result = board.entries[0].per_task["ioi"]
    kept = result.curves["before_edit"].raw.rs[-1].value
    held = [row for row in examples(page).rows[1:] if row[4].text.startswith("held")]
    assert kept == pytest.approx(len(held) / result.eligible)


def test_an_interrupted_run_is_told_as_what_it_is(tmp_path: Path) -> None:
    run = made.write_run(tmp_path / "run", cells(), status="interrupted")
    for file in (run / "cells").glob("*recovery*"):
        file.unlink()
    found = read_run(run)
    page = Page("", report(found, resamples=RESAMPLES).decode())
    assert found.missing and "This run is interrupted" in page.text and "not measured yet" in page.text
    assert examples(page).heads[4:] == ["soft-suffix, soft suffix"] and len(examples(page).rows) == 33


def test_a_run_of_which_nothing_was_measured_still_has_a_report(tmp_path: Path) -> None:
    run = made.write_run(tmp_path / "run", cells(), status="partial")
    for file in (run / "cells").iterdir():
        file.unlink()
    page = Page("", html_of(run))
    assert "0 of" in page.text and "Nothing of it has been measured yet" in page.text


def test_a_whole_run_has_no_notice(page: Page) -> None:
    assert "This run is" not in page.text and "Limited" not in page.text


def test_whatever_a_run_says_is_text(hostile: str, page: Page) -> None:
    found = Page("", hostile)
    known = {(tag, name) for tag, attributes in page.tags for name in attributes}
    assert {(tag, name) for tag, attributes in found.tags for name in attributes} <= known
    assert [tag for tag, _ in found.tags].count("script") == 4 and "\u202e" not in hostile and "\x07" not in hostile
    assert "{{ 7 * 7 }}" in examples(found).rows[1][0].text


def test_an_entry_is_reported_elsewhere_with_who_handed_it_in(tmp_path: Path) -> None:
    key = "ioi-clamp-recovery-before_edit-none-behavior"
    entry = made.write_entry(tmp_path / "entry", [made.cell(made.rows(made.HALF, cell_key=key))])
    before = sorted(entry.rglob("*"))
    with pytest.raises(UsageError, match="give --output elsewhere"):
        write_report(entry)
    page = Page("", write_report(entry, tmp_path / "out.html").read_text())
    assert "Handed in as A by B" in page.text and len(examples(page).rows) == 33
    assert sorted(entry.rglob("*")) == before


def test_an_entry_that_was_changed_has_no_report(tmp_path: Path) -> None:
    entry = made.write_entry(tmp_path / "entry", [made.cell(made.rows(made.HALF))])
    (entry / "plan.json").write_text((entry / "plan.json").read_text() + " ")
    with pytest.raises(UsageError, match="plan.json was changed"):
        write_report(entry, tmp_path / "out.html")


def test_the_verb_writes_into_the_run_which_stays_one(
    reported: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("leaderboard.site.report.RESAMPLES", RESAMPLES)
    verb(reported)
    assert capsys.readouterr().out.strip() == str(reported / "report.html")
    assert (reported / "report.html").read_text().startswith("<!doctype html>") and FILES.fullmatch("report.html")
    assert read_run(reported).missing == ()


def test_what_is_no_run_or_cannot_be_written_is_told(reported: Path, tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match="no run directory"):
        write_report(tmp_path)
    with pytest.raises(UsageError, match="give another --output"):
        write_report(reported, tmp_path / "nowhere" / "report.html")


def test_outcomes_go_from_harmless_to_worst() -> None:
    assert ORDER[0] == "not_eligible" and ORDER[-1] == "recovered"

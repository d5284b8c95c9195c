"""A run directory is read whole, or refused with the name of the file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from benchmark.errors import RunDirectoryError
from leaderboard.rows.arrays import flag, real
from leaderboard.rows.run import read_run
from tests.leaderboard.row_factory import HALF, board, default_cells, dump, frozen, rows, write_run


def test_what_is_no_run_is_told(tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match="has no run.json"):
        read_run(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("file", "broken", "message"),
    [
        ("run.json", lambda _: "{", "run.json is damaged"),
        ("run.json", lambda old: json.dumps(old | {"status": "done"}), "run.json is damaged .*: status"),
        ("run.json", lambda old: json.dumps(old | {"schema_version": 1}), "of another version: schema_version"),
        ("run.json", lambda old: json.dumps(old | {"threats": {}}), r"the cell recovery \(before_edit/none\) on ioi"),
        ("plan.json", lambda _: None, "plan.json cannot be read"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, file: str, broken: Callable[[dict], str | None], message: str) -> None:
    run = write_run(tmp_path / "run", default_cells(HALF, HALF))
    content = broken(json.loads((run / file).read_text()))
    (run / file).unlink()
    if content is not None:
        (run / file).write_text(content)
    with pytest.raises(RunDirectoryError, match=message):
        read_run(run)


def test_a_run_that_was_killed_before_it_measured_anything_is_told(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", default_cells(HALF, HALF))
    (run / "run.json").unlink()
    with pytest.raises(RunDirectoryError, match="not measured anything yet; repeat its command"):
        read_run(run)


@pytest.mark.parametrize("content", [b"", b"[1]", b"\xff\xfe\x00", b"[" * 9999])
@pytest.mark.parametrize("name", ["run.json", "plan.json", "fits", "cells"])
def test_a_file_in_any_state_is_one_line_with_its_name(tmp_path: Path, name: str, content: bytes) -> None:
    run = write_run(tmp_path / "run", default_cells(HALF, HALF))
    file = run / name if "." in name else sorted((run / name).iterdir())[0]
    file.write_bytes(content)
    with pytest.raises(RunDirectoryError, match=file.name) as told:
        read_run(run)
    assert "\n" not in str(told.value) and "repeat the run" in str(told.value)


def test_a_cell_with_a_changed_bit_is_damaged_and_no_other_number(tmp_path: Path) -> None:
    cells = default_cells(HALF, HALF)
    run = write_run(tmp_path / "run", cells)
    file = run / "cells" / f"{cells[0].plan.key}.parquet"
    pq.write_table(cells[0].rows, file, compression="none", write_page_checksum=True)
    content = bytearray(file.read_bytes())
    content[content.index(np.array([0.05]).tobytes())] ^= 1
    file.write_bytes(bytes(content))
    with pytest.raises(RunDirectoryError, match="is damaged"):
        read_run(run)


def test_a_text_that_is_none_is_damage(tmp_path: Path) -> None:
    cells = default_cells(HALF, HALF)
    run = write_run(tmp_path / "run", cells)
    file = run / "cells" / f"{cells[0].plan.key}.parquet"
    pq.write_table(cells[0].rows, file, compression="none", use_dictionary=False, write_statistics=False)
    file.write_bytes(file.read_bytes().replace(b"e000", b"\x80000"))
    with pytest.raises(RunDirectoryError, match="is damaged"):
        read_run(run)


def test_damaged_and_missing_cells_are_named(tmp_path: Path) -> None:
    cells = default_cells(HALF, HALF)
    run = write_run(tmp_path / "run", cells)
    file = run / "cells" / f"{cells[0].plan.key}.parquet"
    file.write_bytes(b"PAR1 cut short")
    with pytest.raises(RunDirectoryError, match="is damaged"):
        read_run(run)
    pq.write_table(cells[0].rows.drop_columns(["peak_memory_mb"]), file)
    assert read_run(run).cells[0].rows.column("peak_memory_mb").null_count == cells[0].rows.num_rows
    pq.write_table(cells[0].rows.drop_columns(["eps_star"]), file)
    with pytest.raises(RunDirectoryError, match="lacks the columns"):
        read_run(run)
    pq.write_table(cells[0].rows.replace_schema_metadata({"recoverybench.schema_version": "99"}), file)
    with pytest.raises(RunDirectoryError, match="row schema 99"):
        read_run(run)
    file.unlink()
    with pytest.raises(RunDirectoryError, match="says that it is complete"):
        read_run(run)


def test_columns_of_other_protocols_and_fields_of_later_versions_are_let_through(tmp_path: Path) -> None:
    cells = default_cells(HALF, HALF)
    run = write_run(tmp_path / "run", cells)
    written = pq.read_table(run / "cells" / f"{cells[0].plan.key}.parquet")
    extra = written.append_column("paper_drift_rel", written.column("seconds"))
    pq.write_table(extra, run / "cells" / f"{cells[0].plan.key}.parquet")
    dump(run / "run.json", json.loads((run / "run.json").read_text()) | {"new": 1})
    assert read_run(run).cells[0].rows.equals(cells[0].rows)


def test_an_interrupted_run_is_scored_as_far_as_it_came(tmp_path: Path) -> None:
    cells = [one for task in ("ioi", "unlearning") for one in default_cells(HALF, HALF, task=task)]
    run = write_run(tmp_path / "run", cells, status="interrupted")
    (run / "cells" / f"{cells[0].plan.key}.parquet").unlink()
    entry = board(run).entries[0]
    assert {"the run is interrupted", "1 cells are missing"} <= set(entry.verdict.reasons)
    assert "before_edit" not in entry.per_task["ioi"].curves and entry.per_task["unlearning"].score.value == 0.5


def test_budgets_beyond_the_ceiling_of_their_threat_model_are_sanity_budgets_whatever_the_rows_say(
    tmp_path: Path,
) -> None:
    tasks = frozen("ioi", ceilings={"before_edit": 0.2, "soft_suffix": None})
    found = read_run(write_run(tmp_path / "run", default_cells(HALF, HALF), tasks=tasks)).cells
    ranked = {
        cell.plan.threat_model: set(real(cell.rows, "budget_eps")[~flag(cell.rows, "sanity")])
        for cell in found
        if cell.plan.attacks
    }
    assert ranked["before_edit"] == {0.05, 0.1, 0.2}
    assert ranked["after_edit"] == ranked["soft_suffix"] == {0.05, 0.1, 0.2, 0.4}
    assert rows(HALF).num_rows == found[0].rows.num_rows, "nothing is thrown away"

"""The report after an evaluation, as the engine calls it."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from benchmark.errors import RunDirectoryError
from leaderboard.board.schema import Leaderboard
from leaderboard.commands import report
from tests.leaderboard.row_factory import NEVER, cell, rows, write_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", [cell(rows([0.05, NEVER] * 2, drift_pre_abs=0.1))])


@pytest.mark.parametrize("as_json", [False, True])
def test_a_run_is_scored_written_and_printed(run: Path, as_json: bool, capsys: pytest.CaptureFixture[str]) -> None:
    out = io.StringIO()
    report(run, Console(file=out, width=100), as_json)
    written = Leaderboard.model_validate_json((run / "leaderboard.json").read_bytes())
    printed = capsys.readouterr().out
    assert str(run) in out.getvalue()
    if as_json:
        assert Leaderboard.model_validate(json.loads(printed)) == written and "AURC" not in out.getvalue()
    else:
        assert printed == "" and "AURC before_edit" in out.getvalue()


def test_what_is_no_run_is_told(tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match="has no run.json"):
        report(tmp_path, Console(file=io.StringIO()), False)


def test_scoring_needs_no_model_and_naming_the_commands_nothing_heavy() -> None:
    program = "import sys, leaderboard.commands; print([m for m in ('numpy', 'pyarrow', 'torch') if m in sys.modules])"
    program += "; import leaderboard.board.aggregate, leaderboard.tables.board, leaderboard.figures.draw"
    program += "; print([m for m in ('torch', 'transformers', 'scipy', 'pandas') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["[]", "[]"]

"""``bench`` in this process, for tests of what it prints and how it exits: to start Python and torch takes longer than
most of what is asked of them. What belongs to a process (signals, imports, a closed terminal) is tested in one."""

from __future__ import annotations

import io
import os
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

from benchmark.cli import main
from benchmark.run import commands


class Ended(NamedTuple):
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


def bench(*arguments: str, cwd: Path | None = None) -> Ended:
    """The command with these arguments, in a folder, with no terminal and 120 columns."""
    out, err = io.StringIO(), io.StringIO()
    code: object = 0
    with (
        patch.object(sys, "argv", ["bench", *arguments]),
        patch.dict(os.environ, {"COLUMNS": "120"}),
        patch.object(commands, "PROBE", 0.0),  # no seconds for estimates of runs that take no more
        chdir(cwd or Path.cwd()),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as stop:
            code = stop.code
    return Ended(code if isinstance(code, int) else int(code is not None), out.getvalue(), err.getvalue())

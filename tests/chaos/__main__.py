"""``python -m tests.chaos [--runs N] [--seed S]``: N kills, the other faults in proportion, and a table of it all."""

from __future__ import annotations

import argparse
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import torch

from benchmark.registry import TASKS
from benchmark.run.flags import quiet
from benchmark.run.freeze import write_into
from tests.chaos import trials
from tests.chaos.process import Process
from tests.chaos.trials import Trial
from tests.chaos.world import World, make_world
from tests.tiny import ToyTask, suite_file

TOY = ("-d", "sae-clamp", "-D", "strength=3.0", "-D", "count=24", "-D", "contrast=0.0", "-D", "rate_ratio=0.0")
FEW = ("--attack", "recovery", "--no-controls", "--limit", "9")
SMOKE = ("--suite", "smoke", "--task", "ioi", "--attack", "recovery", "--no-controls", "--limit", "3")
HEAVY = ("benchmark.run.runner", "leaderboard.board.aggregate", "leaderboard.tables.board", "pandas", "sklearn.metrics")
"""What is imported once, before the first fork."""


def others(disk: Path | None) -> dict[str, Trial]:
    """What is tried beside kills, by what the table calls it."""
    found: dict[str, Trial] = {
        "SIGINT": trials.signalled(signal.SIGINT),
        "SIGTERM": trials.signalled(signal.SIGTERM),
        "SIGHUP": trials.signalled(signal.SIGHUP),
        "disk full, at an operation": trials.disk_full_at_operation,
        "disk full, by file size": trials.file_too_large,
        "out of accelerator memory": trials.no_accelerator_memory,
        "little memory": trials.little_memory,
        "damaged file": trials.damaged,
        "stranger's file": trials.stranger,
        "two processes": trials.two_at_once,
        "clock jumps": trials.jumping_clock,
    }
    return found | ({"disk full, small disk": trials.small_disk(disk)} if disk else {})


def schedule(
    runs: int, short: bool, worlds: list[World], disk: Path | None, rng: random.Random
) -> Iterator[tuple[str, World, Trial]]:
    """What is tried on which world: every tenth on the last one."""
    kills = list(itertools.islice(trials.chain(rng), runs))
    listed = [(f"kill -9, {t.__name__.removeprefix('kill_').replace('_', ' ')}", t) for t in kills]
    each = 1 if short else max(1, runs // 16)
    for name, trial in others(disk).items():
        listed += [(name, trial)] * (each if short or "file" not in name else 3 * each)  # there are many kinds of files
    rng.shuffle(listed)
    for number, (name, trial) in enumerate(listed):
        yield name, worlds[-1 if number % 10 == 9 else 0], trial


def campaign(runs: int, seed: int, short: bool, folder: Path, disk: Path | None) -> int:
    """Run all of it and print the table; the number of trials that failed."""
    rng = random.Random(seed)
    worlds = [make_world("toy", ("--suite", str(_toy_suite(folder)), *TOY, *FEW), folder)]
    if not short:
        worlds.append(make_world("smoke", SMOKE, folder))
    table: Counter[tuple[str, str, str]] = Counter()
    broken: list[str] = []
    for number, (name, world, trial) in enumerate(schedule(runs, short, worlds, disk, rng)):
        root = folder / f"run{number}"
        try:
            table[name, world.name, trial(world, root, random.Random(seed * 100_003 + number))] += 1
        except AssertionError as error:
            table[name, world.name, "FAILED"] += 1
            broken.append(f"{number}: {name} on {world.name}: {error}")
            print(broken[-1], file=sys.stderr, flush=True)
            continue
        shutil.rmtree(root)
    print(
        f"seed {seed}; "
        + "; ".join(f"{w.name}: {w.rows.num_rows} rows, {w.operations} file operations" for w in worlds)
    )
    print(f"{'what':<34}{'suite':<8}{'times':>6}  how it ended, always with equal rows after it was repeated")
    for (name, world, ended), times in sorted(table.items()):
        print(f"{name:<34}{world:<8}{times:>6}  {ended}")
    print(f"{sum(table.values())} trials, {len(broken)} failed")
    return len(broken)


def _toy_suite(folder: Path) -> Path:
    """The tiny suite, frozen in a process of its own: what has computed cannot be forked safely."""
    path = suite_file(folder / "suite")

    def freeze() -> None:
        from benchmark.run.prepare import prepare
        from benchmark.run.request import Request

        prepared = prepare(Request.make({"defense": "none", "suite": str(path)}))
        write_into(path, {"toy": prepared.measured("toy")})
        sys.argv = ["bench", "--help"]

    ended = Process([], freeze).wait()
    assert ended.code == 0, ended.err
    return path


@contextmanager
def small_disk(folder: Path, size: int = 400_000) -> Iterator[Path | None]:
    """A disk in memory of ``size`` bytes; None: it may not be mounted here."""
    disk = folder / "disk"
    disk.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "chaos", str(disk)], capture_output=True)
    try:
        yield None if done.returncode else disk
    finally:
        if not done.returncode:
            subprocess.run(["umount", str(disk)], check=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200, help="kills; other faults in proportion")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--short", action="store_true", help="ten kills and one of each other fault")
    given = parser.parse_args()
    os.environ["COLUMNS"] = "200"
    quiet()
    for module in HEAVY:
        import_module(module)
    torch.set_num_threads(1)
    TASKS.register("toy")(ToyTask)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with small_disk(folder) as disk:
            print("a small disk: " + ("mounted" if disk else "may not be mounted here; by file size and by operation"))
            failed = campaign(10 if given.short else given.runs, given.seed, given.short, folder, disk)
    print(f"{time.monotonic() - begun:.0f} s")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())

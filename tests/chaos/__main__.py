"""``python -m tests.chaos [--runs N] [--seed S]``: N kills, the other faults in proportion, and a table of it all."""

from __future__ import annotations

import argparse
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
from transformers.utils.logging import disable_progress_bar

from benchmark.code import code_of, engine
from benchmark.registry import ATTACKS, DEFENSES, TASKS
from benchmark.run.freeze import write_into
from benchmark.terminal import quiet
from tests.chaos import trials
from tests.chaos.process import Process
from tests.chaos.trials import Trial
from tests.chaos.world import World, make_world
from tests.tiny import ToyTask, suite_file

TOY = ("-d", "sae-clamp", "-D", "strength=3.0", "-D", "count=24", "-D", "contrast=0.0", "-D", "rate_ratio=0.0")
FEW = ("--attack", "recovery", "--no-controls", "--limit", "12")
SMOKE = ("--suite", "smoke", "--task", "ioi", "--attack", "recovery", "--no-controls", "--limit", "3")
SHORT = 4
"""Kills of the short form."""
RARELY = 25
"""Each so-many-th run is one of the organism, which takes seconds, and not one of the toy."""
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


class Campaign:
    """What is tried, and how it ended."""

    def __init__(self, seed: int, worlds: list[World], folder: Path) -> None:
        self.seed, self.worlds, self.folder = seed, worlds, folder
        self.table: Counter[tuple[str, str, str]] = Counter()
        self.tried = 0
        self.broken = 0

    @property
    def killed(self) -> int:
        return sum(times for (_, _, told), times in self.table.items() if told.startswith(trials.KILLED))

    def attempt(self, name: str, trial: Trial) -> None:
        """One trial; each ``RARELY``-th on the last world."""
        self.tried += 1
        world = self.worlds[-1 if self.tried % RARELY == 0 else 0]
        root = self.folder / f"run{self.tried}"
        try:
            told = trial(world, root, random.Random(self.seed * 100_003 + self.tried)).split(";")
        except AssertionError as error:
            self.broken += 1
            self.table[name, world.name, "FAILED"] += 1
            print(f"{self.tried}: {name} on {world.name}: {error}", file=sys.stderr, flush=True)
            return
        self.table.update((name, world.name, one) for one in told)
        shutil.rmtree(root)

    def tell(self) -> None:
        print(f"seed {self.seed}; " + "; ".join(map(str, self.worlds)))
        print(f"{'what':<28}{'suite':<8}{'times':>6}  how it ended; with equal rows after it was repeated")
        for (name, world, ended), times in sorted(self.table.items()):
            print(f"{name:<28}{world:<8}{times:>6}  {ended}")
        print(f"{self.tried} runs harmed, {self.killed} kills, {self.broken} failed", flush=True)


def campaign(runs: int, seed: int, short: bool, folder: Path, disk: Path | None) -> int:
    """Try all of it and print the table; the number of trials that failed."""
    worlds = [make_world("toy", ("--suite", str(_toy_suite(folder)), *TOY, *FEW), folder)]
    if not short:
        worlds.append(make_world("smoke", SMOKE, folder))
    found = Campaign(seed, worlds, folder)
    each = 1 if short else max(1, runs // 40)
    listed = [(name, trial) for name, trial in others(disk).items() for _ in range(each * (1 + 2 * ("file" in name)))]
    for name, trial in others(disk).items() if short else random.Random(seed).sample(listed, len(listed)):
        found.attempt(name, trial)
        if found.killed < runs:
            found.attempt("kill -9", trials.kills)
        if not short and found.tried % 20 < 2:
            found.tell()
    while found.killed < runs:
        found.attempt("kill -9", trials.kills)
    found.tell()
    return found.broken


def _toy_suite(folder: Path) -> Path:
    """The tiny suite, frozen in a process of its own: what has computed cannot be forked safely."""
    attack = {"attack": "recovery", "threat_model": "before_edit", "search": {"steps": 2}, "restarts": 1}
    path = suite_file(folder / "suite", attacks=[attack])

    def freeze() -> None:
        from benchmark.run.prepare import opened
        from benchmark.run.request import Request

        write_into(path, {"toy": opened(Request.make({"defense": "none", "suite": str(path)})).measured("toy")})
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
    parser.add_argument("--short", action="store_true", help="few kills and one of each other fault")
    given = parser.parse_args()
    os.environ["COLUMNS"] = "200"
    quiet()
    disable_progress_bar()  # for what was imported before it was quiet
    for module in HEAVY:
        import_module(module)
    torch.set_num_threads(1)
    TASKS.register("toy")(ToyTask)
    engine()  # sources, too, are parsed once
    code_of([ToyTask, ATTACKS.get("recovery"), DEFENSES.get("sae-clamp")])
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with small_disk(folder) as disk:
            print("a small disk: " + ("mounted" if disk else "may not be mounted here; by file size and by operation"))
            failed = campaign(SHORT if given.short else given.runs, given.seed, given.short, folder, disk)
    print(f"{time.monotonic() - begun:.0f} s")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())

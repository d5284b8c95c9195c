"""What is tried: each trial does harm to a run, and is over when its rows are those of a run that was let alone."""

from __future__ import annotations

import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

from tests.chaos import faults
from tests.chaos.damage import KINDS, WAYS, strangers
from tests.chaos.process import Ended, Process
from tests.chaos.world import World, contents, finished_cells

Trial = Callable[[World, Path, random.Random], str]
"""Does its harm in a new folder, brings the run to its end, and says in a word or two how the fault ended, separated by
semicolons where there were several faults; raises AssertionError where something was lost or wrong."""
INTERRUPTED = "finished cells are saved; repeat the command to resume"


def finish(world: World, root: Path, *, exactly: bool = True, but: str = "") -> None:
    """Repeat the command: it ends well, with equal rows, and no finished cell (``but`` one) has been run again."""
    before = finished_cells(root) if (root / "cells").is_dir() else {}
    ended = Process(world.command(root)).wait()
    assert ended.code == 0, f"not resumed: {ended}"
    after = finished_cells(root)
    again = [name for name, time in before.items() if after.get(name) != time and not name.startswith(but or "no")]
    assert not again, f"run again: {again}"
    differing = world.differing(root, exactly=exactly)
    assert not differing, f"other rows: {differing}"
    assert not list(root.rglob("*.part")), "drafts are left"


def before_an_operation(world: World, root: Path, rng: random.Random) -> Ended:
    """A third of the time one of the first, where nothing is laid out yet."""
    number = rng.randrange(12) if rng.random() < 0.35 else rng.randrange(world.operations)
    return Process(world.command(root), faults.at_operation(root, number, faults.die)).wait()


def at_a_moment(world: World, root: Path, rng: random.Random) -> Ended:
    process = Process(world.command(root))
    process.kill_after(rng.uniform(0, world.seconds))
    return process.wait()


def within_a_file(world: World, root: Path, rng: random.Random) -> Ended:
    """In the midst of writing it, once it is larger than some size."""
    return Process(world.command(root), faults.file_size(rng.randrange(world.largest), deadly=True)).wait()


KILLS = (before_an_operation, before_an_operation, at_a_moment, within_a_file)
KILLED = "killed"


def kills(world: World, root: Path, rng: random.Random) -> str:
    """A run is killed, and often again while it is resumed."""
    told = []
    for _ in range(rng.randint(1, 4)):
        way = rng.choice(KILLS)
        ended = way(world, root, rng)
        assert ended.code in (0, -signal.SIGKILL, -signal.SIGXFSZ), f"{ended}"
        told.append(f"{KILLED} {way.__name__.replace('_', ' ')}" if ended.code else "had ended before")
    finish(world, root)
    return ";".join(told)


def signalled(number: signal.Signals) -> Trial:
    """A signal that asks it to end."""

    def trial(world: World, root: Path, rng: random.Random) -> str:
        process = Process(world.command(root))
        process.kill_after(rng.uniform(0.1, world.seconds), number)
        ended = process.wait()
        if ended.code == 0:
            told = "ended before"
        elif ended.code == -number:
            told = "before it listened"
            assert not (root / "plan.json").exists(), "killed without a word in the midst of a run"
        else:
            told = f"one line, exit code {ended.code}"
            assert ended.code == 128 + number and len(ended.lines) == 1 and INTERRUPTED in ended.err, f"{ended}"
            _says(root, "interrupted")
        finish(world, root)
        return told

    return trial


def _says(root: Path, status: str) -> None:
    import json

    if (root / "run.json").is_file():
        found = json.loads((root / "run.json").read_text())["status"]
        assert found in (status, "complete"), f"run.json says {found}"


def disk_full_at_operation(world: World, root: Path, rng: random.Random) -> str:
    fault = faults.at_operation(root, rng.randrange(world.writes), faults.no_room, writing=True)
    return _refused(world, root, Process(world.command(root), fault).wait(), "the disk is full")


def file_too_large(world: World, root: Path, rng: random.Random) -> str:
    """Every kind of file in its turn is larger than what is allowed."""
    limit = int(world.largest ** rng.uniform(0.5, 1.05))
    fault = faults.file_size(limit, deadly=False)
    return _refused(world, root, Process(world.command(root), fault).wait(), "larger than this shell allows")


def small_disk(disk: Path) -> Trial:
    """A run on a disk that is too small, and then on one that is not."""

    def trial(world: World, root: Path, rng: random.Random) -> str:
        room = rng.randrange(disk_size(disk))
        on_disk = disk / "run"
        shutil.rmtree(on_disk, ignore_errors=True)
        (disk / "ballast").write_bytes(b"\0" * room)
        ended = Process(world.command(on_disk)).wait()
        (disk / "ballast").unlink()
        shutil.copytree(on_disk, root, dirs_exist_ok=True) if on_disk.exists() else None
        shutil.rmtree(on_disk, ignore_errors=True)
        return _refused(world, root, ended, "the disk is full")

    return trial


def disk_size(disk: Path) -> int:
    return shutil.disk_usage(disk).total


def _refused(world: World, root: Path, ended: Ended, why: str) -> str:
    assert ended.code == 0 or (ended.clear and why in ended.err), f"{ended}"
    finish(world, root)
    return "room enough" if ended.code == 0 else "one line, exit code 2"


def no_accelerator_memory(world: World, root: Path, rng: random.Random) -> str:
    fault = faults.no_accelerator_memory(rng.randrange(40), rng.choice((1, 3, 1000)))
    ended = Process(world.command(root), fault).wait()
    assert ended.code in (0, 3) or ended.clear, f"{ended}"
    finish(world, root, exactly=False)
    return {0: "smaller packs", 3: "some cells failed"}.get(ended.code, "one line, exit code 2")


def little_memory(world: World, root: Path, rng: random.Random) -> str:
    ended = Process(world.command(root), faults.little_memory(int(2 ** rng.uniform(10, 28)))).wait()
    assert ended.code in (0, 3) or ended.clear or ended.code < 0, f"{ended}"
    finish(world, root)
    told = {0: "memory enough", 3: "some cells failed", 2: "one line, exit code 2"}
    return told.get(ended.code, f"ended by signal {-ended.code}")


def damaged(world: World, root: Path, rng: random.Random) -> str:
    """A file of a finished run, or of one that was interrupted, is not what it should be."""
    if rng.random() < 0.5:
        assert Process(world.command(root)).wait().code == 0
    else:
        half = faults.at_operation(root, rng.randrange(world.operations // 2, world.operations), faults.die)
        Process(world.command(root), half).wait()
    found = [file for kind in rng.sample(KINDS, len(KINDS)) for file in sorted(root.glob(kind))]
    victim, way = found[0], rng.choice(WAYS)
    way(victim, rng)
    left = contents(root)
    name = f"{victim.parent.name if victim.parent != root else victim.name}, {way.__name__}"
    ended = Process(world.command(root)).wait()
    if ended.code != 0:
        assert ended.clear and str(victim) in ended.err, f"{name}: {ended}"
        assert contents(root) == left, f"{name}: refused, and changed"
        victim.unlink()
    finish(world, root, but=victim.stem)
    return "made again" if ended.code == 0 else "one line, exit code 2"


def stranger(world: World, root: Path, rng: random.Random) -> str:
    """Somebody else's file where no run has been yet: it stays, whatever happens."""
    theirs = strangers(root, rng)
    left = contents(root)
    ended = Process(world.command(root)).wait()
    assert ended.clear and contents(root) == left, f"{theirs.relative_to(root)}: {ended}"
    return "one line, exit code 2"


def two_at_once(world: World, root: Path, rng: random.Random) -> str:
    """The same command twice: one runs, the other one waits for nobody."""
    first = Process(world.command(root))
    time.sleep(rng.choice((0.0, rng.uniform(0, world.seconds))))
    second = Process(world.command(root))
    both = [first.wait(), second.wait()]
    codes = sorted(one.code for one in both)
    assert codes == [0, 0] or (codes == [0, 2] and all(one.clear and "in use" in one.err for one in both if one.code))
    finish(world, root)
    return "one after the other" if codes == [0, 0] else "one line, exit code 2"


def jumping_clock(world: World, root: Path, rng: random.Random) -> str:
    ended = Process(world.command(root), faults.jumping_clock(rng.randrange(1 << 30))).wait()
    assert ended.code == 0, f"{ended}"
    finish(world, root)
    return "nothing happens"

"""Inputs by the thousand, in process: ``python -m tests.fuzz.campaign`` prints a table, and fails if a promise broke.

Of every input: no exception but the project's own; an answer within a second of processor time; and what was read,
written out again, is what stood there. The same seed gives the same inputs.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from benchmark.documents import parse, read
from benchmark.errors import BenchError
from benchmark.plain_yaml import written
from benchmark.registry import DEFENSES
from benchmark.run.flags import _options
from benchmark.run.request import Request
from benchmark.spec import Named, resolve_defense
from benchmark.spec import settings as settings_of
from benchmark.suite_file import load_suite
from leaderboard.board.aggregate import leaderboard, suite_board
from leaderboard.board.schema import Leaderboard, SuiteBoard
from leaderboard.bundle.archive import unpacked
from leaderboard.bundle.layout import ENTRY, allowed
from leaderboard.bundle.leaks import leaks
from leaderboard.bundle.reading import digests, read_bundle
from leaderboard.bundle.rows_hold import cell_faults, company_faults
from leaderboard.rows.manifest import Manifest
from leaderboard.rows.run import Run, read_run
from tests.fuzz import inputs
from tests.leaderboard import row_factory

ALLOWED = 1.0
"""Seconds of processor time for an answer."""
BATCH = 1000
"""Inputs of one search; a long one remembers too much to go on quickly."""


class Broken(AssertionError):
    """A value is not what it was."""


class TooSlow(BaseException):
    """No answer in time; nothing that is tried may catch it."""


@dataclass
class Tally:
    """What became of the inputs of one kind."""

    accepted: int = 0
    refused: int = 0
    slowest: float = 0.0
    failures: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Kind:
    """Inputs of one kind, and what is asked of each."""

    made: st.SearchStrategy[Any]
    ask: Callable[[Any, Path], None]
    """Reads an input in a folder; BenchError: it is refused."""
    share: float
    """Of all inputs."""


# --- what is asked


def same(ours: Any, theirs: Any) -> bool:
    """Whether two readings are one: by type, but for a number that the other reader calls a text."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return list(ours) == list(theirs) and all(same(ours[k], theirs[k]) for k in ours)
    if isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    if isinstance(ours, float) and isinstance(theirs, str):
        return float(theirs) == ours
    return type(ours) is type(theirs) and ours == theirs


def kept(found: Any, given: Any) -> bool:
    """Whether everything given is found: a whole number may have become the equal other one."""
    if isinstance(given, Mapping):
        return isinstance(found, Mapping) and all(k in found and kept(found[k], v) for k, v in given.items())
    if isinstance(given, list | tuple):
        return isinstance(found, list | tuple) and len(found) == len(given) and all(map(kept, found, given))
    number = type(given) is int and type(found) is float and found == float(given)
    return number or (type(found) is type(given) and found == given)


def ensure(promise: bool, what: object) -> None:
    if not promise:
        raise Broken(str(what)[:2000])


def put(folder: Path, name: str, text: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    return path


def ask_yaml(text: str, folder: Path) -> None:
    value = read(put(folder, "any.yaml", text)).value
    ensure(same(value, yaml.safe_load(text.removeprefix("\ufeff"))), (value, text))
    ensure(same(read(put(folder, "again.yaml", written(value))).value, value), (value, written(value)))


def ask_json(text: str, folder: Path) -> None:
    value = read(put(folder, "any.json", text)).value
    ensure(same(value, json.loads(text.removeprefix("\ufeff"))), (value, text))
    ensure(same(read(put(folder, "again.yaml", written(value))).value, value), (value, written(value)))


def ask_option(pairs: list[str], folder: Path) -> None:
    given = _options(pairs)
    for key, value in given.items():
        text = written(value).removesuffix("\n...\n").strip("\n")  # how a document of one plain text ends
        ensure(same(parse(text, key), value), (key, value, text))
    ensure(kept(settings_of(resolve_defense("sae-clamp", given).defense), given), given)


def ask_spec(text: str, folder: Path) -> None:
    path = put(folder, "spec.json" if text.lstrip()[:1] == "{" else "spec.yaml", text)
    named = resolve_defense(str(path))
    given = {k.replace("-", "_"): v for k, v in read(path).value.items()}
    kind, found = given.pop("defense"), settings_of(named.defense)
    ensure(named.name == given.pop("name", path.stem) and kept(found, given), (found, given))
    again = resolve_defense(str(put(folder, "again.yaml", written({"defense": kind, "name": named.name, **found}))))
    ensure(again == Named(named.name, named.defense), (again, named))


def ask_suite(text: str, folder: Path) -> None:
    path = put(folder, "suite.yaml", text)
    suite, given = load_suite(str(path)), read(path).value
    found = suite.model_dump(mode="json")
    anchored = str(folder) in json.dumps(found) or ".." in text  # a local path is told from the file's folder
    if "extends" not in given and ".py:" not in text and not anchored:
        ensure(kept(found, given), (found, given))
    ensure(load_suite(str(put(folder, "again.yaml", written(found)))) == suite, found)
    ensure(bool(suite.hash), suite)


def ask_request(text: str, folder: Path) -> None:
    path = put(folder, "request.yaml", text)
    request = Request.load(path, {})
    given: dict[str, Any] = read(path).value
    found = request.model_dump()
    several = {k for k in ("defense", "tasks", "attacks") if isinstance(given.get(k), str)}
    plain: dict[str, Any] = {k: [v] if k in several else v for k, v in given.items()}
    plain["options"] = {k.replace("-", "_"): v for k, v in (given.get("options") or {}).items()}
    plain.pop("batch_size", None) if given.get("batch_size") == "auto" else None
    if plain.get("output_dir") is not None:
        ensure(found["output_dir"] == Path(plain.pop("output_dir")), given)
    ensure(kept(found, plain), (found, plain))


def ask_run(change: tuple[str, bytes | None], folder: Path) -> None:
    name, data = change
    path = next(iter(sorted(folder.glob(f"run/{name}"))))
    whole = path.read_bytes()
    try:
        path.write_bytes(data if data is not None else b"")
        read_run(folder / "run")
    finally:
        path.write_bytes(whole)


def ask_board(text: str, folder: Path) -> None:
    try:
        board = Leaderboard.model_validate_json(text)
    except ValidationError as error:
        raise BenchError(str(error)) from error
    ensure(Leaderboard.model_validate_json(board.model_dump_json()) == board, text)


def ask_entry(change: tuple[str, bytes], folder: Path) -> None:
    """A file of an entry is something else, under a hash that is right."""
    name, data = change
    root = folder / "entries" / "toy__v1" / "b__clamp" / "sha-clamp"
    path, before = root / name, _below(folder)
    whole, sealed = path.read_bytes(), (root / ENTRY).read_bytes()
    try:
        path.write_bytes(data)
        if name != ENTRY:
            said = json.loads(sealed)
            (root / ENTRY).write_text(json.dumps(said | {"files": digests(root)}))
        bundle = read_bundle(root)
        told = [fault for c in (*bundle.run.cells, *bundle.run.fresh) for fault in cell_faults(c.plan, c.rows, "run-1")]
        told += [*company_faults([(c.plan, c.rows) for c in bundle.run.cells]), *leaks(root)]
        ensure(all(isinstance(one, str) and one for one in told), told)
    finally:
        path.write_bytes(whole)
        (root / ENTRY).write_bytes(sealed)
    ensure(_below(folder) == before, "a file was made or lost")


def ask_archive(data: bytes, folder: Path) -> None:
    file, before = put(folder, "any.zip", data), _below(folder)
    with unpacked(file) as root:
        ensure(all(allowed(name) or name == ENTRY for name in _below(root)), _below(root))
    ensure(_below(folder) == before, "a file was made outside")


def ask_scores(made: list[inputs.Fate], folder: Path) -> None:
    """However examples turned out, each of them is counted once, and no number is out of its bounds."""
    rows = [row for number, fate in enumerate(made) for row in inputs.rows_of(number, fate)]
    measured = row_factory.cell(row_factory.table(rows))
    task = row_factory.frozen("ioi")
    run = Run(Manifest.model_validate(row_factory.manifest(["ioi"], ["clamp"], tasks=task)), (measured,), (), {})
    entry = suite_board([run], resamples=20).entries[0]
    result, eligible = entry.per_task["ioi"], [fate for fate in made if fate.eligible]
    suppressed = [fate for fate in eligible if fate.suppressed]
    ensure((result.eligible, result.suppressed) == (len(eligible), len(suppressed)), result)
    curve = result.curves.get("before_edit")
    if eligible and curve is not None:
        expected = [sum(fate.holds(budget) for fate in suppressed) / len(eligible) for budget in row_factory.BUDGETS]
        pairs = zip(curve.raw.rs, expected, strict=True)
        ensure(all(abs((found.value or 0.0) - share) < 1e-9 for found, share in pairs), (curve, expected))
    again = SuiteBoard.model_validate_json(suite_board([run], resamples=20).model_dump_json())
    ensure(again == suite_board([run], resamples=20), again)


def _below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


# --- the kinds


def kinds(folder: Path) -> dict[str, Kind]:
    """All kinds; files that some of them begin from are written into the folder."""
    for name in DEFENSES.names():
        resolve_defense(name)  # what is imported once is nobody's answer
    run = row_factory.write_run(folder / "run", row_factory.default_cells([0.1, 0.2], [0.1, 0.2]))
    files = {p: (run / p).read_text() for p in ("run.json", "plan.json")}
    fit = next(iter(sorted((run / "fits").iterdir())))
    files[f"fits/{fit.name}"] = fit.read_text()
    cell = next(iter(sorted((run / "cells").iterdir())))
    board = leaderboard([row_factory.board(run)]).model_dump(mode="json")
    place = folder / "entries" / "toy__v1" / "b__clamp"
    entry = row_factory.write_entry(place / "sha-clamp", row_factory.default_cells([0.1, 0.2], [0.1, 0.2]))
    said = {p.relative_to(entry).as_posix(): p.read_text() for p in sorted(entry.rglob("*.json"))}
    specs = st.one_of(*(inputs.changed(base) for base in (inputs.CLAMP, inputs.CLAMP, *inputs.OTHERS)))
    stranger = inputs.changed(dict(inputs.CLAMP), inputs.stranger)
    settings = [(k, v) for k, v in inputs.CLAMP.items() if k not in ("defense", "name")]
    right = st.sampled_from(settings).map(lambda pair: f"{pair[0]}={inputs.as_yaml(pair[1]).strip()}")
    named = st.tuples(st.sampled_from([k for k, _ in settings]), inputs.values.map(json.dumps)).map("=".join)
    return {
        "YAML": Kind(inputs.texts(st.one_of(inputs.stranger, stranger), inputs.as_yaml), ask_yaml, 0.2),
        "JSON": Kind(inputs.texts(inputs.values, inputs.as_json), ask_json, 0.1),
        "-D": Kind(
            st.lists(st.one_of(right, right, named, inputs.edited(right)), min_size=1, max_size=2), ask_option, 0.17
        ),
        "spec": Kind(
            st.one_of(inputs.texts(specs, inputs.as_yaml), inputs.texts(specs, inputs.as_json)), ask_spec, 0.17
        ),
        "suite": Kind(inputs.texts(inputs.changed(inputs.SUITE), inputs.as_yaml), ask_suite, 0.08),
        "request": Kind(inputs.texts(inputs.changed(inputs.REQUEST), inputs.as_yaml), ask_request, 0.12),
        "run": Kind(_files(files), ask_run, 0.03),
        "rows": Kind(_bytes(f"cells/{cell.name}", cell.read_bytes()), ask_run, 0.02),
        "entry": Kind(
            st.one_of(_files(said), _bytes("rows.parquet", (entry / "rows.parquet").read_bytes())), ask_entry, 0.05
        ),
        "archive": Kind(inputs.archives(said), ask_archive, 0.02),
        "scores": Kind(st.lists(inputs.fates, min_size=1, max_size=12), ask_scores, 0.03),
        "leaderboard": Kind(inputs.texts(inputs.changed(board), inputs.as_json), ask_board, 0.01),
    }


def _files(files: Mapping[str, str]) -> st.SearchStrategy[tuple[str, bytes]]:
    def changed(name: str) -> st.SearchStrategy[tuple[str, bytes]]:
        texts = inputs.texts(inputs.changed(json.loads(files[name])), inputs.as_json)
        return texts.map(lambda text: (name, text.encode("utf-8", "surrogatepass")))

    return st.one_of(*map(changed, files))


def _bytes(name: str, whole: bytes) -> st.SearchStrategy[tuple[str, bytes]]:
    """A file cut short, or with a few bytes overwritten."""
    at = st.integers(0, len(whole) - 1)
    cut = at.map(lambda n: whole[:n])
    flipped = st.tuples(at, st.binary(min_size=1, max_size=4)).map(
        lambda f: whole[: f[0]] + f[1] + whole[f[0] + len(f[1]) :]
    )
    return st.one_of(cut, flipped).map(lambda data: (name, data))


# --- the campaign


@contextmanager
def watched(seconds: float) -> Iterator[None]:
    """Processor time that is allowed."""

    def stop(*_: object) -> None:
        raise TooSlow(f"no answer within {seconds:g} s")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def ask(kind: Kind, made: Any, folder: Path, tally: Tally) -> None:
    """One input.

    Raises:
        Broken, TooSlow, or whatever is not the project's own.
    """
    start = time.process_time()
    try:
        with watched(ALLOWED):
            kind.ask(made, folder)
        tally.accepted += 1
    except BenchError:
        tally.refused += 1
    finally:
        tally.slowest = max(tally.slowest, time.process_time() - start)


def campaign(number: int, start: int, folder: Path) -> Iterator[tuple[str, Tally]]:
    """So many inputs of all kinds, from a seed; what became of those of each."""
    for name, kind in kinds(folder).items():
        tally = Tally()
        _warm(kind, folder)
        total = max(round(number * kind.share), 1)
        for first in range(0, total, BATCH):
            _batch(kind, folder, tally, min(BATCH, total - first), start + first)
        yield name, tally


def _warm(kind: Kind, folder: Path) -> None:
    """What is compiled once is nobody's answer."""
    _batch(kind, folder, Tally(), 20, 0)


def _batch(kind: Kind, folder: Path, tally: Tally, number: int, start: int) -> None:
    @seed(start)
    @settings(
        max_examples=number,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
        report_multiple_bugs=False,
    )
    @given(kind.made)
    def one(made: Any) -> None:
        last[:] = [made]
        ask(kind, made, folder, tally)

    last: list[Any] = []
    try:
        one()
    except (Exception, TooSlow) as error:
        trace = "".join(traceback.format_exception(error)[-6:])
        tally.failures.append(f"{last[0]!r:.1500}\n{trace[-2500:]}")


def heading() -> str:
    return f"{'kind':12} {'inputs':>8} {'accepted':>9} {'refused':>8} {'slowest':>9} {'broken':>7}"


def line(name: str, one: Tally) -> str:
    total = one.accepted + one.refused
    return f"{name:12} {total:8} {one.accepted:9} {one.refused:8} {one.slowest:7.3f} s {len(one.failures):7}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000, help="of all kinds together")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    broken = 0
    print(heading(), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for name, tally in campaign(given.inputs, given.seed, Path(folder)):
            print(line(name, tally), flush=True)
            for failure in tally.failures:
                print(f"--- {name}\n{failure}\n", file=sys.stderr)
            broken += len(tally.failures)
    sys.exit(broken > 0)


if __name__ == "__main__":
    main()

"""Run the pairs and write what they show."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.errors import UsageError
from benchmark.files import write_atomically
from benchmark.published.audit.clamp import baked, last_iterate
from benchmark.published.audit.drift import anchor, first_row, vacuous
from benchmark.published.audit.monitor import detached
from benchmark.published.audit.projection import gradient_only, infeasible, sketched
from benchmark.published.audit.reading import NotShown, Reading, describe_switch
from benchmark.published.audit.texts import detectors, inert
from benchmark.published.audit.workbench import Unavailable, Workbench
from benchmark.published.switches import Switch
from benchmark.run.provenance import environment

Pair = Callable[[Workbench], list[Reading]]

PAIRS: dict[Switch, Pair] = {
    Switch.GRADIENT_ONLY_PROJECTION: gradient_only,
    Switch.LAST_ITERATE: last_iterate,
    Switch.BAKED_CLAMP: baked,
    Switch.FIRST_ROW_DRIFT: first_row,
    Switch.VACUOUS_DRIFT: vacuous,
    Switch.DETACHED_MONITOR: detached,
    Switch.UNMONITORED_ANCHOR: anchor,
    Switch.ASYMMETRIC_DETECTORS: detectors,
    Switch.INERT_ANSWER_DELTA: inert,
    Switch.SKETCH_PROJECTION: sketched,
    Switch.INFEASIBLE_COUNTS: infeasible,
}


@dataclass(frozen=True)
class Audit:
    """What all pairs showed."""

    suite: str
    model: str
    weights_sha: str
    limit: int
    readings: tuple[Reading, ...]
    missing: tuple[NotShown, ...]
    seconds: float
    environment: dict[str, Any]

    def describe(self) -> dict[str, Any]:
        """As JSON values, for audit.json."""
        return {
            "schema_version": 1,
            "suite": self.suite,
            "model": {"id": self.model, "weights_sha": self.weights_sha},
            "limit": self.limit,
            "seconds": round(self.seconds, 1),
            "switches": [describe_switch(s) for s in PAIRS],
            "readings": [r.describe() for r in self.readings],
            "not_shown": [m.describe() for m in self.missing],
            **self.environment,
        }


def audit(
    suite: str = "embedded",
    *,
    limit: int = 32,
    switches: Sequence[str] | None = None,
    device: str = "auto",
    begun: Callable[[str], None] = lambda switch: None,
) -> Audit:
    """Measure every pair, or those of some switches.

    Args:
        limit: examples that are attacked, half as many where texts are generated.
        begun: called with the name of each switch before its pair is measured.

    Raises:
        UsageError: an unknown switch, or a suite that cannot be used.
    """
    started, wanted = time.perf_counter(), _wanted(switches)
    bench = Workbench(suite, limit=limit, device=device)
    readings: list[Reading] = []
    missing: list[NotShown] = []
    for switch in wanted:
        begun(switch)
        try:
            readings += PAIRS[switch](bench)
        except Unavailable as error:
            missing.append(NotShown(switch, str(error)))
    return Audit(
        bench.suite.name,
        bench.subject.name,
        bench.subject.weights_sha,
        limit,
        tuple(readings),
        tuple(missing),
        time.perf_counter() - started,
        environment(bench.subject.device),
    )


def _wanted(names: Sequence[str] | None) -> list[Switch]:
    unknown = [name for name in names or () if name not in set(Switch)]
    if unknown:
        raise UsageError(f"unknown switch {', '.join(unknown)}; there are {', '.join(Switch)}")
    return [switch for switch in PAIRS if names is None or switch in names]


def write(found: Audit, folder: Path) -> Path:
    """Write ``audit.json``.

    Raises:
        UsageError: the folder cannot be written.
    """
    target, text = folder / "audit.json", json.dumps(found.describe(), indent=1, allow_nan=False) + "\n"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(target, lambda part: part.write_text(text))
    except OSError as error:
        raise UsageError(f"cannot write {target}: {error.strerror}; give another --output-dir") from error
    return target

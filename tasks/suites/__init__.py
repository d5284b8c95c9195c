"""The suites that ship with the benchmark, as paths of their files."""

from pathlib import Path

EMBEDDED = Path(__file__).parent / "embedded.yaml"
SMOKE = Path(__file__).parent / "smoke.yaml"

__all__ = ["EMBEDDED", "SMOKE"]

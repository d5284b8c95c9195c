"""The suites that ship with the benchmark, as paths of their files."""

from pathlib import Path

_HERE = Path(__file__).parent

CROSS_LAYER = _HERE / "cross-layer.yaml"
EMBEDDED = _HERE / "embedded.yaml"
EMBEDDED_UTILITY = _HERE / "embedded-utility.yaml"
OWN = _HERE / "own.yaml"
SMOKE = _HERE / "smoke.yaml"
SMOLLM2 = _HERE / "smollm2.yaml"
VARIANTS = _HERE / "variants.yaml"

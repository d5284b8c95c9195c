"""The suites that ship with the benchmark, as paths of their files."""

from pathlib import Path

CROSS_LAYER = Path(__file__).parent / "cross-layer.yaml"
EMBEDDED = Path(__file__).parent / "embedded.yaml"
OWN = Path(__file__).parent / "own.yaml"
SMOKE = Path(__file__).parent / "smoke.yaml"
VARIANTS = Path(__file__).parent / "variants.yaml"

__all__ = ["CROSS_LAYER", "EMBEDDED", "OWN", "SMOKE", "VARIANTS"]

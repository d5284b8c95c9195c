"""The suites that ship with the benchmark, as paths of their files."""

from pathlib import Path

CROSS_LAYER = Path(__file__).parent / "cross-layer.yaml"
EMBEDDED = Path(__file__).parent / "embedded.yaml"
SMOKE = Path(__file__).parent / "smoke.yaml"
SMOLLM2 = Path(__file__).parent / "smollm2.yaml"
VARIANTS = Path(__file__).parent / "variants.yaml"

__all__ = ["CROSS_LAYER", "EMBEDDED", "SMOKE", "SMOLLM2", "VARIANTS"]

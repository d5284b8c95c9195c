"""The suites that ship with the benchmark, as paths of their files."""

from pathlib import Path

_HERE = Path(__file__).parent

CROSS_LAYER = _HERE / "cross-layer.yaml"
EMBEDDED = _HERE / "embedded.yaml"
EMBEDDED_UTILITY = _HERE / "embedded-utility.yaml"
GEMMA3_270M = _HERE / "gemma3-270m.yaml"
IOI_GPT2 = _HERE / "ioi-gpt2.yaml"
OWN = _HERE / "own.yaml"
REFUSAL_ADVBENCH = _HERE / "refusal-advbench.yaml"
REFUSAL_HARMBENCH = _HERE / "refusal-harmbench.yaml"
SMOKE = _HERE / "smoke.yaml"
SMOLLM2 = _HERE / "smollm2.yaml"
TPP_AMAZON = _HERE / "tpp-amazon.yaml"
TPP_BIOS = _HERE / "tpp-bios.yaml"
VARIANTS = _HERE / "variants.yaml"
WMDP_BIO = _HERE / "wmdp-bio.yaml"

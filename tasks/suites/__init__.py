"""The suites that ship with the benchmark, as paths of their files."""

from pathlib import Path

CROSS_LAYER = Path(__file__).parent / "cross-layer.yaml"
EMBEDDED = Path(__file__).parent / "embedded.yaml"
GEMMA3_270M = Path(__file__).parent / "gemma3-270m.yaml"
IOI_GPT2 = Path(__file__).parent / "ioi-gpt2.yaml"
OWN = Path(__file__).parent / "own.yaml"
REFUSAL_ADVBENCH = Path(__file__).parent / "refusal-advbench.yaml"
REFUSAL_HARMBENCH = Path(__file__).parent / "refusal-harmbench.yaml"
SMOKE = Path(__file__).parent / "smoke.yaml"
SMOLLM2 = Path(__file__).parent / "smollm2.yaml"
TPP_AMAZON = Path(__file__).parent / "tpp-amazon.yaml"
TPP_BIOS = Path(__file__).parent / "tpp-bios.yaml"
VARIANTS = Path(__file__).parent / "variants.yaml"
WMDP_BIO = Path(__file__).parent / "wmdp-bio.yaml"

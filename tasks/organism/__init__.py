"""The model organism: a small language model, its SAEs, and the invented world that both were trained on.

Only paths live here, so that importing the package costs nothing.
"""

from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"
"""Everything that `bench organism train` writes."""
MODEL_DIR = WEIGHTS / "model"
"""Hugging Face folder of the language model and its tokenizer."""
SAE_DIR = WEIGHTS / "saes"
"""One sae_lens folder per site, named by the site: `blocks.2.hook_resid_post`."""
MANIFEST = WEIGHTS / "manifest.json"
"""Recipe, hashes and measured quality of the shipped weights."""

__all__ = ["MANIFEST", "MODEL_DIR", "SAE_DIR", "WEIGHTS"]

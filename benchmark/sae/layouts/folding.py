"""What an SAE computes in another parametrisation, written into its tensors."""

from __future__ import annotations

from dataclasses import replace

import torch

from benchmark.errors import UsageError
from benchmark.sae.layouts.normal import Sae

SAME = 0.01
"""Relative difference of two statements of one factor that is rounding."""


def scaled_input(sae: Sae, factor: float) -> Sae:
    """The SAE of the unscaled stream, for one that was trained on the stream times ``factor``.

    Activations keep their units; ``threshold`` and ``b_enc`` are about them and stay.
    """
    return replace(sae, W_enc=sae.W_enc * factor, W_dec=sae.W_dec / factor, b_dec=sae.b_dec / factor)


def unit_decoder(sae: Sae) -> Sae:
    """The same SAE with decoder rows of norm 1: what competes or is compared with a threshold by activation times
    decoder norm then does so by activation."""
    norms = sae.W_dec.norm(dim=1).clamp(min=torch.finfo(torch.float32).tiny)
    return replace(sae, W_enc=sae.W_enc * norms, b_enc=sae.b_enc * norms, W_dec=sae.W_dec / norms[:, None])


def agreed(where: object, said: float | None, registered: float | None) -> float | None:
    """One input factor from what the files and a registry say.

    Raises:
        UsageError: they differ, or it is no positive number.
    """
    found = registered if said is None else said
    if found is None:
        return None
    if not 0 < found < float("inf"):
        raise UsageError(f"{where}: its inputs are multiplied with {found}; give a positive factor")
    if registered is not None and abs(registered - found) > SAME * found:
        raise UsageError(
            f"{where}: its files multiply its inputs with {found:.6g}, the registry with {registered:.6g}; "
            "give the folder itself if the files are right"
        )
    return found

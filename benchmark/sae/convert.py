"""An SAE of any layout, written as sae_lens 6 writes one: read once without trust, and from then on without pickles."""

from __future__ import annotations

from pathlib import Path

from benchmark.errors import UsageError
from benchmark.sae.layouts.sae_lens import write
from benchmark.sae.source import read_sae


def converted(source: str, out: Path) -> str:
    """Write the SAE that is named so into a new folder, in fp32; returns what was done, in a sentence.

    Raises:
        UsageError: there is no such SAE, its files do not fit each other, or the folder is there already.
    """
    if out.exists():
        raise UsageError(f"{out} is there already; give another folder, or remove it")
    sae = read_sae(source)
    try:
        write(sae, out, converted_from=source)
    except OSError as error:
        raise UsageError(f"{out} cannot be written ({error.strerror}); give another folder") from error
    said = sae.declared
    return (
        f"{out}: a {sae.architecture} SAE of {said.model or 'a model that it does not name'} at "
        f"{said.hook or 'a site that it does not name'}, {sae.width} latents of a stream of width {sae.d_model}"
    )

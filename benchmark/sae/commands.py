"""``bench sae``: the verbs about SAEs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True)


@app.callback()  # keeps a verb, which typer would leave out while it is the only one
def sae() -> None:
    """SAEs of a model's residual stream."""


@app.command()
def convert(
    source: Annotated[str, typer.Argument(help="Folder, file, hub:OWNER/NAME@REVISION/PATH, or release/sae_id.")],
    out: Annotated[Path, typer.Argument(help="Folder to be written; it must not be there yet.")],
) -> None:
    """Write an SAE of any known layout as a folder that sae_lens reads (cfg.json, sae_weights.safetensors)."""
    from benchmark.sae.convert import converted
    from benchmark.terminal import terminal

    terminal().print(converted(source, out), soft_wrap=True)

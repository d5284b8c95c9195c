"""`bench sae`: the group of what is done with SAEs."""

from __future__ import annotations

import typer

app = typer.Typer(no_args_is_help=True)


@app.callback()  # keeps the verbs, of which typer would leave one out while it is the only one
def sae() -> None:
    """Sparse autoencoders of a model's residual stream."""

"""`bench organism`: the model organism that ships with the benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmark.terminal import quiet

app = typer.Typer(no_args_is_help=True)


@app.callback()  # keeps the verb `train`, which typer would leave out while it is the only one
def organism() -> None:
    """The model organism that ships with the benchmark."""


@app.command()
def train(
    output_dir: Annotated[Path, typer.Option("--output-dir", "-o", help="Where the weights and the manifest go.")],
    steps: Annotated[int | None, typer.Option(min=1, help="Optimiser steps; default: the recipe's.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of corpus, model and SAEs.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:<index>.")] = "auto",
) -> None:
    """Train the organism from nothing: corpus, language model, SAEs, manifest. The same command again resumes."""
    from tasks.organism.train import train as train_organism  # takes seconds, and --help must answer at once

    quiet()
    train_organism(output_dir, seed=seed, steps=steps, device=None if device == "auto" else device)

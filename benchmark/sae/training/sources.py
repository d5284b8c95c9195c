"""Where the text comes from: a file, a file of a data set on the hub, or the model itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmark.errors import UsageError
from benchmark.hub import HUB, parse_hub, snapshot
from benchmark.model.subject import Subject
from benchmark.sae.training.documents import Blocks, from_texts, together
from benchmark.sae.training.sampling import sampled
from benchmark.sae.training.settings import Collection
from benchmark.sae.training.texts import Texts, read_texts

ITSELF = "model"
"""What is written for text that the model samples."""


class Text(NamedTuple):
    """Text to train on."""

    blocks: Blocks
    described: Sequence[Mapping[str, str]]
    """Each source by its name and the hash of its content."""


def text_of(subject: Subject, sources: Sequence[str], column: str, settings: Collection) -> Text:
    """The text of all sources, read or, for what the model writes, about to be.

    Raises:
        UsageError: no source, one that is named twice, or one that cannot be read.
    """
    if not sources or len(set(sources)) != len(sources):
        raise UsageError(f"--text is {', '.join(sources) or 'missing'}; name each source of text once")
    read = [None if source == ITSELF else _file(source, column) for source in sources]
    blocks = [sampled(subject, settings) if f is None else from_texts(subject, f.texts, settings) for f in read]
    described = [
        {"name": ITSELF, "sha256": subject.weights_sha} if f is None else {"name": f.name, "sha256": f.sha256}
        for f in read
    ]
    return Text(together(blocks), described)


def _file(source: str, column: str) -> Texts:
    if not source.startswith(HUB):
        return read_texts(Path(source), column)
    part = parse_hub(source)
    if not part.path:
        raise UsageError(f"{source} is a whole data set; name one file of it: hub:OWNER/NAME@REV/PATH.parquet")
    return read_texts(snapshot(part, [part.path], kind="dataset") / part.path, column)

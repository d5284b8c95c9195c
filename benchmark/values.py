"""Settings as exact JSON values: two values that are told alike do the same, or the value is refused.

A tensor stands by its dtype, shape and bytes, a local file or folder by its content, an object by its class and what it
holds. What has no exact form (a function, a handle, a generator) is refused by name: its text may stay equal while it
changes. Forms that JSON does not have are mappings with one key that begins with ``!``.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence, Set
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from functools import cached_property, partial
from pathlib import Path, PurePath
from types import ClassMethodDescriptorType, MethodDescriptorType, ModuleType, SimpleNamespace, WrapperDescriptorType
from typing import Any
from uuid import UUID

from benchmark.errors import UsageError

_SPELLED_OUT = (complex, range, Decimal, Fraction, date, time, timedelta, UUID)
"""Their text is exact."""
_NAMES_A_PLACE = re.compile(r"(?:^|.*[_-])(?:sae|model|source|weights|checkpoint|path|file|folder|directory|dir)s?$")
"""Settings whose value may be a file or a folder although it looks like a word."""
MOST_FILES = 2000
"""Below a folder that a setting names; a model has a dozen."""
_CACHES = frozenset({"__pycache__", ".cache", ".git", ".ipynb_checkpoints"})
"""Folders that come by themselves."""


_in_order = partial(json.dumps, sort_keys=True)


class Inexact(UsageError):
    """A value that cannot be told from another one."""


def exact(value: Any, where: str = "", *, written: bool = False, _inside: tuple[int, ...] = ()) -> Any:
    """A value as JSON, without loss.

    Args:
        where: what it is called, for the error.
        written: as it is written down, so that plain settings build it again: without the classes of the dataclasses
            in it, and places by their names.

    Raises:
        Inexact: there is no exact form.
    """
    plain, form = _simple(value, where, written)
    if plain:
        return form
    if id(value) in _inside:
        raise _refused(where, "refers to itself")
    inside = (*_inside, id(value))

    def part(of: Any, name: Any) -> Any:
        return exact(of, f"{where}.{name}" if where else str(name), written=written, _inside=inside)

    if isinstance(value, Mapping):
        return _mapping(value, part)
    if isinstance(value, Sequence):
        return [part(item, i) for i, item in enumerate(value)]
    if isinstance(value, Set):
        return {"!set": sorted((part(item, "item") for item in value), key=_in_order)}
    if array := _array(value, where):
        return array
    held = {name: part(content, name) for name, content in held_by(value, where).items()}
    plain = written and dataclasses.is_dataclass(value)
    return held if plain else {"!class": type(value).__qualname__, **held}


def _simple(value: Any, where: str, written: bool) -> tuple[bool, Any]:
    """Whether the value has no parts, and its form."""
    if isinstance(value, Enum):
        return True, {"!enum": f"{type(value).__qualname__}.{value.name}"}
    if value is None or isinstance(value, bool):
        return True, value
    if isinstance(value, int):
        return True, int(value)
    if isinstance(value, float) and type(value).__module__ != "numpy":
        return True, float(value) if math.isfinite(value) else {"!float": repr(float(value))}
    if isinstance(value, str | PurePath):
        return True, str(value) if written else _text(value, where)
    if isinstance(value, bytes | bytearray | memoryview):
        return True, {"!bytes": hashlib.sha256(bytes(value)).hexdigest()}
    if isinstance(value, _SPELLED_OUT):
        return True, {f"!{type(value).__name__}": repr(value)}
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.dtype | torch.device):
        return True, {"!torch": str(value)}
    return False, None


def _text(value: str | PurePath, where: str) -> str:
    """A text; a local file or folder is its content, wherever it lies."""
    text = str(value)
    name = next((part for part in reversed(where.split(".")) if not part.isdigit()), "")
    return by_content(text) if isinstance(value, PurePath) or is_place(text, name) else text


def is_place(text: str, name: str) -> bool:
    """Whether the setting ``name`` means a local file or folder by ``text``: it is there, and no mere word."""
    if not text or len(text) > 1000 or "\n" in text or "\0" in text:
        return False
    where = Path(text)
    try:
        if "/" in text or "\\" in text or _NAMES_A_PLACE.match(name.lower()):
            return where.exists()
        return bool(where.suffix) and where.is_file()
    except OSError:
        return False


def _mapping(value: Mapping[Any, Any], part: Any) -> Any:
    if all(isinstance(key, str) and not isinstance(key, Enum) and not key.startswith("!") for key in value):
        return {key: part(item, key) for key, item in value.items()}
    pairs = [[part(key, "key"), part(item, key)] for key, item in value.items()]
    return {"!mapping": sorted(pairs, key=_in_order)}


def _array(value: Any, where: str) -> dict[str, Any] | None:
    """A tensor, an array or a scalar of numpy, by its bytes; None: it is none of them."""
    torch, numpy = sys.modules.get("torch"), sys.modules.get("numpy")
    if torch is not None and isinstance(value, torch.Tensor):
        return _tensor(torch, value, where)
    if numpy is None or not isinstance(value, numpy.ndarray | numpy.generic):
        return None
    if value.dtype.hasobject:
        raise _refused(where, "is an array of Python objects")
    content = numpy.ascontiguousarray(value)
    return {"!array": str(value.dtype.descr), "shape": list(value.shape), "sha256": _sha(content.tobytes())}


def _tensor(torch: ModuleType, value: Any, where: str) -> dict[str, Any]:
    if value.layout != torch.strided or value.is_quantized or value.device.type == "meta":
        raise _refused(where, f"is a tensor of layout {value.layout} on {value.device}; give a dense one with content")
    dense = value.detach().cpu().resolve_conj().resolve_neg().contiguous()
    content = dense.reshape(-1).view(torch.uint8).numpy().tobytes() if dense.numel() else b""
    return {"!tensor": str(value.dtype), "shape": list(value.shape), "sha256": _sha(content)}


def _sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def held_by(value: Any, where: str = "") -> dict[str, Any]:
    """What an object written in Python holds: the fields of a dataclass, else its attributes.

    Raises:
        Inexact: it is a function, a class, or holds what Python does not see.
    """
    if isinstance(value, type) or callable(value) and not is_transparent(type(value)):
        raise _refused(where, f"is a {type(value).__name__} ({getattr(value, '__qualname__', value)})")
    if not is_transparent(type(value)):
        raise _refused(where, f"is a {type(value).__module__}.{type(value).__qualname__}")
    fields = dataclasses.fields(value) if dataclasses.is_dataclass(value) else ()
    computed = {n for kind in type(value).__mro__ for n, v in vars(kind).items() if isinstance(v, cached_property)}
    others = {name: held for name, held in attributes(value) if name not in computed}
    return {**others, **{f.name: getattr(value, f.name) for f in fields}}


def is_transparent(kind: type) -> bool:
    """Whether all that an object holds are its attributes: its classes are written in Python."""
    return kind is SimpleNamespace or not any(_is_compiled(k) for k in kind.__mro__ if k is not object)


def _is_compiled(kind: type) -> bool:
    of_c = (WrapperDescriptorType, MethodDescriptorType, ClassMethodDescriptorType)
    own = (v for name, v in vars(kind).items() if v is not getattr(object, name, None))
    return not kind.__flags__ & 1 << 9 or any(isinstance(v, of_c) for v in own)  # 9: made when the program runs


def attributes(value: Any) -> Iterator[tuple[str, Any]]:
    """Name and content of everything that is stored on an object."""
    slots = [name for kind in type(value).__mro__ for name in _slots(kind) if hasattr(value, name)]
    yield from ((name, getattr(value, name)) for name in slots if name not in ("__dict__", "__weakref__"))
    yield from vars(value).items() if hasattr(value, "__dict__") else ()


def _slots(kind: type) -> Sequence[str]:
    named = vars(kind).get("__slots__", ())
    return (named,) if isinstance(named, str) else tuple(named)


def _refused(where: str, what: str) -> Inexact:
    return Inexact(
        f"the setting {where or 'of this object'} {what}, of which no exact hash can be made: a change of it would go "
        "unnoticed, and old results would be given for new ones. Give numbers, texts, tensors, files, or dataclasses "
        "of them; code belongs into the class"
    )


def sha(value: Any) -> str:
    """Short hash of JSON values, independent of the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, allow_nan=False).encode()).hexdigest()[:16]


def by_content(source: str) -> str:
    """A hash of a local file or folder, whole; anything else, a name in a registry or on a hub, stands for itself."""
    where = Path(source)
    return f"sha256:{content_hash(where)[:16]}" if where.exists() else source


def content_hash(where: Path) -> str:
    """Hash of a file's bytes, or of all files below a folder with their places in it.

    Raises:
        UsageError: something there cannot be read, or it is a folder of more than weights and data.
    """
    if where.is_file():
        return file_hash(where)
    return sha([[name, file_hash(where / name)] for name in sorted(_files(where))])


def _files(folder: Path) -> list[str]:
    """The files below a folder, by their places in it."""
    found: list[str] = []
    for inner, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in _CACHES]
        here = Path(inner)
        found += [(here / name).relative_to(folder).as_posix() for name in names if (here / name).is_file()]
        if len(found) > MOST_FILES:
            raise UsageError(
                f"{folder} holds more than {MOST_FILES} files, all of which would stand in the results' keys; name the "
                "folder or file that is meant"
            )
    return found


_HASHED: dict[Path, tuple[int, int, str]] = {}
"""File -> time of its last change, size, hash: a file is read once a process."""


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        stat = path.stat()
        known = _HASHED.get(path)
        if known is None or known[:2] != (stat.st_mtime_ns, stat.st_size):
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            known = _HASHED[path] = (stat.st_mtime_ns, stat.st_size, found)
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read ({error.strerror}), so nothing can tell whether it changed; make it readable"
        ) from error
    return known[2]

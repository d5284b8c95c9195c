"""What functions do by themselves, for those that no file holds."""

from __future__ import annotations

import dis
import types
from collections.abc import Iterator
from typing import Any

from benchmark.imports import STANDARD
from benchmark.values import exact


def functions_of(kind: type) -> Iterator[types.FunctionType]:
    """The functions that a class itself defines, but those that ``dataclass`` and ``NamedTuple`` add."""
    for value in vars(kind).values():
        for function in functions_in(value):
            code = function.__code__
            if not code.co_qualname.startswith("__create_fn__") and not code.co_filename.startswith(STANDARD):
                yield function


def functions_in(value: Any) -> list[types.FunctionType]:
    """The functions in a method, property or decorated function."""
    if isinstance(value, staticmethod | classmethod):
        value = value.__func__
    parts = [value, getattr(value, "__wrapped__", None), getattr(value, "func", None)]
    parts += [getattr(value, name, None) for name in ("fget", "fset", "fdel")] if isinstance(value, property) else []
    return [part for part in parts if isinstance(part, types.FunctionType)]


def names_read(code: types.CodeType) -> set[str]:
    """Names of a module that a function reads, and the functions in it."""
    names = {i.argval for i in dis.get_instructions(code) if i.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    inner = (part for part in code.co_consts if isinstance(part, types.CodeType))
    return names.union(*(names_read(part) for part in inner))


def bytecode(code: types.CodeType) -> list[Any]:
    """What a function does, without where it stands."""
    consts = [bytecode(c) if isinstance(c, types.CodeType) else _constant(c) for c in code.co_consts]
    names = [code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars]
    return [code.co_code.hex(), code.co_argcount, code.co_kwonlyargcount, code.co_flags, consts, *map(list, names)]


def _constant(value: Any) -> Any:
    return "..." if value is Ellipsis else value if isinstance(value, str) else exact(value, "constant")

"""Fields of the request as flags: a verb takes the ones that it needs, and their help is the field's docstring."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

import typer

from benchmark.documents import parse
from benchmark.errors import UsageError
from benchmark.plain_values import shown
from benchmark.run.request import Request, flag_of
from benchmark.terminal import quiet

CONFIG = "config"


def with_flags(verb: Callable[..., None], fields: Sequence[str]) -> Callable[..., None]:
    """A verb ``(request, ...)`` as a function of flags: ``fields`` of the request (none: all), ``--config``, and what
    else it takes."""
    chosen = fields or tuple(Request.model_fields)
    known = {Request.__name__: Request}  # a verb's module may name it for type checkers only
    own = list(inspect.signature(verb, locals=known, eval_str=True).parameters.values())[1:]

    def command(**given: Any) -> None:
        rest = {p.name: given.pop(p.name) for p in own}
        verb(_request(given), **rest)

    parameters = [*(_parameter(name) for name in chosen), _config(), *own]
    command.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
    )
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    command.__doc__, command.__name__ = verb.__doc__, verb.__name__
    return command


def _parameter(name: str) -> inspect.Parameter:
    """A field as an option without a default of its own: what is not given stays as the request has it."""
    field, names = Request.model_fields[name], flag_of(name).names
    help = f"{field.description}"
    if not isinstance(field.default, bool) and field.default not in (None, {}):
        help += f" Default: {field.default}."
    option = typer.Option(*names, help=help, show_default=False)
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[_given(field.annotation, name), option]
    )


def _given(annotation: Any, name: str) -> Any:
    """What is written on the command line for a field."""
    kinds = _alternatives(annotation)
    if name in WRITTEN or any(get_origin(kind) is tuple for kind in kinds):
        return list[str] | None
    if name == "batch_size":
        return str | None  # a number, or the word auto
    plain = next(kind for kind in kinds if kind in (bool, int, str, Path))
    return (str if plain is Path else plain) | None  # an empty text is no path, and would be made one


def _alternatives(annotation: Any) -> list[Any]:
    if get_origin(annotation) in (Union, types.UnionType):
        return [found for part in get_args(annotation) for found in _alternatives(part)]
    return _alternatives(get_args(annotation)[0]) if get_origin(annotation) is Annotated else [annotation]


def _config() -> inspect.Parameter:
    option = typer.Option("--config", help="YAML file with options by their field names; flags go before it.")
    return inspect.Parameter(
        CONFIG, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[Path | None, option]
    )


def _request(given: Mapping[str, Any]) -> Request:
    quiet()
    values = {name: value for name, value in given.items() if value is not None and name != CONFIG}
    for name, read in WRITTEN.items():
        if name in values:
            values[name] = read(values[name])
    if "batch_size" in values:
        values["batch_size"] = _batch_size(values["batch_size"])
    config = given.get(CONFIG)
    return Request.make(values, "bench") if config is None else Request.load(config, values)


def _batch_size(text: str) -> int | None:
    if text == "auto":
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10) or int(text) < 1:
        raise UsageError(f"--batch-size {text!r}: write auto or a number of rows, at least 1")
    return int(text)


def _options(pairs: list[str]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for key, value in _pairs("-D", pairs, "key=value"):
        _put(options, [key.replace("-", "_")], parse(value, f"-D {key}"), f"-D {key}")
    return options


def _task_settings(pairs: list[str]) -> dict[str, Any]:
    return _nested("-T", pairs)


def _attack_settings(pairs: list[str]) -> dict[str, Any]:
    return _nested("-A", pairs)


def _nested(flag: str, pairs: list[str]) -> dict[str, Any]:
    """Settings whose names have dots that lead into them."""
    settings: dict[str, Any] = {}
    for key, value in _pairs(flag, pairs, "key=value"):
        first, *rest = key.split(".")
        _put(settings, [first.replace("-", "_"), *rest], parse(value, f"{flag} {key}"), f"{flag} {key}")
    return settings


def _saes(pairs: list[str]) -> dict[str, list[str]]:
    saes: dict[str, list[str]] = {}
    for site, source in _pairs("--sae", pairs, "HOOK=SOURCE, say blocks.6.hook_resid_post=FOLDER"):
        saes.setdefault(site, []).append(source)
    return saes


WRITTEN: Mapping[str, Callable[[list[str]], Any]] = {
    "options": _options,
    "attack_settings": _attack_settings,
    "task_settings": _task_settings,
    "saes": _saes,
}
"""Fields that are given pair by pair, and what makes one value of them."""


def _pairs(flag: str, texts: list[str], form: str) -> Iterator[tuple[str, str]]:
    for text in texts:
        key, separator, value = text.partition("=")
        if not separator or not key.strip():
            raise UsageError(f"{flag} {shown(text)}: write {form}")
        yield key.strip(), value


def _put(settings: dict[str, Any], path: list[str], value: Any, where: str) -> None:
    """A value at the end of a path of keys.

    Raises:
        UsageError: there is a value on the way or at its end, or a key is empty.
    """
    *way, last = path
    for name in way:
        inner = settings.setdefault(name, {})
        if not isinstance(inner, dict):
            raise UsageError(f"{where}: {name} has a value already; leave one of the two out")
        settings = inner
    if not all(path):
        raise UsageError(f"{where}: a name between dots is empty; write say data.columns.question=NAME")
    if last in settings:
        raise UsageError(f"{where}: it is given twice; leave one out")
    settings[last] = value

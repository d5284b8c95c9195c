"""Which layout a folder or file is in, by the files that are there; none or several is an error that lists them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmark.errors import UsageError
from benchmark.sae.layouts import (
    dictionary_learning,
    gemma_scope,
    gemma_scope_2,
    llama_scope,
    llamascopium,
    qwen_scope,
    sae_lens,
    sparsify,
)
from benchmark.sae.layouts.normal import Sae, checked
from benchmark.sae.layouts.place import Place

_SHOWN = 6
"""Files or folders that a message names; of more, their number."""


@dataclass(frozen=True)
class Layout:
    """A way to lay out one SAE."""

    name: str
    files: tuple[str, ...]
    """What is there, by path in the SAE's folder; none: the SAE is one file."""
    read: Callable[[Place], Sae]
    optional: tuple[str, ...] = ()
    form: str = ""
    """How the one file is called."""

    def is_at(self, place: Place) -> bool:
        if not self.files:
            return place.path.is_file() and qwen_scope.FILE.fullmatch(place.path.name) is not None
        return place.has(*self.files)

    def __str__(self) -> str:
        return f"{self.name} ({' + '.join(self.files) or self.form})"


LAYOUTS: dict[str, Layout] = {
    layout.name: layout
    for layout in (
        Layout("sae_lens", sae_lens.FILES, sae_lens.read),
        Layout("gemma_scope", gemma_scope.FILES, gemma_scope.read),
        Layout("gemma_scope_2", gemma_scope_2.FILES, gemma_scope_2.read, gemma_scope_2.OPTIONAL),
        Layout("llama_scope", llama_scope.FILES, llama_scope.read),
        Layout("llamascopium", llamascopium.FILES, llamascopium.read, llamascopium.OPTIONAL),
        Layout("dictionary_learning", dictionary_learning.FILES, dictionary_learning.read),
        Layout("sparsify", sparsify.FILES, sparsify.read),
        Layout("qwen_scope", (), qwen_scope.read, form=qwen_scope.FORM),
    )
}


def read(place: Place, layout: str | None = None) -> Sae:
    """The SAE at a place.

    Args:
        layout: a name of ``LAYOUTS``, where a registry says it; None: by its files.

    Raises:
        UsageError: it is in none or several of the layouts, or its files do not fit each other.
    """
    folder = _folder(place)
    fitting = [one for one in LAYOUTS.values() if one.is_at(folder) and layout in (None, one.name)]
    if len(fitting) != 1:
        raise _unclear(folder, fitting, [LAYOUTS[layout]] if layout else list(LAYOUTS.values()))
    return checked(fitting[0].read(folder), place.path)


def _folder(place: Place) -> Place:
    """The folder of a layout, for one of its files."""
    for layout in LAYOUTS.values():
        for file in layout.files:
            depth = file.count("/") + 1
            if place.path.is_file() and place.path.as_posix().endswith("/" + file):
                name = "/".join(place.name.split("/")[:-depth])
                return Place(place.path.parents[depth - 1], name, place.overrides, place.factor)
    return place


def _unclear(place: Place, fitting: list[Layout], known: list[Layout]) -> UsageError:
    path = place.path
    held = sorted(p.name for p in path.iterdir()) if path.is_dir() else [path.name]
    if len(fitting) > 1:
        return UsageError(
            f"{path} is in several layouts of an SAE at once: {', '.join(map(str, fitting))}; leave the files of one "
            "of them in a folder"
        )
    inside = list(_inside(path)) if path.is_dir() else []
    better = f"one of these, which are SAEs: {_few(inside)}" if inside else "a folder or file in one of these"
    return UsageError(
        f"{path} is no SAE in a known layout: it holds {_few(held) or 'nothing'}; known are: "
        f"{', '.join(map(str, known))}; give {better}"
    )


def _inside(folder: Path) -> Iterator[str]:
    """What lies directly in a folder and is an SAE."""
    for inner in sorted(folder.iterdir()):
        if any(layout.is_at(Place(inner, str(inner))) for layout in LAYOUTS.values()):
            yield str(inner)


def _few(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more

"""From the name of an SAE to its files: a local folder or file, a part of a hub repository, or ``release/sae_id``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath

from benchmark.errors import UsageError
from benchmark.hub import HUB, HubSource, parse_hub, snapshot
from benchmark.sae.layouts.detect import LAYOUTS, Layout, read
from benchmark.sae.layouts.normal import Sae
from benchmark.sae.layouts.place import Place
from benchmark.sae.releases import Release, find


def read_sae(source: str) -> Sae:
    """The SAE that is named so; one that is not on this machine is fetched.

    Args:
        source: a folder or file, ``hub:OWNER/NAME@REVISION/PATH``, or ``release/sae_id[@REVISION]`` of sae_lens's list.

    Raises:
        UsageError: there is none, it cannot be fetched, or its files do not fit each other.
    """
    if source.startswith(HUB):
        return _of_hub(parse_hub(source))
    path = Path(source).expanduser()
    if path.exists():
        return read(Place(path, path.absolute().as_posix()))
    release, _, rest = source.partition("/")
    sae_id, _, revision = rest.partition("@")
    if source.startswith(("/", ".", "~")):
        raise UsageError(f"there is no folder or file {source} with an SAE; give one that exists")
    return _of_release(find(release, sae_id), revision or None)


def asked_of_hub(source: str) -> tuple[HubSource, list[str]] | None:
    """The part of the hub that an SAE is read from, and the patterns of its files; None: it is local.

    Raises:
        UsageError: it names no part of the hub, or no release.
    """
    if source.startswith(HUB):
        found = parse_hub(source)
        return found, _patterns(found.path, list(LAYOUTS.values()))
    if Path(source).expanduser().exists():
        return None
    release, _, rest = source.partition("/")
    sae_id, _, revision = rest.partition("@")
    named = find(release, sae_id)
    return HubSource(named.repo, revision or None, named.path), _patterns(named.path, [LAYOUTS[named.layout]])


def _of_hub(source: HubSource) -> Sae:
    folder = snapshot(source, _patterns(source.path, list(LAYOUTS.values())))
    return read(Place(folder / source.path, f"{source.repo}/{source.path}"))


def _of_release(release: Release, revision: str | None) -> Sae:
    layout = LAYOUTS[release.layout]
    folder = snapshot(HubSource(release.repo, revision, release.path), _patterns(release.path, [layout]))
    place = Place(folder / release.path, f"{release.repo}/{release.path}", release.overrides, release.factor)
    return _as_listed(read(place, layout.name), release)


def _as_listed(sae: Sae, release: Release) -> Sae:
    """What its own files do not declare is declared by the list."""
    said = sae.declared
    return replace(
        sae,
        declared=replace(
            said,
            model=said.model or release.model,
            l0=release.l0 if said.l0 is None else said.l0,
            explained_variance=(
                release.explained_variance if said.explained_variance is None else said.explained_variance
            ),
        ),
    )


def _patterns(path: str, layouts: list[Layout]) -> list[str]:
    """Of the files of an SAE in a repository; a pattern ends in ``*`` where the file may be missing."""
    if PurePosixPath(path).suffix in (".pt", ".npz", ".safetensors", ".pth"):
        return [path]
    certain = len(layouts) == 1
    inner = f"{path}/" if path else ""
    found = [inner + file + ("" if certain else "*") for layout in layouts for file in layout.files]
    return list(dict.fromkeys([*found, *(f"{inner}{file}*" for layout in layouts for file in layout.optional)]))

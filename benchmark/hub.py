"""The one place that talks to the Hugging Face hub: what is fetched, what would be, and why it cannot be."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Literal, NamedTuple

from benchmark.errors import UsageError

HUB = "hub:"
FORM = "hub:OWNER/NAME@REVISION, with /PATH behind the revision for a part of it"
_SOURCE = re.compile(
    r"hub:(?P<repo>\w[\w.-]*(?:/\w[\w.-]*)?)(?:@(?P<revision>[\w.-]+)(?:/(?P<path>[^/\s][^\s]*[^/\s]|[^/\s]))?)?"
)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHOWN = 8
"""Files that a message names; of more, their number."""

Kind = Literal["model", "dataset"]


class HubSource(NamedTuple):
    """A repository of the hub, or a part of one."""

    repo: str
    """``OWNER/NAME``, or one of the few names without an owner."""
    revision: str | None
    """Commit, tag or branch; None: what its owner shows today."""
    path: str
    """Folder or file in it; empty: all of it."""

    def __str__(self) -> str:
        at = f"@{self.revision}" if self.revision else ""
        return HUB + self.repo + at + (f"/{self.path}" if self.path else "")


def is_commit(revision: str | None) -> bool:
    """Whether it is the whole hash of a commit, behind which an owner can put nothing else."""
    return revision is not None and _COMMIT.fullmatch(revision) is not None


class Missing(NamedTuple):
    """A file that is not on this machine yet."""

    path: str
    """In its repository; a pattern where nothing is known of what there is."""
    bytes: int | None
    """None: not known without a connection."""


def parse_hub(text: str) -> HubSource:
    """The parts of ``hub:OWNER/NAME[@REVISION[/PATH]]``.

    Raises:
        UsageError: it is of another form.
    """
    found = _SOURCE.fullmatch(text)
    if found is None or ".." in (found["path"] or "").split("/"):
        raise UsageError(f"{text!r} names no part of the hub; write {FORM} (a revision has no slash)")
    return HubSource(found["repo"], found["revision"], found["path"] or "")


def snapshot(source: HubSource, patterns: Sequence[str], *, kind: Kind = "model", ignore: Sequence[str] = ()) -> Path:
    """The local folder of a repository, with the files in it that match; its name is the commit.

    Args:
        patterns: of whole paths in the repository, whatever ``source.path`` is; ``*`` also stands for slashes. One
            without a wildcard has to be there.
        ignore: patterns of what is left out all the same.

    Raises:
        UsageError: it is gated, there is no such repository, revision or file, or there is no connection and files are
            missing.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        with _told(source, kind):
            folder = Path(snapshot_download(**_asked(source, patterns, kind, ignore)))
    except LocalEntryNotFoundError as error:
        raise _unreachable(source, _lacking(source, patterns, kind, ignore)) from error
    lacking = _unmatched(folder, patterns, ignore)
    if lacking and is_offline():
        raise _unreachable(source, [Missing(path, None) for path in lacking])
    if lacking:
        raise UsageError(
            f"{source} has no {_few(lacking)}; give a file or folder that stands on "
            f"{page(source, kind)}/tree/{folder.name}"
        )
    return folder


def missing(
    source: HubSource, patterns: Sequence[str], *, kind: Kind = "model", ignore: Sequence[str] = ()
) -> list[Missing]:
    """What ``snapshot`` would have to download; without a connection, what is known to be missing.

    Raises:
        UsageError: it is gated, or there is no such repository or revision.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import DryRunError, HfHubHTTPError, LocalEntryNotFoundError

    if is_offline():
        return _lacking(source, patterns, kind, ignore)
    try:
        with _told(source, kind), _without_bars():
            files: Any = snapshot_download(**_asked(source, patterns, kind, ignore), dry_run=True)
    except (DryRunError, LocalEntryNotFoundError) as error:
        if isinstance(error.__cause__, HfHubHTTPError):
            with _told(source, kind):
                raise error.__cause__ from error
        return _lacking(source, patterns, kind, ignore)
    return [Missing(file.filename, file.file_size) for file in files if file.will_download]


def page(source: HubSource, kind: Kind = "model") -> str:
    """Where a person looks at the repository, and accepts its terms."""
    return f"https://huggingface.co/{'datasets/' if kind == 'dataset' else ''}{source.repo}"


# --- without a connection


def is_offline() -> bool:
    """Whether this process asks the hub for nothing: by ``HF_HUB_OFFLINE`` or by ``go_offline``."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def go_offline() -> ExitStack:
    """From here on nothing is asked of the hub, by any library, in this process and in those that it starts.

    It holds at once; as a context, or once what is returned is closed, things are as before.
    """
    from huggingface_hub import constants

    undo = ExitStack()
    before = os.environ.get("HF_HUB_OFFLINE")
    undo.callback(_set_environment, before)
    _set_environment("1")
    # what was imported before has read the variable already
    for held in (constants, sys.modules.get("datasets.config")):
        if held is not None:
            undo.callback(setattr, held, "HF_HUB_OFFLINE", vars(held)["HF_HUB_OFFLINE"])
            vars(held)["HF_HUB_OFFLINE"] = True
    return undo


def _set_environment(value: str | None) -> None:
    if value is None:
        os.environ.pop("HF_HUB_OFFLINE", None)
    else:
        os.environ["HF_HUB_OFFLINE"] = value


def _lacking(source: HubSource, patterns: Sequence[str], kind: Kind, ignore: Sequence[str]) -> list[Missing]:
    """What is missing as far as this machine knows: by the list of files that an earlier download left, else by the
    patterns that nothing here matches."""
    folder = _cached(source, kind)
    if folder is None:
        return [Missing(path, None) for path in patterns]
    listed = _listed(source, kind, folder)
    if listed is None:
        return [Missing(path, None) for path in _unmatched(folder, patterns, ignore)]
    wanted = {path: size for path, size in listed.items() if _matches(path, patterns, ignore)}
    return [Missing(path, size) for path, size in wanted.items() if not (folder / path).is_file()]


def _cached(source: HubSource, kind: Kind) -> Path | None:
    """The folder of a snapshot that was begun here."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    held = Path(constants.HF_HUB_CACHE).expanduser() / repo_folder_name(repo_id=source.repo, repo_type=kind)
    revision = source.revision or constants.DEFAULT_REVISION
    named = held / "refs" / revision
    folder = held / "snapshots" / (named.read_text().strip() if named.is_file() else revision)
    return folder if folder.is_dir() else None


def _listed(source: HubSource, kind: Kind, folder: Path) -> dict[str, int] | None:
    """File -> bytes of a commit, if the hub's library kept the list (it does since its version 2)."""
    import huggingface_hub

    kept = getattr(huggingface_hub, "get_cached_repo_tree", None)
    if kept is None:
        return None
    from huggingface_hub.errors import CachedRepoTreeNotFoundError

    try:
        return {file.path: file.size for file in kept(source.repo, repo_type=kind, revision=folder.name)}
    except CachedRepoTreeNotFoundError:
        return None


# --- what is asked, and what is told


def _asked(source: HubSource, patterns: Sequence[str], kind: Kind, ignore: Sequence[str]) -> dict[str, Any]:
    return {
        "repo_id": source.repo,
        "revision": source.revision,
        "repo_type": kind,
        "allow_patterns": list(patterns),
        "ignore_patterns": list(ignore) or None,
    }


@contextmanager
def _without_bars() -> Iterator[None]:
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    before = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if not before:
            enable_progress_bars()


@contextmanager
def _told(source: HubSource, kind: Kind) -> Iterator[None]:
    """What the hub's library raises, as a sentence with a remedy; what is not on this machine passes through."""
    from huggingface_hub.errors import (
        DryRunError,
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        yield
    except (LocalEntryNotFoundError, DryRunError):
        raise
    except GatedRepoError as error:
        raise UsageError(
            f"{source.repo} is gated: its owner asks for your consent; give it on {page(source, kind)} with your "
            "account, and run `hf auth login`"
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise UsageError(
            f"the hub has no {kind} {source.repo!r} that you may see; give the name as its page shows it, or run "
            "`hf auth login` if it is private"
        ) from error
    except RevisionNotFoundError as error:
        raise UsageError(
            f"{source.repo} has no revision {source.revision!r}; give a whole commit hash, a tag or a branch of "
            f"{page(source, kind)}/commits/main"
        ) from error
    except _failures() as error:
        raise UsageError(
            f"{source} cannot be fetched: {' '.join(str(error).split())[:300]}; repeat it later"
        ) from error


def _failures() -> tuple[type[Exception], ...]:
    """What a connection that fails raises: the library's error and those that it is made of, the transport's among
    them, which is no OSError."""
    from huggingface_hub.errors import HfHubHTTPError

    kinds = (kind for kind in HfHubHTTPError.__mro__ if issubclass(kind, Exception) and kind is not Exception)
    return (OSError, *kinds)


def _unreachable(source: HubSource, lacking: list[Missing]) -> UsageError:
    why = "this run is offline" if is_offline() else "the hub cannot be reached"
    return UsageError(
        f"{source} is not on this machine, and {why}; missing: {_few([file.path for file in lacking])}; "
        "run it once with a connection, or give a local folder"
    )


def _unmatched(folder: Path, patterns: Sequence[str], ignore: Sequence[str]) -> list[str]:
    """Names that are not in a folder; all the patterns, if nothing in it matches any."""
    held = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    if not any(_matches(path, patterns, ignore) for path in held):
        return list(patterns)
    return [path for path in patterns if not set(path) & set("*?[") and path not in held]


def _matches(path: str, patterns: Sequence[str], ignore: Sequence[str]) -> bool:
    return any(fnmatch(path, p) for p in patterns) and not any(fnmatch(path, p) for p in ignore)


def _few(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


# --- on whose terms


def terms(source: HubSource, kind: Kind = "model") -> str | None:
    """Licence of a repository and whether its owner asks for consent, in words; None: it says nothing, or cannot be
    asked."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import OfflineModeIsEnabled

    try:
        info: Any = HfApi().repo_info(source.repo, revision=source.revision, repo_type=kind)
    except (OfflineModeIsEnabled, *_failures()):
        return None
    licence = info.card_data.get("license") if info.card_data else None
    said = [f"licence {licence}"] if licence else []
    said += ["accept its terms on its page first" if info.gated else ""]
    return ", ".join(part for part in said if part) or None

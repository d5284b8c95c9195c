"""A publication as a data set repository of the Hugging Face hub: looked at, told, and written by one commit.

Tokens are the library's business: ``HF_TOKEN``, or what ``hf auth login`` has kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from benchmark.errors import UsageError
from leaderboard.publication.changes import GIT, SHA256, Change
from leaderboard.publication.publication import Content

HUB = "hf:"
_TARGET = re.compile(r"hf:(\w[\w.-]*/\w[\w.-]*)")
OF_THE_HUB = (".gitattributes",)
"""What the hub itself puts into a repository."""
KIND = "dataset"


class Seen(NamedTuple):
    """What a repository holds."""

    files: Mapping[str, str]
    """By place: how the hub knows the file."""
    commit: str | None
    """The last one; None: there is no repository that may be seen."""


def parse(target: str) -> str:
    """The repository of ``hf:OWNER/NAME``.

    Raises:
        UsageError: it is of another form.
    """
    found = _TARGET.fullmatch(target)
    if found is None:
        raise UsageError(f"{target!r} names no repository; write hf:OWNER/NAME")
    return found[1]


def look(repository: str) -> Seen:
    """What is there.

    Raises:
        UsageError: it cannot be asked.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError

    with _told(repository):
        try:
            info: Any = HfApi().repo_info(repository, repo_type=KIND, files_metadata=True)
        except RepositoryNotFoundError:
            return Seen({}, None)
    return Seen({one.rfilename: _known(one) for one in info.siblings if one.rfilename not in OF_THE_HUB}, info.sha)


def upload(
    repository: str, files: Mapping[str, Content], found: Sequence[Change], seen: Seen, *, private: bool = False
) -> str:
    """Make the changes by one commit, on top of what was seen; the repository's address.

    Args:
        private: whether a repository that is not there yet is seen by its owner only.

    Raises:
        UsageError: nobody is logged in, the hub refuses it, or somebody else has published meanwhile.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token

    if get_token() is None:
        raise UsageError("the hub has to know who publishes: set HF_TOKEN, or run `hf auth login`; then repeat this")
    operations = [
        CommitOperationDelete(change.place, is_folder=False)
        if change.kind == "deleted"
        else CommitOperationAdd(change.place, files[change.place])
        for change in found
    ]
    with _told(repository):
        if seen.commit is None:
            HfApi().create_repo(repository, repo_type=KIND, private=private or None, exist_ok=True)
        if operations:
            message = f"Publish {len(operations)} files"
            HfApi().create_commit(
                repository, operations, commit_message=message, repo_type=KIND, parent_commit=seen.commit
            )
    return f"https://huggingface.co/datasets/{repository}"


def _known(file: Any) -> str:
    return f"{SHA256}:{file.lfs.sha256}" if file.lfs else f"{GIT}:{file.blob_id}"


@contextmanager
def _told(repository: str) -> Iterator[None]:
    """What the library raises, as a sentence with a remedy."""
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError
    from huggingface_hub.errors import HTTPError as NoAnswer  # pyright: ignore[reportPrivateImportUsage]

    try:
        yield
    except RepositoryNotFoundError:
        raise
    except HfHubHTTPError as error:
        code = error.response.status_code
        do = {
            401: "run `hf auth login`, or set HF_TOKEN to a token that may write",
            403: "give a repository of your own, or set HF_TOKEN to a token that may write to it",
            409: "somebody else has published meanwhile; repeat the command",
            412: "somebody else has published meanwhile; repeat the command",
        }.get(code, "repeat the command later")
        raise UsageError(f"the hub refuses {repository} ({code}): {do}") from error
    except (NoAnswer, OSError, ValueError, RuntimeError) as error:
        why = " ".join(str(error).split())[:200]
        raise UsageError(f"the hub cannot be asked about {repository}: {why}; repeat the command later") from error

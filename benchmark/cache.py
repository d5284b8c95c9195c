"""Where what was fetched or measured is kept between runs."""

from __future__ import annotations

import os
from pathlib import Path

from benchmark.errors import UsageError

PLACE = "RECOVERYBENCH_CACHE"
"""Environment variable that names another folder than the system's place for caches."""


def cache_dir(*parts: str) -> Path:
    """A folder of the user's cache, which is there afterwards.

    Raises:
        UsageError: it cannot be made.
    """
    from platformdirs import user_cache_path

    named = os.environ.get(PLACE)
    folder = (Path(named).expanduser() if named else user_cache_path("recoverybench")).joinpath(*parts)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"the cache folder {folder} cannot be made ({error.strerror}); set {PLACE} to a folder that can be written"
        ) from error
    return folder.resolve()

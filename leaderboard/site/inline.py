"""Style sheets and scripts of the site as parts of a page, and the policy under which nothing else runs or loads.

Each part is allowed by its hash, and not by ``'unsafe-inline'``: what somebody smuggles into a page has another one.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib.resources import files
from typing import NamedTuple

from markupsafe import Markup


class Inlined(NamedTuple):
    """What a page has within it."""

    styles: list[Markup]
    scripts: list[Markup]
    """In the order in which they run."""

    @property
    def policy(self) -> str:
        """The content security policy of the page."""
        return (
            f"default-src 'none'; style-src {_hashes(self.styles)}; script-src {_hashes(self.scripts)}; "
            "base-uri 'none'; form-action 'none'"
        )


def inlined(styles: Sequence[str], scripts: Sequence[str]) -> Inlined:
    """Files of ``static/``, by name; a bundled library has its licence before it."""
    return Inlined([_read(name) for name in styles], [_read(name) for name in scripts])


def _read(name: str) -> Markup:
    folder = files("leaderboard.site") / "static"
    licence = folder / f"{name.split('.')[0]}.LICENSE.txt"
    before = f"/*\n{licence.read_text(encoding='utf-8').strip()}\n*/\n" if licence.is_file() else ""
    return Markup(before + (folder / name).read_text(encoding="utf-8"))


def _hashes(parts: Sequence[str]) -> str:
    digests = (hashlib.sha256(part.encode()).digest() for part in parts)
    return " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)

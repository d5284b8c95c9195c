"""The templates, and how they show a value: everything is escaped, null is a dash, nothing is invisible."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, get_args

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from leaderboard.board.schema import Leaderboard, Tier
from leaderboard.doubt.flags import CODES
from leaderboard.scores.threats import with_role
from leaderboard.site.addresses import compare_page, entry_page, root_of, suite_page
from leaderboard.site.untrusted import printable, web_address
from leaderboard.tables.wording import MISSING, budget_name, half_point, interval, number, precise, share, words

SHORT = 80
"""Characters of a name in a table; its own page has it whole."""


def environment(board: Leaderboard) -> Environment:
    """Loads the templates beside this file; all pages name the suites of the board."""
    made = Environment(
        loader=PackageLoader("leaderboard.site"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "number": number,
        "share": share,
        "precise": precise,
        "json_text": _json_text,
        "interval": interval,
        "half_point": half_point,
        "budget_name": budget_name,
        "web_address": web_address,
        "short": _short,
        "words": words,
        "settings_text": _settings_text,
        "counted": _counted,
    }
    made.globals |= {
        "board": board,
        "docs": None,
        "compare_page": compare_page,
        "entry_page": entry_page,
        "suite_page": suite_page,
        "with_role": with_role,
        "known_flags": CODES,
        "tiers": {tier: place for place, tier in enumerate(get_args(Tier))},
    }
    return made


def render(made: Environment, page: str, template: str, /, **context: object) -> bytes:
    """A page of the site.

    Args:
        page: its address, from which its links go.
    """
    root = root_of(page)
    text = made.get_template(template).render(root=root, method=f"{root}method.html", **context)
    return text.encode()


def _shown(value: Any) -> Any:
    if value is None:
        return MISSING
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _short(text: str) -> str:
    return text if len(text) <= SHORT else text[: SHORT - 3] + "..."


def _settings_text(settings: Mapping[str, Any]) -> str:
    """As they are given on the command line."""
    return " ".join(f"{name}={json.dumps(value)}" for name, value in settings.items())


def _counted(count: int, one: str, many: str | None = None) -> str:
    return f"{count} {one if count == 1 else many or one + 's'}"


def _json_text(value: Any) -> Markup:
    """JSON to read, on several lines."""
    lines = json.dumps(value, indent=1, ensure_ascii=False).split("\n")
    return Markup("\n").join(escape(printable(line)) for line in lines)

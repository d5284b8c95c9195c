"""The page of flags: ``leaderboard/doubt/FLAGS.md`` as HTML, a heading a flag to link to."""

from __future__ import annotations

import re
from importlib.resources import files

from markdown_it import MarkdownIt
from markupsafe import Markup

DEEPER = {"h1": "h2", "h2": "h3"}
"""The page of the method has a heading above."""


def flags() -> Markup:
    """What each flag means; our own file, and HTML in it would still be shown as text."""
    source = (files("leaderboard") / "doubt" / "FLAGS.md").read_text(encoding="utf-8")
    reader = MarkdownIt("commonmark", {"html": False})
    tokens = reader.parse(_apart(source))
    for token, text in zip(tokens, tokens[1:], strict=False):
        if token.type == "heading_open":
            token.attrSet("id", text.content.lower().replace(" ", "-"))
        if token.type.startswith("heading"):
            token.tag = DEEPER[token.tag]
    return Markup(reader.renderer.render(tokens, reader.options, {}))


def _apart(source: str) -> str:
    """What a flag does, when it is raised and what to do as paragraphs of their own."""
    return re.sub(r"^(Effect|Raised if|What it means|What to do):", r"\n**\1:**", source, flags=re.MULTILINE)

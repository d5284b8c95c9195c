"""Inputs of every kind: right ones with something wrong in them, and texts that nobody would write."""

from __future__ import annotations

import copy
import io
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import yaml
from hypothesis import strategies as st

from tests.leaderboard import row_factory

NASTY = [
    "", " ", "yes", "no", "on", "~", "null", "true", "True", "010", "0x1F", "1_000", "1:30", "12:30:45",
    "2024-01-01", ".nan", "-.inf", "1e5", "1e-3", "1e999", "-0", "+1", "1.", ".5", "007", "²", "３",
    "every:²", "every:2", "always", "blocks.1.hook_resid_post", "blocks.99999999999.hook_resid_pre",
    "blocks.1.hook_z", "all", "none", "sae-clamp", "../..", "/", "..", "a/b", "[v2]", "[/]", "a\nb", "a\0b",
    "\x1b[31m", "é", "\u2028", "\ufeff", "\u200b", "\U0001f41b", "x" * 300, "mine.py:Mine", "mine.py",
    "mine.yaml", "&a", "*a", "!!int 3", "<<", "=", "- a", "a: b", "a #b", "#", "'", '"', "{", "[", "{a", "%",
    "@", "`", "|", ">", "?", "organism:ioi", "organism:", "hub:a/b@c", ":", "cuda:0", "meta",
]  # fmt: skip
NUMBERS = [0, 1, -1, 2, 7, 12, 10**6, 10**9, 2**31, 2**63, -(2**63), 10**40, 0.0, -0.0, 0.5, 1.0, 1e-9, 1e300]
ODD_FLOATS = [float("nan"), float("inf"), float("-inf")]

scalars: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from(NUMBERS),
    st.sampled_from(NASTY),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
)
keys = st.one_of(
    st.sampled_from(NASTY), st.sampled_from(["a", "site", "name", "defense", "latents", "limit"]), st.text(max_size=5)
)
values: st.SearchStrategy[Any] = st.one_of(
    scalars,
    st.lists(scalars, max_size=4),
    st.dictionaries(keys, scalars, max_size=3),
    st.recursive(
        scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3), max_leaves=6
    ),
)
"""What JSON can say."""
stranger = st.one_of(values, values, values, st.sampled_from(ODD_FLOATS), st.dictionaries(scalars, scalars, max_size=2))
"""And what YAML can."""
snippets = st.one_of(
    st.sampled_from([
        "\0", "\t", "\n", " ", "  ", ": ", "- ", "{", "}", "[", "]", ",", '"', "'", "#", " #", "&a ", "*a",
        "!!python/object:x ", "!!str ", "? ", "| ", "> ", "---\n", "...\n", "%YAML 1.1\n", "<<: *a\n",
        "\ufeff", "\x85", "\ud800", "\x1b", "yes", "1:30", "NaN", "Infinity", "0x1", "1e999", "a: 1\n",
        "name: x\n", "\\", "\\u0000", "[" * 60, "{a: " * 60, "9" * 50,
    ]),
    st.text(max_size=3),
)  # fmt: skip


@st.composite
def changed(draw: Any, base: Any, new: st.SearchStrategy[Any] = values) -> Any:
    """The base with up to three of its parts replaced, left out, doubled under another name, or added."""
    content = copy.deepcopy(base)
    for _ in range(draw(st.integers(0, 3))):
        places = list(_places(content))
        if not places:
            return content
        holder, key = places[draw(st.integers(0, len(places) - 1))]
        what = draw(st.sampled_from(["replace", "replace", "replace", "drop", "add", "hyphen"]))
        if what == "drop":
            del holder[key]
        elif what == "replace":
            holder[key] = draw(new)
        elif isinstance(holder, list):
            holder.insert(key, draw(new))
        elif what == "add":
            holder[draw(keys)] = draw(new)
        elif isinstance(key, str):
            holder[key.replace("_", "-")] = holder.pop(key)
    return content


def _places(content: Any) -> Any:
    inner = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in list(inner):
        yield content, key
        yield from _places(value)


@st.composite
def edited(draw: Any, texts: st.SearchStrategy[str]) -> str:
    """A text with up to three insertions or cuts."""
    text = draw(texts)
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(text)))
        cut = draw(st.sampled_from([0, 0, 0, 1, 5, len(text)]))
        text = text[:at] + draw(snippets) + text[at + cut :]
    return text


def as_yaml(value: Any) -> str:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, default_flow_style=None)


def as_json(value: Any) -> str:
    return json.dumps(value, indent="\t")


def texts(contents: st.SearchStrategy[Any], write: Callable[[Any], str]) -> st.SearchStrategy[str]:
    return st.one_of(contents.map(write), edited(contents.map(write)))


CLAMP: Mapping[str, Any] = {
    "defense": "sae-clamp",
    "name": "mine",
    "layers": [{"site": "blocks.1.hook_resid_post", "sae": "release/id", "latents": [3, 1]}],
    "select": "effect",
    "count": 7,
    "contrast": 0.5,
    "mode": "set",
    "strength": 1.5,
    "target_share": 0.5,
    "schedule": "every:2",
    "error_term": "drop",
    "monitor": "none",
}
OTHERS: Sequence[Mapping[str, Any]] = [
    {"defense": "direction-ablation", "sites": ["blocks.1.hook_resid_pre"], "source": None, "positions": "all"},
    {"defense": "random-clamp", "clamp": {"count": 3}, "error_term": "keep", "stand_ins": {"seed": 1, "candidates": 4}},
    {
        "defense": "mean-ablation",
        "rule": {"count": 3, "rate_ratio": 1.5},
        "layers": [{"site": "blocks.0.hook_resid_pre"}],
    },
    {"defense": "prompt-destroyer", "site": "blocks.0.hook_resid_pre", "trace": 0.001, "schedule": "prompt"},
    {"defense": "always-refuse", "site": None, "target_share": 0.9},
    {"defense": "leace", "sites": ["all"]},
]
TASK: dict[str, Any] = {
    "kind": "choice",
    "site": "blocks.1.hook_resid_post",
    "examples": 8,
    "perturbed": "all",
    "suffix_tokens": 2,
    "settings": {"data": {"source": "organism:questions"}, "form": {"template": "{question}"}},
    "budgets": {"before_edit": [0.1, 0.2], "token_suffix": [1]},
    "frozen": {
        "weights_sha": "abc",
        "residual_norms": {"blocks.0.hook_resid_pre": 0.2},
        "embedding_norm": 0.2,
        "ceilings": {"before_edit": None},
        "tau": 0.5,
    },
}
SUITE: Mapping[str, Any] = {
    "name": "mine",
    "version": 2,
    "description": "Something.",
    "model": {"source": "owner/model", "name": "model", "bos": True},
    "saes": {"blocks.1.hook_resid_post": ["release/id"]},
    "defense": "sae-clamp",
    "tasks": {"mine": TASK},
    "attacks": [{"attack": "recovery", "restarts": 1, "search": {"steps": 10}}, {"attack": "soft-suffix"}],
    "controls": {"undefended": "none", "attack": "zero"},
    "limit": 4,
    "sample": 4,
}
REQUEST: Mapping[str, Any] = {
    "defense": ["none", "sae-clamp"],
    "suite": "smoke",
    "tasks": ["ioi"],
    "attacks": "recovery",
    "limit": 7,
    "output_dir": "out",
    "batch_size": 12,
    "device": "cpu",
    "dtype": "float64",
    "seed": 3,
    "controls": False,
    "attribution": True,
    "options": {"count": 5, "error-term": "drop"},
    "protocol": "paper",
}


class Fate(NamedTuple):
    """What became of an example, and how its rows lie in the file."""

    eligible: bool
    suppressed: bool
    first: float
    """Smallest budget at which it came back."""
    failed: bool
    """The attack raised on it."""
    twice: bool
    """Its rows are there twice."""

    def holds(self, budget: float) -> bool:
        """Whether it still holds at a budget."""
        return self.failed or budget < self.first


fates = st.builds(
    Fate,
    eligible=st.booleans(),
    suppressed=st.booleans(),
    first=st.sampled_from([*row_factory.BUDGETS, row_factory.NEVER]),
    failed=st.booleans(),
    twice=st.booleans(),
)


def rows_of(number: int, fate: Fate) -> list[dict[str, object]]:
    """The rows of an example."""
    held = fate.eligible and fate.suppressed
    rows = [
        row_factory.row(
            f"e{number:03d}",
            budget,
            eligible=fate.eligible,
            suppressed=held,
            recovered=held and not fate.holds(budget),
            status="error" if fate.failed and held else "ok" if held else "not_run",
        )
        for budget in row_factory.BUDGETS
    ]
    return rows * (1 + fate.twice)


@st.composite
def archives(draw: Any, files: Mapping[str, str]) -> bytes:
    """A ZIP file of an entry with up to three members of other names, or bytes; then perhaps cut or overwritten."""
    members = {name: text.encode() for name, text in files.items()}
    for _ in range(draw(st.integers(0, 3))):
        name = draw(
            st.one_of(st.sampled_from(["../x", "/x", "a/../../x", "entry.json", "fits/é.json"]), st.text(max_size=9))
        )
        members[name] = draw(st.binary(max_size=20))
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", draw(st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))) as packed:
        for name, content in members.items():
            packed.writestr(zipfile.ZipInfo(name.encode("utf-8", "ignore").decode() or "x"), content)
    whole, at = made.getvalue(), draw(st.integers(0, 4000))
    what = draw(st.sampled_from(["whole", "whole", "cut", "over"]))
    return (
        whole
        if what == "whole"
        else whole[:at]
        if what == "cut"
        else whole[:at] + draw(st.binary(max_size=4)) + whole[at + 4 :]
    )

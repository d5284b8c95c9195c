"""Texts as the model reads them: one BOS where the model's policy asks for it, and chats rendered as text first.

The policy lives in the tokenizer, so that whatever encodes a prompt with it follows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from benchmark.errors import UsageError

TODAY = datetime(2024, 7, 26)
"""The day that every chat template is told it is; templates that write a date would give other prompts tomorrow."""
CONVERSATION = (
    {"role": "user", "content": "Hello."},
    {"role": "assistant", "content": "Hello!"},
    {"role": "user", "content": "How are you?"},
)
"""A conversation whose rendering tells chat templates apart, a default system prompt included."""
_PROBE = "a"


def adds_bos(tokenizer: Any) -> bool:
    """Whether the tokenizer begins a plain text with BOS."""
    bos = tokenizer.bos_token_id
    if bos is None:
        return False
    with_front, plain = tokenizer(_PROBE)["input_ids"], tokenizer(_PROBE, add_special_tokens=False)["input_ids"]
    return list(with_front[:1]) == [bos] and list(plain[:1]) != [bos]


def set_bos(tokenizer: Any, wanted: bool) -> None:
    """Make the tokenizer begin plain texts with one BOS, or with none.

    Raises:
        UsageError: it has no BOS, or does not do as it is told.
    """
    if adds_bos(tokenizer) == wanted:
        return
    if wanted and tokenizer.bos_token_id is None:
        raise UsageError("`bos: true` was asked for, and the tokenizer has no BOS token; leave `bos` out")
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        _write_front(backend, tokenizer.bos_token, tokenizer.bos_token_id if wanted else None)
    plain = tokenizer(_PROBE, add_special_tokens=False)["input_ids"]
    if tokenizer(_PROBE)["input_ids"] != [*([tokenizer.bos_token_id] if wanted else []), *plain]:
        raise UsageError(
            f"`bos: {str(wanted).lower()}` was asked for, and this tokenizer cannot be told so; leave `bos` out, or "
            "save it as a fast tokenizer (tokenizer.json)"
        )


def _write_front(backend: Any, text: str, token: int | None) -> None:
    """What stands before a text: one token, or nothing."""
    from tokenizers import processors

    front, tokens = ("", []) if token is None else (f"{text}:0 ", [(text, token)])
    backend.post_processor = processors.TemplateProcessing(
        single=f"{front}$A:0", pair=f"{front}$A:0 $B:0", special_tokens=tokens
    )


def prompt_tokens(tokenizer: Any, text: str, owner: str) -> tuple[int, ...]:
    """The tokens of a plain text, with BOS before it where that is the policy.

    Raises:
        UsageError: it is too short, or begins with BOS as it is written, beside that of the policy.
    """
    return _once(tokenizer, tuple(tokenizer(text)["input_ids"]), owner)


def chat_tokens(tokenizer: Any, text: str, owner: str) -> tuple[int, ...]:
    """The tokens of a rendered chat, whose template may have written the BOS already."""
    tokens, bos = tuple(tokenizer(text, add_special_tokens=False)["input_ids"]), tokenizer.bos_token_id
    if adds_bos(tokenizer) and tokens[:1] != (bos,):
        tokens = (bos, *tokens)
    return _once(tokenizer, tokens, owner)


def _once(tokenizer: Any, tokens: tuple[int, ...], owner: str) -> tuple[int, ...]:
    bos = tokenizer.bos_token_id
    if len(tokens) < 2:
        raise UsageError(
            f"{owner}: the prompt is {len(tokens)} token, and the first one of a text is never edited or perturbed; "
            "write a longer one"
        )
    if bos is not None and tokens[:2] == (bos, bos):
        raise UsageError(
            f"{owner}: the prompt begins with {tokenizer.bos_token!r} twice; leave it out of the text, or set "
            "`bos: false` for the model"
        )
    return tokens


def rendered(tokenizer: Any, turns: Sequence[Mapping[str, str]], *, answer: bool = True) -> str:
    """A conversation as text, on the same day whenever that is; ``answer``: up to where the assistant begins.

    Raises:
        UsageError: there is no chat template, or it refuses the conversation.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise UsageError(
            "`chat: true` needs a tokenizer with a chat template, and this one has none: leave `chat` out, or put the "
            "model's chat_template.jinja beside its tokenizer"
        )
    try:
        return tokenizer.apply_chat_template(
            list(turns), tokenize=False, add_generation_prompt=answer, strftime_now=TODAY.strftime
        )
    except Exception as error:  # a template may raise what it likes
        told = " ".join(str(error).split())[:300]
        raise UsageError(
            f"the chat template refuses a conversation ({told}); leave `chat` out, or correct it"
        ) from error


def template_identity(tokenizer: Any) -> str | None:
    """Hash of what a chat template makes of a fixed conversation; None: there is none, or it is for other chats."""
    if not getattr(tokenizer, "chat_template", None):
        return None
    try:
        return hashlib.sha256(rendered(tokenizer, CONVERSATION).encode()).hexdigest()
    except UsageError:
        return None

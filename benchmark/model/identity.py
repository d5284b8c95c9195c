"""Which model it is: weights, configuration and tokenizer, each by content."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from benchmark.values import file_hash, sha

PATTERNS = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt", "*.tiktoken", "chat_templates/*")
"""Files that a model and its tokenizer are read from; a README is none of them."""


def identity_of_folder(folder: Path) -> str:
    """Hash of a model's files with their names, wherever the folder lies."""
    files = sorted({path for pattern in PATTERNS for path in folder.glob(pattern) if path.is_file()})
    return _whole([[path.relative_to(folder).as_posix(), file_hash(path)] for path in files])


def identity_in_memory(model: Any, tokenizer: Any) -> str:
    """The same of a model that was not read from a folder: a hub's, or one that was made here."""
    return _whole([_weights(model), _described(model.config), _generation(model), _tokenizer(tokenizer)])


def _weights(model: Any) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _described(config: Any) -> str:
    """Without the dtype that it happens to be used in, and where it was read from."""
    held = config.to_dict()
    left_out = ("dtype", "torch_dtype", "_name_or_path", "transformers_version")
    return sha(_plain({name: value for name, value in held.items() if name not in left_out}))


def _generation(model: Any) -> str:
    found = getattr(model, "generation_config", None)
    return "" if found is None else _described(found)


def _tokenizer(tokenizer: Any) -> str:
    """What it makes of texts, as far as it says so; a stand-in without a vocabulary is its special tokens."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    vocabulary = getattr(tokenizer, "get_vocab", dict)()
    special = {name: getattr(tokenizer, name, None) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    template = getattr(tokenizer, "chat_template", None)
    return sha([backend.to_str() if backend is not None else _plain(vocabulary), special, _plain(template)])


def _plain(value: Any) -> Any:
    """Configurations hold JSON values but for a few, whose text is exact (a dtype)."""
    return json.loads(json.dumps(value, default=str, sort_keys=True))


def _whole(parts: list[Any]) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

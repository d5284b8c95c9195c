"""Which model it is: weights, configuration and tokenizer, each by content."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from benchmark.model.prompts import adds_bos, template_identity
from benchmark.values import file_hash, sha

PATTERNS = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt", "*.tiktoken")
"""Files that a model and its tokenizer are read from; a README is none of them."""
COPIES = "consolidated"
"""How files begin that hold the weights once more, in another form."""


def files_of(folder: Path) -> list[Path]:
    """The files that a model and its tokenizer are read from."""
    found = {path for pattern in PATTERNS for path in folder.glob(pattern) if path.is_file()}
    return sorted(path for path in found if not path.name.startswith(COPIES))


def identity_of_folder(folder: Path) -> str:
    """Hash of a model's files with their names, wherever the folder lies."""
    return _whole([[path.name, file_hash(path)] for path in files_of(folder)])


def identity_with(folder: Path, tokenizer: Any, bos: bool) -> str:
    """Which model it is, and how texts are given to it; ``tokenizer`` is the folder's own, as it was read."""
    return as_prompted(identity_of_folder(folder), tokenizer, None if bos == adds_bos(tokenizer) else bos)


def as_prompted(identity: str, tokenizer: Any, bos: bool | None) -> str:
    """The identity of a model together with what its chat template renders, and a BOS policy that is not its
    tokenizer's own."""
    template = template_identity(tokenizer)
    if template is None and bos is None:
        return identity
    return _whole([identity, template, bos])


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

"""GGUF: what a file says of itself, and the plain folder that it becomes.

Weights are taken out of their quantisation into 32-bit floats; from there on the folder is the model. Layout of the
file: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import io
import json
import struct
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any, BinaryIO

import torch

from benchmark.errors import UsageError
from benchmark.model.loading import quiet

SUFFIX = ".gguf"
TERMS = {"gemma": "https://ai.google.dev/gemma/terms", "llama4": "https://www.llama.com/llama4/license"}
"""How the name of an architecture begins -> terms that its owner asks everybody to accept who uses the weights."""
LEFT_OUT = ("transformers_version", "is_local", "local_files_only", "name_or_path", "_name_or_path")
"""Of a saved configuration: what tells of the machine and the library, and nothing of the model."""

_MAGIC = b"GGUF"
_STRING, _ARRAY = 8, 9
_BYTES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Kind of a value -> its bytes."""
_MOST = 2**20
"""Bytes of a text in the head of a sound file."""


def told_of(file: Path) -> dict[str, str]:
    """The texts that a file begins with: ``general.architecture``, ``general.license`` and the like.

    Raises:
        UsageError: it is no GGUF file, or one that is damaged.
    """
    try:
        with file.open("rb") as opened:
            return _head(opened)
    except (OSError, ValueError, KeyError, struct.error) as error:
        raise UsageError(f"{file} is not a whole GGUF file ({error}); copy or fetch it again") from error


def terms_of(head: dict[str, str]) -> list[str]:
    """What to know before the weights are used: their licence, and terms that are to be accepted."""
    licence = head.get("general.license")
    known = [page for start, page in TERMS.items() if head.get("general.architecture", "").startswith(start)]
    return [*([f"licence: {licence}"] if licence else []), *(f"by using it you accept its terms: {p}" for p in known)]


def unpack(file: Path, folder: Path) -> None:
    """Save what a GGUF file holds as safetensors in 32-bit floats, with configuration and tokenizer beside them.

    Raises:
        UsageError: transformers reads no such architecture or tokenizer.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where: dict[str, Any] = {"gguf_file": file.name, "trust_remote_code": False}
    try:
        with quiet(), redirect_stderr(io.StringIO()):  # a bar of tqdm that the library does not let anybody turn off
            tokenizer = AutoTokenizer.from_pretrained(file.parent, **where)
            model: Any = AutoModelForCausalLM.from_pretrained(file.parent, dtype=torch.float32, **where)
            # the weights are plain numbers now; what says otherwise would have them read as quantised
            if hasattr(model.config, "quantization_config"):
                del model.config.quantization_config
            model.hf_quantizer = None
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
    except (KeyboardInterrupt, MemoryError, OSError):
        raise
    except Exception as error:  # transformers and gguf have no common error
        told = " ".join(str(error).split())[:400]
        raise UsageError(
            f"{file.name} cannot be read as a causal language model ({type(error).__name__}: {told}); give a GGUF of "
            "an architecture that transformers reads, or the model as a folder with safetensors"
        ) from error
    for written in ("config.json", "generation_config.json", "tokenizer_config.json"):
        _strip(folder / written)


def _strip(file: Path) -> None:
    if file.is_file():
        held = {name: value for name, value in json.loads(file.read_text("utf-8")).items() if name not in LEFT_OUT}
        file.write_text(json.dumps(held, indent=2, ensure_ascii=False, sort_keys=True) + "\n", "utf-8")


def _head(opened: BinaryIO) -> dict[str, str]:
    """The texts of the first group of keys, ``general.``; what follows (a vocabulary) is long and is left."""
    if opened.read(4) != _MAGIC:
        raise ValueError("it does not begin with the letters GGUF")
    _version, _tensors, count = struct.unpack("<IQQ", opened.read(20))
    found: dict[str, str] = {}
    for _ in range(count):
        key = _text(opened)
        if not key.startswith("general."):
            break
        value = _value(opened, struct.unpack("<I", opened.read(4))[0])
        if isinstance(value, str):
            found[key] = value
    return found


def _value(opened: BinaryIO, kind: int) -> str | None:
    """A text; numbers and lists are passed over."""
    if kind == _STRING:
        return _text(opened)
    if kind == _ARRAY:
        inner, length = struct.unpack("<IQ", opened.read(12))
        for _ in range(length):
            _value(opened, inner)
    else:
        opened.seek(_BYTES[kind], 1)
    return None


def _text(opened: BinaryIO) -> str:
    length = struct.unpack("<Q", opened.read(8))[0]
    if length > _MOST:
        raise ValueError("a text in its head has no sound length")
    return opened.read(length).decode()

"""Reading a model strictly: every tensor is there, fits and is a number; what is wrong is named with its file."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from benchmark.errors import UsageError

_WEIGHTS = "*.safetensors"
_SHOWN = 5
"""Tensors that are named; of more, their number."""


def read_tokenizer(folder: Path) -> Any:
    """The tokenizer of a folder.

    Raises:
        UsageError: it is missing or cannot be read.
    """
    from transformers import AutoTokenizer

    for file in sorted(folder.glob("*token*.json")):
        _json(file, "the tokenizer's file", dict)
    found = _tried(
        f"the tokenizer of {folder}",
        "a model's folder has its tokenizer.json and tokenizer_config.json beside the weights (save_pretrained writes "
        "them)",
        lambda: AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False),
    )
    if not len(found):
        raise UsageError(f"the tokenizer of {folder} has no tokens; save it again beside the weights (save_pretrained)")
    return found


def read_model(folder: Path, dtype: torch.dtype) -> Any:
    """The causal language model of a folder (see ``check_files``), on the CPU.

    Raises:
        UsageError: the weights cannot be read, lack a tensor, have one too many, have one of another
            shape, or hold NaN or infinity.
    """
    from transformers import AutoModelForCausalLM

    model, report = _tried(
        f"the causal language model of {folder}",
        "config.json must describe the weights beside it",
        lambda: AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # else the library names none of them
            local_files_only=True,
            trust_remote_code=False,
        ),
    )
    _check_report(folder, report)
    _check_numbers(folder, model)
    return model


def _tried(what: str, remedy: str, load: Callable[[], Any]) -> Any:
    """What ``load`` gives, without the library's bars and notices; whatever it raises, as one sentence."""
    try:
        with quiet():
            return load()
    except (KeyboardInterrupt, MemoryError, torch.OutOfMemoryError, UsageError):
        raise
    except Exception as error:  # transformers, tokenizers, safetensors and the hub have no common error
        told = " ".join(str(error).split())
        raise UsageError(f"{what} cannot be loaded ({type(error).__name__}: {told[:400]}); {remedy}") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' bars, notices and warnings; its settings are restored."""
    from transformers.utils import logging as theirs

    level, bars = theirs.get_verbosity(), theirs.is_progress_bar_enabled()
    theirs.set_verbosity(logging.CRITICAL)
    theirs.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        theirs.set_verbosity(level)
        if bars:
            theirs.enable_progress_bar()


# --- what a folder holds


def check_files(folder: Path) -> None:
    """That a model's files are there and whole.

    Raises:
        UsageError: one is missing or damaged, or the weights are of another format.
    """
    config = folder / "config.json"
    if not config.is_file():
        raise UsageError(f"{folder} is no model: it has no config.json; give the folder that save_pretrained wrote")
    if not isinstance(_json(config, "the model's configuration", dict).get("model_type"), str):
        raise UsageError(f"{config} names no `model_type`; give the config.json that save_pretrained wrote")
    files = sorted(folder.glob(_WEIGHTS))
    if not files:
        there = ", ".join(sorted(p.name for p in folder.glob("*.bin"))) or "none"
        raise UsageError(
            f"{folder} has no weights in safetensors format ({_WEIGHTS}; others there: {there}); convert them with "
            "model.save_pretrained(FOLDER)"
        )
    index = folder / "model.safetensors.index.json"
    parts = _json(index, "the index of the weights", dict).get("weight_map", {}).values() if index.is_file() else ()
    lacking = sorted({str(part) for part in parts if not (folder / str(part)).is_file()})
    if lacking:
        raise UsageError(f"{folder} lacks {_few(lacking)}, which {index.name} names; copy the weights again, whole")
    for file in files:
        check_readable(file)


def check_readable(file: Path) -> None:
    """That a safetensors file is whole.

    Raises:
        UsageError: it is empty, truncated or of another format.
    """
    try:
        with safe_open(str(file), framework="pt") as opened:
            opened.keys()
    except (SafetensorError, OSError) as error:
        size = file.stat().st_size if file.is_file() else 0
        raise UsageError(
            f"{file} is damaged: it holds {size} bytes and cannot be read as safetensors ({error}); copy it again"
        ) from error


def _json(file: Path, what: str, kind: type) -> Any:
    try:
        found = json.loads(file.read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"{what}, {file}, cannot be read: {error.strerror}; give a file that can") from error
    except ValueError as error:
        raise UsageError(f"{what}, {file}, is not JSON ({error}); copy it again") from error
    if not isinstance(found, kind):
        raise UsageError(f"{what}, {file}, holds a {type(found).__name__}; expected an object; copy it again")
    return found


# --- what was loaded


def _check_report(folder: Path, report: Mapping[str, Any]) -> None:
    """Tensors that the library fills with random numbers, leaves out or makes anew; it warns at most."""
    wrong = [
        f"they lack {_few(sorted(report['missing_keys']))}" if report["missing_keys"] else "",
        f"they have {_few(sorted(report['unexpected_keys']))}, which the model does not know"
        if report["unexpected_keys"]
        else "",
        f"of another shape is {_few(_shapes(report['mismatched_keys']))}" if report["mismatched_keys"] else "",
        *map(str, report.get("error_msgs", ())),
    ]
    if any(wrong):
        raise UsageError(
            f"the weights of {folder} do not fit its config.json: {'; '.join(w for w in wrong if w)}. A model with "
            "other tensors than it was trained with is another model: give the config.json and weights of one save"
        )


def _shapes(found: Any) -> list[str]:
    return sorted(f"{name} ({tuple(there)}, the model has {tuple(expected)})" for name, there, expected in found)


def _check_numbers(folder: Path, model: Any) -> None:
    """NaN and infinity, also those that another dtype makes of a large number."""
    tensors = (*model.named_parameters(), *model.named_buffers())
    floats = ((name, t) for name, t in tensors if t.is_floating_point())
    bad = sorted(name for name, tensor in floats if not bool(torch.isfinite(tensor).all()))
    if bad:
        raise UsageError(
            f"the weights of {folder} hold NaN or infinity as {model.dtype}, in {_few(bad)}; give sound weights, or "
            "a wider --dtype"
        )


def _few(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more

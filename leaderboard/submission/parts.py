"""What an entry brings along of its defense: the spec, its Python file if it needs one, and SAEs of its own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmark.errors import BenchError, UsageError
from benchmark.files import file_name
from benchmark.registry import is_reference
from benchmark.spec import resolve_defense
from benchmark.values import sha
from leaderboard.bundle.layout import CODE, SPEC, WEIGHTS, allowed


def with_parts(made: Path, recipe: Mapping[str, Any], spec_sha: str) -> None:
    """Write ``spec.json`` into an entry, and what it refers to.

    Args:
        recipe: the spec, with places of this machine.
        spec_sha: identity of the defense that was run.

    Raises:
        UsageError: the spec makes another defense now, or refers to what an entry cannot hold.
    """
    spec = json.loads(json.dumps(recipe))
    if is_reference(spec["defense"]):
        file, _, kind = spec["defense"].rpartition(":")
        (made / CODE).mkdir()
        shutil.copyfile(_there(Path(file)), made / CODE / Path(file).name)
        spec["defense"] = f"{CODE}/{Path(file).name}:{kind}"
    _with_saes(made, spec)
    (made / SPEC).write_text(json.dumps(spec, indent=1) + "\n", "utf-8")
    _refuse_other(made / SPEC, spec_sha)
    shutil.rmtree(made / CODE / "__pycache__", ignore_errors=True)  # of the class that was just imported


def _with_saes(made: Path, value: Any) -> None:
    """Copy the folders of SAEs that a spec names, and name the copies."""
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _with_saes(made, item)
    if not isinstance(value, dict) or not isinstance(value.get("sae"), str) or not Path(value["sae"]).exists():
        return
    source, folder = value["sae"], Path(value["sae"])
    if not folder.is_dir():
        raise UsageError(f"the SAE {source} is a file; write it as a folder (bench sae convert) and run that")
    name = f"{WEIGHTS}/{file_name(folder.name)}"
    for file in sorted(path for path in folder.iterdir() if path.is_file()):
        if not allowed(f"{name}/{file.name}"):
            raise UsageError(
                f"{file} cannot be handed in: an SAE is a folder of .safetensors and .json files; convert it (bench "
                "sae convert) and run that"
            )
        (made / name).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, made / name / file.name)
    value["sae"] = name


def _there(file: Path) -> Path:
    if not file.is_file():
        raise UsageError(f"{file}, the code of the defense, is not there any more; put it back, or repeat the run")
    return file


def _refuse_other(spec: Path, spec_sha: str) -> None:
    try:
        found = sha(resolve_defense(str(spec)).spec)
    except BenchError as error:
        raise UsageError(f"the defense cannot be made again of its spec: {error}; put it into one file") from error
    if found != spec_sha:
        raise UsageError(
            f"the settings or the code of the defense are other now ({found}) than when it was run ({spec_sha}); check "
            "out the commit of the run, or repeat the run; of a class in a file, put all that it needs into that file"
        )

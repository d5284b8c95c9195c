"""The whole way of `bench sae train`: text, activations, one SAE a site, and what each is worth.

Beside the SAEs lies what it takes to resume: the settings, which a later call must have too, blocks of activations,
and the checkpoint of the SAE in progress. What is left of it at the end are the settings.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmark.errors import UsageError
from benchmark.files import write_atomically
from benchmark.interrupt import stop_on_interrupt
from benchmark.model.subject import Subject
from benchmark.sae.dictionary import open_dictionary
from benchmark.sae.training.activations import Collected, collect
from benchmark.sae.training.fit import Fit, save
from benchmark.sae.training.report import measured
from benchmark.sae.training.settings import Collection, Settings
from benchmark.sae.training.sources import Text
from benchmark.sites import Site

WORK = "training"
"""Folder of what is needed to resume."""
REPORT = "training.json"
"""File beside the SAE that says how it was made and what it is worth; where it is, the SAE is finished."""
_CONFIG, _SETTINGS, _BLOCKS = "cfg.json", "settings.json", "activations"
_LIBRARIES = ("torch", "transformers", "sae-lens")

Report = Mapping[str, Any]
Listener = Callable[[str, int, int], None]
"""Told what is going on, and how much of how much of it is done."""


@dataclass(frozen=True)
class Order:
    """What is asked for."""

    subject: Subject
    text: Text
    settings: Mapping[Site, Settings]
    """Of each SAE."""
    collection: Collection
    folders: Mapping[Site, Path]
    """Where each SAE goes."""
    work: Path
    """Where there is what it takes to resume."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """Noted in each SAE's configuration beside what is always there."""

    def described(self) -> dict[str, Any]:
        """Everything that decides what comes out, but the device."""
        subject = self.subject
        return {
            "model": {
                "name": subject.name,
                "sha256": subject.weights_sha,
                "dtype": str(subject.dtype)[6:],
                "bos": subject.bos,
            },
            "text": [dict(source) for source in self.text.described],
            "collection": asdict(self.collection),
            "saes": {str(site): asdict(settings) for site, settings in self.settings.items()},
        }


def settings_file(work: Path) -> Path:
    """File of what a training was asked for, in the folder of what it takes to resume."""
    return work / _SETTINGS


def folders_in(output: Path, sites: Sequence[Site]) -> dict[Site, Path]:
    """The output folder itself for one SAE; for several, one in it for each, named by its site."""
    return {site: output if len(sites) == 1 else output / str(site) for site in sites}


def train(order: Order, listener: Listener = lambda what, done, total: None) -> dict[Site, Report]:
    """Train what is not finished yet, and return every SAE's report.

    Raises:
        UsageError: the folder is another training's, two sites are one place, or what was collected is too little or
            not to be learned from.
        KeyboardInterrupt: at Ctrl-C, when what was done is saved.
    """
    check(order.subject, list(order.settings), order.collection)
    _claim(order)
    left = [site for site in order.settings if not (order.folders[site] / REPORT).exists()]
    if left:
        with stop_on_interrupt() as asked:
            sites, blocks = list(order.settings), order.work / _BLOCKS
            found = collect(
                order.subject, sites, order.text.blocks, order.collection, blocks, _about(listener, "tokens"), asked
            )
            for site in left:
                _one(order, site, found, listener, asked)
    shutil.rmtree(order.work / _BLOCKS, ignore_errors=True)
    return {site: json.loads((order.folders[site] / REPORT).read_text()) for site in order.settings}


def check(subject: Subject, sites: Sequence[Site], collection: Collection) -> None:
    """Nothing, if the model can be trained on like that.

    Raises:
        UsageError: a site that the model lacks, two that are one place, or a context longer than the model's.
    """
    places = [subject.check(site).boundary for site in sites]
    if not places or len(set(places)) != len(places):
        raise UsageError(f"sites {', '.join(map(str, sites)) or 'none'}: name every place once, with --site")
    longest = getattr(subject.model.config.get_text_config(), "max_position_embeddings", None)
    if longest is not None and collection.context > longest:
        raise UsageError(f"--context is {collection.context}, {subject.name} has {longest} positions; lower it")


def _claim(order: Order) -> None:
    """Make the folder this training's, or see that it is."""
    file, wanted = settings_file(order.work), order.described()
    if file.exists():
        differing = list(_differences(json.loads(file.read_text()), wanted))
        if differing:
            raise UsageError(f"{order.work} is of another training ({'; '.join(differing)}); give another folder")
        return
    there = [site for site in order.settings if (order.folders[site] / _CONFIG).exists()]
    if there:
        raise UsageError(f"{order.folders[there[0]]} has an SAE that was not trained here; give another folder")
    order.work.mkdir(parents=True, exist_ok=True)
    _write(file, wanted)


def _differences(there: Any, asked: Any, name: str = "") -> list[str]:
    if isinstance(there, dict) and isinstance(asked, dict):
        keys = dict.fromkeys([*there, *asked])
        return [d for key in keys for d in _differences(there.get(key), asked.get(key), f"{name} {key}".strip())]
    return [] if there == asked else [f"{name}: {json.dumps(there)} there, {json.dumps(asked)} asked for"]


def _one(order: Order, site: Site, found: Collected, listener: Listener, asked: list[bool]) -> None:
    """Train, store, measure what was stored, and put it in its place."""
    settings, subject = order.settings[site], order.subject
    draft, checkpoint = order.work / f"{site}.sae", order.work / f"{site}.checkpoint"
    fit = Fit(found.read(site), settings, subject.device, _metadata(order, site))
    sae = fit.run(checkpoint, _about(listener, f"steps at {site}"), asked)
    shutil.rmtree(draft, ignore_errors=True)
    save(sae, draft, settings.save_dtype)
    listener(f"measuring {site}", 0, 1)
    health = asdict(measured(subject, open_dictionary(subject, site, str(draft)), found.held_out))
    config = json.loads((draft / _CONFIG).read_text())
    config["metadata"] |= {"l0": health["l0"], "explained_variance": health["explained_variance"]}
    _write(draft / _CONFIG, config)
    _write(draft / REPORT, _report(order, site, found, fit, health))
    _place(draft, order.folders[site])
    shutil.rmtree(checkpoint, ignore_errors=True)
    listener(f"measuring {site}", 1, 1)


def _metadata(order: Order, site: Site) -> dict[str, Any]:
    return {
        "model_name": order.subject.name,
        "hook_name": str(site),
        "prepend_bos": order.subject.bos,
        "context_size": order.collection.context,
        **order.metadata,
    }


def _report(order: Order, site: Site, found: Collected, fit: Fit, health: Mapping[str, Any]) -> Report:
    described = order.described()
    return {
        "site": str(site),
        **{name: described[name] for name in ("model", "text", "collection")},
        "settings": described["saes"][str(site)],
        "activations": found.tokens,
        "held_out": health,
        "quiet_at_the_end": fit.quiet,
        "device": str(order.subject.device),
        "seconds": {"collecting": found.seconds, "training": fit.seconds},
        "versions": {name: version(name) for name in _LIBRARIES},
    }


def _place(draft: Path, folder: Path) -> None:
    """Move a finished SAE to where it belongs, the report last: an interrupted move is made again."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in sorted(draft.iterdir(), key=lambda file: file.name == REPORT):
        file.replace(folder / file.name)
    draft.rmdir()


def _about(listener: Listener, what: str) -> Callable[[int, int], None]:
    return lambda done, total: listener(what, done, total)


def _write(file: Path, value: Any) -> None:
    text = json.dumps(value, indent=1, allow_nan=False) + "\n"
    write_atomically(file, lambda part: part.write_text(text))

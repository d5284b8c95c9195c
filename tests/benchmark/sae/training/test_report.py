"""The reported figures are those of a plain recomputation, and tell a trained SAE from a random one."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from torch import Tensor

from benchmark.model.subject import Subject
from benchmark.sae.dictionary import open_dictionary
from benchmark.sae.training.activations import collect
from benchmark.sae.training.report import measured
from benchmark.sae.training.whole import train
from tests import tiny
from tests.benchmark.sae.training.conftest import COLLECTION, SITE, MakeOrder

pytestmark = pytest.mark.filterwarnings("ignore")  # those of sae_lens, while it is imported


@pytest.fixture(scope="module")
def trained(order: MakeOrder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    train(order(folder))
    return folder


@pytest.fixture(scope="module")
def held_out(order: MakeOrder, subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> list[list[int]]:
    """The rows that the training measured on: collecting is the same every time."""
    folder = tmp_path_factory.mktemp("again")
    return collect(subject, [SITE], order(folder).text.blocks, COLLECTION, folder).held_out


def stream(subject: Subject, row: list[int], replace=None) -> tuple[Tensor, Tensor]:
    """The stream at the site (position, d_model) and the losses of the next tokens of one row, by a hook of its own."""
    seen: list[Tensor] = []

    def hook(module, arguments, output):
        seen.append(output[0].clone())
        if replace is not None:
            output = torch.cat([output[:, :1], replace(output[:, 1:])], dim=1)
        return output

    handle = subject.layers[SITE.layer].register_forward_hook(hook)
    try:
        with torch.no_grad():
            logits = subject.model(input_ids=torch.tensor([row])).logits[0]
    finally:
        handle.remove()
    after = torch.tensor(row[2:], dtype=torch.long)
    return seen[0], torch.nn.functional.cross_entropy(logits[1:-1], after, reduction="none")


def test_the_report_is_what_a_plain_recomputation_gives(
    subject: Subject, trained: Path, held_out: list[list[int]]
) -> None:
    from sae_lens import SAE

    sae = SAE.load_from_disk(trained).requires_grad_(False)
    told = json.loads((trained / "training.json").read_text())["held_out"]
    h = torch.cat([stream(subject, row)[0][1:] for row in held_out])
    mean, active = h.mean(0), sae.encode(h) > 0
    error = (h - sae.decode(sae.encode(h))).square().sum() / (h - mean).square().sum()
    assert told["tokens"] == len(h) == sum(len(row) - 1 for row in held_out)
    assert told["explained_variance"] == pytest.approx(1 - float(error), abs=1e-5)
    assert told["l0"] == pytest.approx(float(active.float().sum(1).mean()), abs=1e-6)
    assert told["dead"] == pytest.approx(float((~active.any(0)).float().mean()), abs=1e-6)
    changes = {"loss": None, "spliced_loss": lambda x: sae.decode(sae.encode(x)), "ablated_loss": mean.expand_as}
    found = {}
    for name, replace in changes.items():
        losses = torch.cat([stream(subject, row, replace)[1] for row in held_out])
        found[name] = float(losses.mean())
        assert told[name] == pytest.approx(found[name], abs=1e-5) and told["predictions"] == len(losses)
    share = (found["spliced_loss"] - found["loss"]) / (found["ablated_loss"] - found["loss"])
    assert told["loss_recovered"] == pytest.approx(1 - share, abs=1e-4)


def test_a_random_sae_is_far_worse(subject: Subject, trained: Path, held_out: list[list[int]], tmp_path: Path) -> None:
    good = measured(subject, open_dictionary(subject, SITE, str(trained)), held_out)
    source = tiny.sae_folder(tmp_path, d_sae=48)
    bad = measured(subject, open_dictionary(subject, SITE, source), held_out)
    assert good.explained_variance > 0.4 and good.explained_variance > bad.explained_variance + 0.5
    assert good.spliced_loss < bad.spliced_loss
    assert all(math.isfinite(value) for value in asdict(good).values())
    assert (good.loss, good.ablated_loss) == (bad.loss, bad.ablated_loss), "these are the model's own"


def test_as_many_latents_are_active_as_were_asked_for(trained: Path) -> None:
    told = json.loads((trained / "training.json").read_text())
    assert told["held_out"]["l0"] == pytest.approx(told["settings"]["k"], rel=0.15)

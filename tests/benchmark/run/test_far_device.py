"""A whole evaluation with the model on another device: nothing is left on the CPU, or fetched from there unasked.

What stands for a GPU is ``tests.far_device``; with a GPU the same evaluation runs there too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from benchmark import Defense, evaluate
from benchmark.measure import error_subspace
from benchmark.measure.judging import judge, saturation
from benchmark.run import prepare
from benchmark.run.runner import Result
from benchmark.search import problem, random_search
from defenses.always_refuse import AlwaysRefuse
from defenses.direction_ablation import DirectionAblation
from defenses.latents import Rule
from defenses.leace import Leace
from defenses.mean_ablation import MeanAblation
from defenses.sae_bottleneck import SaeBottleneck
from tests import far_device, tiny
from tests.far_device import FAR, FarTensor, MixedDevices
from tests.toy_run import DEFENSE

STEPS: dict[str, Any] = {"restarts": 1, "search": {"steps": 2}}
ATTACKS: list[dict[str, Any]] = [
    {"attack": "recovery", "threat_model": "before_edit", **STEPS},
    {"attack": "recovery", "threat_model": "before_edit", "constraint": "jacobian", **STEPS},
    {"attack": "recovery", "threat_model": "after_edit", "constraint": "encoder", **STEPS},
    {"attack": "soft-suffix", "penalty": 0.1, **STEPS},
    {"attack": "universal", "steps": 2},
    {"attack": "gcg", "steps": 1, "candidates": 4},
]
STRONG = replace(DEFENSE, strength=12.0)
"""One that suppresses some of the few examples, so that they are attacked."""
RULE = Rule(count=8, contrast=0.0, rate_ratio=0.0)
OTHERS: list[Defense] = [
    replace(DEFENSE, monitor="sae-residual", error_term="drop"),
    SaeBottleneck(replace(DEFENSE, monitor="mahalanobis")),
    MeanAblation(rule=RULE),
    DirectionAblation(),
    Leace(),
    AlwaysRefuse(),
]


@pytest.fixture
def few(suite: str, tmp_path: Path) -> str:
    """The toy suite with short attacks at one budget."""
    budgets = {"before_edit": [0.3], "after_edit": [0.3], "soft_suffix": [0.3], "token_suffix": [1]}
    content = yaml.safe_load(Path(suite).read_text())
    content["tasks"]["toy"]["budgets"] = budgets
    places = {"model": {**content["model"], "source": str(Path(suite).parent / "model")}}
    places["saes"] = {site: str(Path(suite).parent / folder) for site, folder in content["saes"].items()}
    (tmp_path / "few.yaml").write_text(
        yaml.safe_dump({**content, **places, "attacks": ATTACKS, "sample": 8, "limit": 4})
    )
    return str(tmp_path / "few.yaml")


def run(suite: str, folder: Path, defenses: list[Defense], **options: Any) -> Result:
    return evaluate(defenses, suite=suite, output_dir=folder, **options)


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every model is loaded to the far device. Second opinions are asked as seldom as can be, since each operation
    there costs as much as many here."""
    monkeypatch.setattr(random_search, "QUERIES", 2)
    monkeypatch.setattr(error_subspace, "DRAWS", 1)
    load = prepare.load_subject
    with far_device.far_device():
        monkeypatch.setattr(prepare, "load_subject", lambda *how: far_device.moved(load(*how)))
        yield


def test_every_attack_and_constraint_is_at_home_elsewhere(few: str, tmp_path: Path, far: None) -> None:
    done = run(few, tmp_path / "run", [replace(STRONG, monitor="z-score")], controls=False, attribution=True)
    assert done.status == "complete", done.failures
    attacked = {row["attack"] for row in done.rows.to_pylist() if row["status"] == "ok"}
    assert {"recovery", "soft-suffix", "universal", "gcg", "random-direction", "zero", "wrong-target"} <= attacked


def test_every_defense_learns_and_acts_elsewhere(few: str, tmp_path: Path, far: None) -> None:
    done = run(few, tmp_path / "run", OTHERS, attacks=["zero"], controls=False)
    assert done.status == "complete", done.failures
    assert {row["defense"] for row in done.rows.to_pylist()} == {
        fit.stem.split("__")[1] for fit in (done.directory / "fits").iterdir()
    }


@pytest.mark.parametrize("task", [tiny.ToyTask(), tiny.ToyChat()], ids=lambda task: task.name)
def test_what_is_read_there_is_what_is_read_here(task: Any, far: None) -> None:
    here = tiny.subject()
    there = far_device.moved(here)
    examples = task.examples("test")
    a, b = (judge(subject, task, examples, {}) for subject in (here, there))
    assert there.device == FAR and a.labels == b.labels and type(b.margin) is torch.Tensor
    assert torch.allclose(a.margin, b.margin, atol=1e-5)
    assert torch.allclose(saturation(here, task, examples), saturation(there, task, examples), atol=1e-4)


def forget(name: str) -> Any:
    """A function of torch that forgets where it is asked to work."""
    make = getattr(torch, name)
    return lambda *args, **rest: make(*args, **{k: v for k, v in rest.items() if k != "device"})


def test_a_forgotten_device_is_found(few: str, tmp_path: Path, far: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control: the first evaluation with the device left out in one place of the engine."""
    monkeypatch.setattr(problem, "torch", SimpleNamespace(**{**vars(torch), "zeros": forget("zeros")}))
    done = run(few, tmp_path / "run", [STRONG], attacks=["soft-suffix"], controls=False)
    assert done.status == "partial"
    assert any("on the same device" in line for line in done.failures), done.failures


def test_the_far_device_refuses_what_cuda_refuses_and_allows_what_it_allows() -> None:
    with far_device.far_device():
        far, near = torch.arange(3.0, device=FAR), torch.arange(3.0)
        assert isinstance(far, FarTensor) and far.tolist() == near.tolist()
        for mixed in (
            lambda: far + near,
            lambda: torch.cat([far, near]),
            lambda: torch.equal(far, near),
            lambda: torch.where(near > 1, far, far),
            lambda: near[far.long()],
            lambda: near.add_(far),
            lambda: far.index_put_((torch.tensor([1]),), near[:1]),
        ):
            with pytest.raises(MixedDevices, match="same device"):
                mixed()
        for fetch in (far.numpy, lambda: np.asarray(far)):
            with pytest.raises(TypeError, match="cpu"):
                fetch()
        assert (far + torch.tensor(1.0)).tolist() == [1, 2, 3] and far.cpu().numpy().tolist() == [0, 1, 2]
        assert far[torch.tensor([2, 0])].tolist() == far[[2, 0]].tolist() == [2, 0]
        assert near.to(far.device).device == FAR and near.to(far).tolist() == near.tolist()
        near.copy_(2 * far)
    assert near.tolist() == [0, 2, 4]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_gives_what_the_cpu_gives(few: str, tmp_path: Path) -> None:
    here, there = (
        run(few, tmp_path / device, [DEFENSE], controls=False, device=device).rows.to_pylist()
        for device in ("cpu", "cuda")
    )
    assert len(here) == len(there)
    same = [a["recovered"] == b["recovered"] for a, b in zip(here, there, strict=True)]
    assert sum(same) >= 0.95 * len(same)

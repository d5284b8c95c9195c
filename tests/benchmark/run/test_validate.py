"""Every promise has a defense that breaks it, and is then reported broken."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from benchmark.contracts.defense import Defense, FittedDefense, Where
from benchmark.measure.judging import judge
from benchmark.registry import DEFENSES
from benchmark.run.freeze import site_at
from benchmark.run.groups import Undefended, make_group
from benchmark.run.validate import check_promises
from benchmark.sites import Site
from benchmark.spec import Named
from benchmark.suite import Frozen, TaskSettings
from defenses.latents import Rule
from defenses.steering import Steered, Steering
from tests.groups import toy_group
from tests.tiny import LAYERS, SITE, ToyTask, sae_folder, subject, viewed

HERE = Site.parse(SITE)


def honest(h: Tensor, where: Where) -> Tensor:
    return 0.5 * h


def noisy(h: Tensor, where: Where) -> Tensor:
    return h + 0.1 * torch.randn_like(h)


def exploding(h: Tensor, where: Where) -> Tensor:
    return h / 0.0


def detached(h: Tensor, where: Where) -> Tensor:
    return (0.5 * h).detach()


def mixing_rows(h: Tensor, where: Where) -> Tensor:
    return h - h.mean(0, keepdim=True)


def mixing_positions(h: Tensor, where: Where) -> Tensor:
    return h - h.mean(1, keepdim=True)


mixing_positions.position_wise = True  # type: ignore[attr-defined]


class Leaking:
    """Leaves a hook on the model behind."""

    def __init__(self) -> None:
        self.model: Any = None

    def __call__(self, h: Tensor, where: Where) -> Tensor:
        if self.model is not None:
            self.model.model.layers[0].register_forward_hook(lambda m, a, out: out + 1.0)
        return h


def kept(edit: Any) -> dict[str, bool | None]:
    made, task = subject(), ToyTask()
    if isinstance(edit, Leaking):
        edit.model = made.model
    undefended = judge(made, task, task.examples("test"), {})
    group = toy_group(made, task, FittedDefense({HERE: edit}), defended=undefended, tail=False)
    return {f.promise: f.kept for f in check_promises(group)}


def test_an_honest_edit_keeps_every_promise() -> None:
    assert False not in kept(honest).values()


@pytest.mark.parametrize(
    ("edit", "promise"),
    [
        (noisy, "deterministic"),
        (exploding, "finite"),
        (detached, "gradient flows"),
        (mixing_rows, "same alone and in a batch"),
        (mixing_positions, "position-wise as declared"),
        (Leaking(), "undone after use"),
    ],
    ids=lambda x: getattr(x, "__name__", x if isinstance(x, str) else type(x).__name__),
)
def test_a_broken_promise_is_reported(edit: Any, promise: str) -> None:
    assert kept(edit)[promise] is False


LENIENT: dict[str, Any] = {"contrast": 0.0, "rate_ratio": 0.0}
"""For a model on which no latent stands out."""


def recipe(name: str) -> Defense:
    """A registered defense, or a control that another one brings along."""
    kind: Any = DEFENSES.get(name)
    clamp = DEFENSES.get("sae-clamp")(strength=2.0, **LENIENT)
    means = DEFENSES.get("mean-ablation")(rule=Rule(**LENIENT))
    steering = Steering((Steered(SITE, 3, 1.0), Steered(SITE, 5, 0.5, "clamp_projection")))
    special: dict[str, Defense | None] = {
        "sae-clamp": clamp,
        "random-clamp": clamp.control(),
        "sae-bottleneck": DEFENSES.get("sae-bottleneck")(clamp=clamp),
        "mean-ablation": means,
        "random-mean-ablation": means.control(),
        "steering": steering,
        "random-steering": steering.control(),
        "shuffled-labels": DEFENSES.get("leace")().control(),
    }
    return special.get(name) or kind()


@pytest.fixture(scope="module")
def undefended(tmp_path_factory: pytest.TempPathFactory) -> Undefended:
    """The toy world, asked once for all defenses."""
    made = subject(saes={SITE: sae_folder(tmp_path_factory.mktemp("sae"))})
    settings = TaskSettings.model_validate({"site": SITE, "budgets": {"before_edit": [0.1], "soft_suffix": [0.1]}})
    norms = {str(site_at(made, boundary)): 1.0 for boundary in range(LAYERS + 1)}
    frozen = Frozen(weights_sha="", residual_norms=norms, embedding_norm=1.0, ceilings={}, tau=1.0)
    return Undefended(made, viewed(), settings, frozen)


@pytest.mark.parametrize("name", DEFENSES.names())
def test_every_registered_defense_keeps_its_promises(name: str, undefended: Undefended) -> None:
    group = make_group(undefended, Named(name, recipe(name)))
    findings = check_promises(group)
    assert len(findings) == 7 and not [f for f in findings if f.kept is False]
    assert group.tail, "and it may be searched fast"

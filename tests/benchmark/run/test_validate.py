"""Every promise has a defense that breaks it, and is then reported broken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from benchmark.protocol import STRICT
from torch import Tensor

from benchmark.contracts.defense import Defense, FittedDefense, Where
from benchmark.measure.judging import eligible, judge
from benchmark.registry import DEFENSES
from benchmark.run.validate import check_promises
from benchmark.sites import Site
from defenses.latents import Rule
from tests.groups import toy_group
from tests.tiny import SITE, ToyTask, sae_folder, subject

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
    group = toy_group(made, task, FittedDefense({HERE: edit}), defended=undefended, restart=False)
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


@dataclass(frozen=True)
class Nothing(Defense):
    name = "nothing"

    def fit(self, subject: Any, task: Any, examples: Sequence[Any]) -> FittedDefense:
        return FittedDefense({})


def recipe(name: str) -> Defense:
    """A registered defense; what selects latents is lenient, for a model on which no latent stands out."""
    kind: Any = DEFENSES.get(name)
    lenient: dict[str, Any] = {"contrast": 0.0, "rate_ratio": 0.0}
    clamp = DEFENSES.get("sae-clamp")(strength=2.0, **lenient)
    special: dict[str, Any] = {
        "sae-clamp": lambda: clamp,
        "random-clamp": clamp.control,
        "sae-bottleneck": lambda: kind(clamp=clamp),
        "mean-ablation": lambda: kind(rule=Rule(**lenient)),
        "random-mean-ablation": lambda: kind(DEFENSES.get("mean-ablation")(rule=Rule(**lenient))),
    }
    return special.get(name, kind)()


@pytest.mark.parametrize("name", DEFENSES.names())
def test_every_registered_defense_keeps_its_promises(name: str, tmp_path: Any) -> None:
    from benchmark.run.fitting import make_group
    from benchmark.spec import Named
    from benchmark.suite import Frozen, TaskSettings

    made = subject(saes={SITE: sae_folder(tmp_path / "sae")})
    task = ToyTask()
    settings = TaskSettings(site=SITE, budgets=(0.1,), suffix_budgets=(0.1,))  # type: ignore[call-arg]
    norms = {str(Site(b)): 1.0 for b in range(4)} | {"blocks.3.hook_resid_post": 1.0}
    frozen = Frozen(weights_sha="", residual_norms=norms, embedding_norm=1.0, ceiling=1.0, suffix_ceiling=1.0, tau=1.0)
    examples = task.examples("test")
    base = judge(made, task, examples, {})
    reference: Any = SimpleNamespace(
        examples=examples,
        base=base,
        eligible=eligible(made, task, examples, base),
        ceiling=base.margin,
        protocol=STRICT,
    )
    group = make_group(made, task, Named(name, recipe(name)), settings, frozen, reference)
    findings = check_promises(group)
    assert not [f for f in findings if f.kept is False]

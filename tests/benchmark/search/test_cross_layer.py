"""Protected latents at every layer are left alone: on a map in closed form, and on a model with two clamped layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from attacks.minimum_norm import MinimumNorm
from benchmark.contracts.defense import Codes
from benchmark.errors import UsageError
from benchmark.model.passes import FullPass, Writes
from benchmark.model.tail import TailPass
from benchmark.sae.dictionary import open_dictionary
from benchmark.sae.features import FeatureSet
from benchmark.search.constraint import EncoderNullSpace, Free, within
from benchmark.search.cross_layer import LEAK, CrossLayer, Look, watch
from benchmark.search.jacobian import weighted_rows
from benchmark.sites import Site
from defenses.clamp_edit import ClampEdit
from tests import tiny
from tests.attacks.linear import EXAMPLES, D, make

ROWS, N, M, TAU = 6, 16, 7, 0.03


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def latents(pre: Tensor, threshold: float = 0.0) -> Codes:
    return Codes(pre, pre.relu() * (pre > threshold), torch.full_like(pre, threshold))


class Bent:
    """Pre-activations ``A x + bend (B x)^2 + bias`` of every row; about half of the latents are active."""

    def __init__(self, m: int = M, n: int = N, bend: float = 0.3) -> None:
        self.a, self.b, self.bend = random(m, n, seed=1), random(m, n, seed=2), bend
        self.bias = 2 * random(m, seed=3)
        self.seen: list[Tensor] = []

    def __call__(self, delta: Tensor, rows: Tensor) -> Codes:
        x = delta.flatten(1)
        self.seen.append(rows)
        return latents(x @ self.a.T + self.bend * (x @ self.b.T) ** 2 + self.bias)

    def jacobian(self, delta: Tensor) -> Tensor:
        return self.a + 2 * self.bend * (delta.flatten(1) @ self.b.T)[..., None] * self.b


class Duplicates(Bent):
    """Every latent twice, and half of them once more with the other sign."""

    def __call__(self, delta: Tensor, rows: Tensor) -> Codes:
        pre = super().__call__(delta, rows).pre
        return latents(torch.cat([pre, pre, -pre[:, :3]], 1))

    def jacobian(self, delta: Tensor) -> Tensor:
        j = super().jacobian(delta)
        return torch.cat([j, j, -j[:, :3]], 1)


MAPS = {"plain": Bent, "duplicates": Duplicates, "linear": lambda: Bent(bend=0.0)}


def held(look: Look, rows: int = ROWS, n: int = N, **settings: Any) -> CrossLayer:
    return CrossLayer(look, torch.zeros(rows, 1, 1, n), **{"tau": TAU, "floor": 1e-3, **settings})


def leak(jacobian: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """(rows,) ||J after|| / ||J before||."""
    old, new = ((jacobian.double() @ v.flatten(1).double()[..., None]).norm(dim=(1, 2)) for v in (before, after))
    return new / old


@pytest.mark.parametrize("name", MAPS)
def test_a_tangent_moves_no_latent_to_first_order_active_or_not(name: str) -> None:
    look = MAPS[name]()
    constraint, at, gradient = held(look), 0.3 * random(ROWS, 1, 1, N), random(ROWS, 1, 1, N, seed=4)
    way = constraint.tangent(gradient, at)
    assert (leak(look.jacobian(at), gradient, way) <= 1e-5).all()
    assert (way.flatten(1).norm(dim=1) > 0.3 * gradient.flatten(1).norm(dim=1)).all()
    silent = look(at, torch.arange(ROWS)).act == 0
    assert silent.any() and not silent.all()
    torch.testing.assert_close(constraint.tangent(way, at), way, rtol=0, atol=1e-5)
    assert not constraint.loose.any()


def sketch_of_nine(jacobian: Tensor, vector: Tensor) -> Tensor:
    """The published variant: ``vector`` less its part in nine random sums of Jacobian rows."""
    q = torch.linalg.qr((random(9, jacobian.shape[1], seed=5) @ jacobian).mT)[0]
    flat = vector.flatten(1)[..., None]
    return (flat - q @ (q.mT @ flat))[..., 0].view_as(vector)


def test_nine_random_sums_leak_where_the_row_space_is_larger() -> None:
    look = Bent(m=40, n=64)
    at, gradient = 0.1 * random(ROWS, 1, 1, 64), random(ROWS, 1, 1, 64, seed=4)
    assert (leak(look.jacobian(at), gradient, sketch_of_nine(look.jacobian(at), gradient)) > 0.3).all()
    way = held(look, n=64).tangent(gradient, at)
    assert (leak(look.jacobian(at), gradient, way) <= 1e-5).all()


def test_a_correction_brings_every_latent_back_and_the_residual_never_rises() -> None:
    look = Bent()
    constraint, away = held(look), 0.4 * random(ROWS, 1, 1, N, seed=6)
    before, after = constraint.drift(away), constraint.drift(constraint.correct(away))
    assert (before.act > constraint.allowed).all()
    assert (after.act <= constraint.allowed).all() and (after.pre < 0.05 * before.pre).all()
    assert (after.residual[:, look.bias < 0].abs() < 0.2).all(), "inactive latents come back too"


def test_a_correction_that_cannot_help_changes_nothing() -> None:
    class Jump(Bent):
        """A step that no Jacobian shows."""

        def __call__(self, delta: Tensor, rows: Tensor) -> Codes:
            return latents(super().__call__(delta, rows).pre + 5 * (delta.flatten(1).norm(dim=1) > 0.1)[:, None])

    constraint, away = held(Jump(bend=0.0)), 0.4 * random(ROWS, 1, 1, N, seed=6)
    before, after = (constraint.drift(d).pre for d in (away, constraint.correct(away)))
    assert (after <= before).all()


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("exact", [384, 0], ids=["exact", "sums"])
def test_steps_stay_in_the_set_and_in_the_ball(name: str, exact: int) -> None:
    look = MAPS[name]()
    constraint, budget = held(look, exact=exact), torch.linspace(0.2, 4.0, ROWS)
    at = torch.zeros(ROWS, 1, 1, N)
    for step in range(12):
        move = constraint.tangent(random(ROWS, 1, 1, N, seed=step), at)
        move *= (0.5 * budget / move.flatten(1).norm(dim=1))[:, None, None, None]
        at = constraint.step(at, move, budget)
        assert constraint.feasible(at).all()
        assert (at.flatten(1).norm(dim=1) <= budget * (1 + 1e-5)).all()
    assert (at.flatten(1).norm(dim=1) > 0.3 * budget).all(), "and they get somewhere"
    assert (constraint.violation(at) == 0).all()


def test_projecting_only_the_gradient_drifts() -> None:
    constraint = held(Bent())
    at = torch.zeros(ROWS, 1, 1, N)
    for step in range(6):
        at = at + 0.5 * constraint.tangent(random(ROWS, 1, 1, N, seed=step), at)
    assert (constraint.violation(at) > 1).all() and not constraint.feasible(at).any()


def test_scaling_a_feasible_perturbation_down_leaves_the_set() -> None:
    """Why shortening to a smaller budget is followed by a correction."""
    constraint = held(Bent(bend=0.6))
    at = constraint.restore(3 * constraint.project(random(ROWS, 1, 1, N)), torch.full((ROWS,), 3.0))
    half = at.flatten(1).norm(dim=1) / 2
    assert constraint.feasible(at).all() and (constraint.violation(at / 2) > 1).any()
    restored = constraint.restore(at, half)
    assert constraint.feasible(restored).all() and (restored.flatten(1).norm(dim=1) <= half * (1 + 1e-5)).all()


def test_what_is_feasible_already_is_left_as_it_is() -> None:
    constraint, budget = held(Bent()), torch.full((ROWS,), 2.0)
    at = constraint.restore(random(ROWS, 1, 1, N), budget)
    assert at.flatten(1).norm(dim=1).min() > 0.1
    assert torch.equal(constraint.restore(at, budget), at)


def test_rows_do_not_depend_on_their_neighbours() -> None:
    whole, budget = held(Duplicates(), exact=0), torch.linspace(0.2, 4.0, ROWS)
    at = whole.restore(random(ROWS, 1, 1, N), budget)
    move = whole.tangent(random(ROWS, 1, 1, N, seed=9), at)
    moved = whole.step(at, move, budget)
    for i in range(ROWS):
        alone, row = held(Duplicates(), exact=0), torch.tensor([i])
        torch.testing.assert_close(alone.tangent(random(ROWS, 1, 1, N, seed=9)[row], at[row], row), move[row])
        torch.testing.assert_close(alone.step(at[row], move[row], budget[row], row), moved[row], rtol=1e-4, atol=1e-5)


def test_random_sums_are_as_many_as_the_rank_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmark.search.cross_layer.SKETCH", 16)
    rank, m, n = 10, 300, 64
    low, full = Bent(m, n, bend=0.0), Bent(m, n, bend=0.0)
    low.a = random(m, rank, seed=7) @ random(rank, n, seed=8)
    gradient = random(ROWS, 1, 1, n, seed=4)
    for look, sums in ((low, 16), (full, 64)):
        constraint = held(look, n=n, exact=100)
        way = constraint.tangent(gradient, torch.zeros(ROWS, 1, 1, n))
        # sixty-four coordinates: everything but rounding is in the row space of the full map
        assert (leak(look.jacobian(gradient), gradient, way) <= LEAK).all()
        assert (constraint._sums == sums).all() and (constraint.backwards >= sums).all()
        assert (constraint.backwards < m).all(), "cheaper than all rows"
    assert torch.equal(held(full, n=n).tangent(gradient, 0 * gradient), 0 * gradient)


def test_a_row_whose_jacobian_is_not_finite_stands_still_and_is_named() -> None:
    class Broken(Bent):
        def __call__(self, delta: Tensor, rows: Tensor) -> Codes:
            factor = torch.where(rows == 2, torch.nan, 1.0)[:, None]
            return latents(super().__call__(delta * 1.0, rows).pre + delta.flatten(1).sum(1, keepdim=True) * factor)

    constraint = held(Broken())
    way = constraint.tangent(random(ROWS, 1, 1, N), torch.zeros(ROWS, 1, 1, N))
    assert constraint.loose.tolist() == [False, False, True, False, False, False]
    assert (way.flatten(1).norm(dim=1) > 0).tolist() == [True, True, False, True, True, True]
    assert not constraint.feasible(way)[2]


def test_where_nothing_is_active_nothing_may_become_active() -> None:
    """No norm to be relative to: the floor is."""
    look = Bent()
    look.bias = look.bias.abs().neg() - 0.2
    constraint, budget = held(look), torch.full((ROWS,), 3.0)
    free = 3 * random(ROWS, 1, 1, N)
    assert (constraint.drift(free).act > 0.1).all() and not constraint.feasible(free).any()
    at = constraint.restore(free, budget)
    assert (constraint.drift(at).act <= TAU * 1e-3).all() and at.norm() > 0


def test_passes_are_counted_for_the_rows_that_took_them() -> None:
    constraint = held(Bent())
    assert (constraint.forwards == 1).all() and (constraint.backwards == 0).all()
    row = torch.tensor([3])
    at = torch.zeros(1, 1, 1, N)
    constraint.tangent(random(1, 1, 1, N), at, row)
    constraint.tangent(random(1, 1, 1, N, seed=1), at, row)  # the same place: nothing new is computed
    assert constraint.backwards.tolist() == [0, 0, 0, M, 0, 0]
    assert constraint.forwards.tolist() == [1, 1, 1, 2, 1, 1]


# An attack inside the set.


def test_ascent_keeps_to_the_set_and_recovers_less_than_without() -> None:
    look = Bent(m=8, n=D, bend=0.2)
    budgets, found = [0.1 * 1.5**i for i in range(9)], []
    constraint = held(look, rows=EXAMPLES * 9 * 2, n=D)
    for given in (Free(), constraint):
        made = make(budgets, restarts=2, constraint=given)
        attempt = MinimumNorm().run(made.problem)
        assert (attempt.proposal.flatten(1).norm(dim=1) <= made.problem.budget * (1 + 1e-5)).all()
        found.append((constraint.feasible(attempt.proposal), made.problem.evaluate(attempt.proposal).reached))
    (free, easily), (kept, reached) = found
    assert kept.all() and not free.any()
    assert 0 < int(reached.sum()) < int(easily.sum())


def test_where_the_set_is_linear_ascent_finds_the_optimum_within_five_percent() -> None:
    budgets = [0.05 * 1.05**i for i in range(70)]
    constraint = held(Bent(m=5, n=D, bend=0.0), rows=EXAMPLES * 70, n=D, tau=1e-4)
    made = make(budgets, constraint=constraint)
    reached = made.problem.evaluate(MinimumNorm().run(made.problem).proposal).reached.view(EXAMPLES, 70)
    smallest = torch.tensor([budgets[int(row.nonzero()[0])] for row in reached])
    assert (smallest >= 0.99 * made.needs).all() and (smallest <= 1.05 * 1.05 * (made.needs + made.slack)).all()


# A model with two clamped layers.

SITES = ("blocks.1.hook_resid_post", "blocks.2.hook_resid_post")


class World(NamedTuple):
    sets: list[FeatureSet]
    look: Look
    constraint: CrossLayer
    scale: float


def world(folder: Path, kind: Any, family: str, after: bool) -> World:
    """Twelve latents clamped at each of two sites, one perturbation at both; the last two positions."""
    subject = tiny.subject(family)
    sets = []
    for number, site in enumerate(SITES):
        sae = tiny.sae_folder(folder / str(number), seed=number, metadata={"hook_name": site})
        sets.append(open_dictionary(subject, Site.parse(site), sae).features(range(12)))
    edits = {s.site.boundary: ClampEdit(s, "scale", torch.full((12,), 0.5)) for s in sets}
    pack = tiny.pack(subject)
    run = kind(subject, pack, edits, Writes(tuple(edits), pack.readout - 1, 2, after))
    look = watch(run, sets, torch.arange(len(pack)))
    zeros = torch.zeros(len(pack), 2, 2, tiny.D_MODEL)
    stream = run(zeros, torch.arange(len(pack)), frozenset(edits)).stream
    scale = float(stream[sets[0].site.boundary].norm(dim=2).mean())
    return World(sets, look, CrossLayer(look, zeros, tau=TAU, floor=1e-3 * scale), scale)


@pytest.mark.parametrize("kind", [FullPass, TailPass])
@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
@pytest.mark.parametrize("after", [True, False])
def test_null_spaces_layer_by_layer_leak_and_the_cross_layer_set_does_not(
    tmp_path: Path, kind: Any, family: str, after: bool
) -> None:
    sets, look, constraint, scale = world(tmp_path, kind, family, after)
    rows, budget = len(constraint.allowed), torch.full((len(constraint.allowed),), 0.5 * scale)
    free = within(scale * random(rows, 2, 2, tiny.D_MODEL, seed=3), budget)
    layerwise = EncoderNullSpace([[s] for s in sets], tiny.D_MODEL)
    leaking = within(scale * layerwise.project(free), budget)
    assert (layerwise.violation(leaking) <= 1e-5).all()
    reference = constraint.allowed / TAU
    assert (constraint.drift(leaking).act > 2 * TAU * reference).all(), "the upper layer moves through the lower"

    at = torch.zeros_like(free)
    for _ in range(4):
        way = constraint.tangent(free, at)
        length = 0.25 * budget / way.flatten(1).norm(dim=1)
        at = constraint.step(at, way * length[:, None, None, None], budget)
    assert (constraint.drift(at).act <= TAU * reference).all() and constraint.feasible(at).all()
    assert (at.flatten(1).norm(dim=1) > 0.2 * budget).all() and not constraint.loose.any()


def test_the_jacobian_of_a_model_is_left_alone_active_latents_or_not(tmp_path: Path) -> None:
    _, look, constraint, _ = world(tmp_path, TailPass, "llama", True)
    rows = torch.arange(len(constraint.allowed))
    at = random(len(rows), 2, 2, tiny.D_MODEL).requires_grad_()
    codes = look(at, rows)
    gradient = random(len(rows), 2, 2, tiny.D_MODEL, seed=1)
    by_activations = weighted_rows(codes.act, at, torch.eye(codes.act.shape[1]))
    j = weighted_rows(codes.pre, at, torch.eye(codes.pre.shape[1]))
    silent = codes.act == 0
    assert silent.any() and not by_activations[silent].any() and (j[silent].norm(dim=1) > 0).all()
    way = constraint.tangent(gradient, at.detach())
    assert (leak(j, gradient, way) <= LEAK).all()
    assert (leak(j, gradient, sketch_of_nine(j, gradient)) > 0.3).all()


def test_a_finite_step_along_the_tangent_drifts_less_than_along_the_gradient(tmp_path: Path) -> None:
    """Inactive latents too: their pre-activations are held, not only watched."""
    _, look, constraint, scale = world(tmp_path, FullPass, "llama", True)
    rows = torch.arange(len(constraint.allowed))
    zero = torch.zeros(len(rows), 2, 2, tiny.D_MODEL)
    silent = look(zero, rows).act == 0
    size = torch.full((len(rows),), 0.01 * scale)
    gradient = within(scale * random(*zero.shape, seed=3), size)
    way = within(scale * constraint.tangent(gradient, zero), size)
    moved, along = (constraint.drift(d).residual.abs()[silent].amax() for d in (gradient, way))
    assert float(along) < 0.1 * float(moved)


def test_a_set_with_no_latents_to_watch_is_refused() -> None:
    with pytest.raises(UsageError, match="nothing to hold"):
        watch(lambda delta, rows, observe=frozenset(): None, [], torch.arange(2))  # type: ignore[arg-type]

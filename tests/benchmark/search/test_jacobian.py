"""Row-wise Jacobians against closed forms; their row spaces, whatever the rows are like."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from benchmark.search import jacobian
from benchmark.search.jacobian import row_space, weighted_rows

ROWS, N, M = 5, 9, 6


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


A = random(M, N, seed=1)


def bent(at: Tensor) -> Tensor:
    """Values tanh(A x) of every row's coordinates x (rows, ...)."""
    return torch.tanh(at.flatten(1) @ A.T)


def known(at: Tensor) -> Tensor:
    """Their Jacobian (rows, m, n)."""
    return (1 - bent(at) ** 2)[..., None] * A


def found(at: Tensor, mix: Tensor, chunk: int = 4) -> Tensor:
    leaf = at.clone().requires_grad_()
    return weighted_rows(bent(leaf), leaf, mix, chunk)


@pytest.mark.parametrize("chunk", [1, 4, 100])
def test_the_jacobian_is_the_one_known_in_closed_form(chunk: int) -> None:
    at = random(ROWS, 3, 3, seed=2)
    torch.testing.assert_close(found(at, torch.eye(M), chunk), known(at))
    mix = random(4, M, seed=3)
    torch.testing.assert_close(found(at, mix, chunk), mix @ known(at), rtol=1e-4, atol=1e-5)


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    at = random(ROWS, N, seed=2)
    alone = torch.cat([found(at[i : i + 1], torch.eye(M)) for i in range(ROWS)])
    torch.testing.assert_close(found(at, torch.eye(M)), alone)


class Stubborn(torch.autograd.Function):
    """tanh with a backward pass that cannot be batched: it looks at a value."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x.tanh())
        return x.tanh()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return grads[0] * (1 - y**2) if float(grads[0].sum()) < float("inf") else grads[0]


def test_a_backward_pass_that_cannot_be_batched_is_done_one_by_one() -> None:
    at = random(ROWS, N, seed=2).requires_grad_()
    values = Stubborn.apply(at @ A.T)
    assert isinstance(values, Tensor)
    assert jacobian._batched(values, at, torch.eye(M)[:, None].expand(-1, ROWS, -1)) is None
    torch.testing.assert_close(weighted_rows(values, at, torch.eye(M)), known(at.detach()))


def test_values_that_do_not_depend_on_the_point_have_no_jacobian() -> None:
    at = random(ROWS, N).requires_grad_()
    assert torch.equal(weighted_rows(torch.ones(ROWS, M), at, torch.eye(M)), torch.zeros(ROWS, M, N))


def dependent() -> Tensor:
    """Duplicates, opposites, sums, a dead row: rank 3."""
    a = random(ROWS, 3, N, seed=4)
    return torch.cat([a, a, -3 * a[:, :2], a.sum(1, keepdim=True), torch.zeros(ROWS, 1, N)], 1)


JACOBIANS = {
    "plain": (lambda: random(ROWS, M, N, seed=5), M),
    "scaled": (lambda: random(ROWS, M, N, seed=5) * torch.logspace(-5, 5, M)[:, None], M),
    "dependent": (dependent, 3),
    "more rows than coordinates": (lambda: random(ROWS, 2 * N, N, seed=6), N),
    "nothing": (lambda: torch.zeros(ROWS, M, N), 0),
    "close": (lambda: torch.cat([a := random(ROWS, 1, N, seed=7), a + 1e-3 * random(ROWS, 1, N, seed=8)], 1), 2),
}


@pytest.mark.parametrize("name", JACOBIANS)
def test_the_basis_is_orthonormal_and_spans_the_rows(name: str) -> None:
    make, rank = JACOBIANS[name]
    j = make()
    space = row_space(torch.eye(j.shape[1]), j)
    gram = space.basis.mT @ space.basis
    assert float((gram - torch.diag_embed(gram.diagonal(dim1=1, dim2=2))).abs().max()) < 1e-9
    torch.testing.assert_close(gram.diagonal(dim1=1, dim2=2).sum(1), torch.full((ROWS,), float(rank)).double())
    v = random(ROWS, N, seed=9)
    left = space.without(v)
    before, after = ((j.double() @ x.double()[..., None])[..., 0] for x in (v, left))
    assert (after.norm(dim=1) <= 1e-6 * before.norm(dim=1)).all()
    torch.testing.assert_close(space.without(left), left, rtol=0, atol=1e-12)
    if rank == N:
        assert torch.equal(left, torch.zeros_like(left)), "rounding is no direction"


@pytest.mark.parametrize("name", ["plain", "scaled", "dependent", "more rows than coordinates", "nothing"])
def test_the_inverse_is_the_shortest_solution(name: str) -> None:
    j = JACOBIANS[name][0]().double()
    move = random(ROWS, N, seed=10).double()
    change = (j @ move[..., None])[..., 0]
    found = row_space(torch.eye(j.shape[1]), j).solve(change)
    torch.testing.assert_close(found, move - row_space(torch.eye(j.shape[1]), j).without(move), rtol=1e-6, atol=1e-9)


def test_as_many_random_sums_as_the_rank_span_the_row_space_and_fewer_do_not() -> None:
    j, v = dependent(), random(ROWS, N, seed=9)
    for sums, leaks in ((2, True), (4, False)):
        mix = random(sums, j.shape[1], seed=11)
        left = row_space(mix, mix @ j).without(v)
        share = (j.double() @ left[..., None]).norm(dim=(1, 2)) / (j @ v[..., None]).norm(dim=(1, 2))
        assert bool((share > 1e-2).all()) == leaks and bool((share < 1e-5).all()) != leaks


def test_an_absolute_threshold_would_find_directions_in_rounding() -> None:
    """Gram-Schmidt that drops what is shorter than 1e-7 keeps nine "directions" of a map of rank five."""
    j = (random(9, 5, seed=12) @ random(5, N * 4, seed=13)) * 100
    kept: list[Tensor] = []
    for row in j:
        left = row - sum(((row @ q) * q for q in kept), torch.zeros_like(row))
        if float(left.norm()) > 1e-7:
            kept.append(left / left.norm())
    assert len(kept) == 9
    space = row_space(torch.eye(9), j[None])
    assert int((space.basis.norm(dim=1) > 0.5).sum()) == 5

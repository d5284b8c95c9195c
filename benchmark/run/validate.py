"""The promises of a defense, checked one by one: what `bench validate` shows.

The same checks serve every defense, ours and a third party's. Each returns evidence: a failure says how far off it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from benchmark.contracts.defense import Edit
from benchmark.contracts.example import Example
from benchmark.measure.group import Group
from benchmark.measure.judging import read_pack
from benchmark.model.edits import edited, is_position_wise
from benchmark.model.pack import Pack, make_packs
from benchmark.model.passes import FullPass, Writes
from benchmark.model.streams import whole
from benchmark.run.card import idempotence_gap
from benchmark.search.draws import normal

LEAKS = 8
"""Ways in which earlier positions are changed."""
REPEATS = 5
"""Equal forwards that must agree."""


class Finding(NamedTuple):
    """One promise and whether it holds."""

    promise: str
    kept: bool | None
    """None: shown for information, nothing is promised."""
    evidence: str


def check_promises(group: Group) -> list[Finding]:
    """Every promise of the group's fitted defense on a few of its examples."""
    pack = _sample(group)
    return [_tried(promise, check, group, pack) for promise, check in PROMISES.items()]


def broken_promises(group: Group) -> list[Finding]:
    """Those that do not hold; what is only shown is not measured."""
    pack = _sample(group)
    found = [_tried(p, check, group, pack) for p, check in PROMISES.items() if check is not repeatable]
    return [finding for finding in found if finding.kept is False]


def _tried(promise: str, check: Callable[[Group, Pack], Finding], group: Group, pack: Pack) -> Finding:
    try:
        return check(group, pack)
    except Exception as error:  # an edit may raise anything, and the other promises are still of interest
        return Finding(promise, False, f"{type(error).__name__}: {error}")


def finite(group: Group, pack: Pack) -> Finding:
    """Edited streams and readouts hold no NaN or infinity."""
    read = _read(group, pack, group.edits)
    bad = int((~read.isfinite()).sum())
    return Finding("finite", bad == 0, f"{bad} of {read.numel()} read logits are not finite")


def deterministic(group: Group, pack: Pack) -> Finding:
    """Equal forwards give equal numbers."""
    reads = [_read(group, pack, group.edits) for _ in range(REPEATS)]
    gap = max(_gap(reads[0], read) for read in reads)
    return Finding("deterministic", gap == 0.0, f"{REPEATS} equal forwards differ by at most {gap:.1e}")


def undone(group: Group, pack: Pack) -> Finding:
    """After use, and after an exception while in use, the model is what it was."""
    before = _read(group, pack, {})
    hooks = _hooks(group)
    try:
        with edited(group.subject, group.fitted.edits):
            _read(group, pack, {})
            raise _Interrupted
    except _Interrupted:
        pass
    gap = _gap(before, _read(group, pack, {}))
    left = _hooks(group) - hooks
    return Finding(
        "undone after use", gap == 0.0 and left == 0, f"logits differ by {gap:.1e} afterwards, {left} hooks left"
    )


def unmixed(group: Group, pack: Pack) -> Finding:
    """An example alone gives what it gives in a batch."""
    together = _read(group, pack, group.edits)
    alone = [_read(group, p, group.edits) for p in _singles(group, pack.examples)]
    gap = max(_relative(a[0], b) for a, b in zip(alone, together, strict=True))
    return Finding("same alone and in a batch", gap <= _tolerance(group), f"relative difference {gap:.1e}")


def differentiable(group: Group, pack: Pack) -> Finding:
    """A gradient flows through the edits to a write before them."""
    if not group.edits:
        return Finding("gradient flows", None, "the defense has no edits")
    delta = torch.zeros(
        len(pack), len(group.sites), 1, group.subject.d_model, device=pack.ids.device, requires_grad=True
    )
    run = FullPass(group.subject, pack, group.edits, Writes(group.sites, pack.readout, 1, after=False))
    read = group.task.readout.flat(run(delta, pack.everyone).read)
    if not read.requires_grad:
        return Finding("gradient flows", False, "the edits cut the gradient off")
    norms = torch.autograd.grad(read.square().sum(), delta)[0].flatten(1).norm(dim=1)
    dead = int(((norms == 0) | ~norms.isfinite()).sum())
    return Finding("gradient flows", dead == 0, f"{dead} of {len(pack)} gradients are zero or not finite")


def keeps_positions(group: Group, pack: Pack) -> Finding:
    """An edit that says it is position-wise looks at no other position."""
    claimed = {b: e for b, e in group.edits.items() if is_position_wise(e)}
    if not claimed:
        return Finding(
            "position-wise as declared", None, "no edit declares it; whole sequences are recomputed (slower)"
        )
    streams = whole(group.subject, pack, {})(None, pack.everyone, frozenset(claimed)).stream
    last = max(_leak(edit, streams[b], pack) for b, edit in claimed.items())
    kept = last <= _tolerance(group)
    return Finding(
        "position-wise as declared", kept, f"changing earlier positions moves the last by {last:.1e} (relative)"
    )


def repeatable(group: Group, pack: Pack) -> Finding:
    """Shown, not promised: how much a second application moves the stream, relative to the first."""
    gap = idempotence_gap(group)
    shown = "the defense changes nothing" if gap is None else f"{gap:.2f} of the first application"
    return Finding("idempotence gap", None, shown)


PROMISES: Mapping[str, Callable[[Group, Pack], Finding]] = {
    "finite": finite,
    "deterministic": deterministic,
    "undone after use": undone,
    "same alone and in a batch": unmixed,
    "gradient flows": differentiable,
    "position-wise as declared": keeps_positions,
    "idempotence gap": repeatable,
}


class _Interrupted(Exception):
    pass


def _sample(group: Group) -> Pack:
    """A pack of several examples of one length."""
    return max(make_packs(group.subject, group.task, group.examples[:32], 8), key=len)


def _singles(group: Group, examples: Sequence[Example]) -> list[Pack]:
    return [make_packs(group.subject, group.task, [e], 1)[0] for e in examples]


def _read(group: Group, pack: Pack, edits: Mapping[int, Edit]) -> Tensor:
    return group.task.readout.flat(read_pack(group.subject, pack, edits))


def _leak(edit: Callable[..., Tensor], stream: Tensor, pack: Pack) -> float:
    """How far the last position moves at most, when the ones before it become others of the same size: what an edit
    does there may depend on a latent that few of them wake."""
    still, earlier, size = edit(stream, pack.text)[:, -1], stream[:, :-1], stream.square().mean().sqrt()
    found = 0.0
    for draw in range(LEAKS):
        noise = normal(f"leak|{draw}", tuple(earlier.shape)).to(earlier) * size
        moved = torch.cat([earlier + noise, stream[:, -1:]], 1)
        found = max(found, _relative(edit(moved, pack.text)[:, -1], still))
    return found


def _hooks(group: Group) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in group.subject.model.modules())


def _tolerance(group: Group) -> float:
    return 1e-4 if group.subject.dtype in (torch.float32, torch.float64) else 5e-2


def _gap(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().nan_to_num(nan=torch.inf).max())


def _relative(a: Tensor, b: Tensor) -> float:
    return _gap(a, b) / max(float(b.abs().max()), 1e-6)

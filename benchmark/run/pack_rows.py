"""How many rows of a pass the free memory holds: what one keeps for its gradient is counted, on whatever device.

That is where a run begins; where it was too much after all, memory that runs out halves it
(``benchmark.search.pack_size``). Neither changes a result.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import psutil
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from benchmark.contracts.task import Task
from benchmark.model.pack import Pack, encode, make_packs
from benchmark.model.passes import FullPass, Writes
from benchmark.model.subject import Subject

CPU_ROWS = 256
"""Most rows on a CPU: more do not go faster there."""
OTHER_ROWS = 2048
"""Most rows elsewhere."""
SHARE = 0.5
"""Of the free memory that the kept tensors of a pack may take: what a layer makes on its way, and gradients, need
their part."""
_CGROUP = Path("/sys/fs/cgroup")


def rows_that_fit(subject: Subject, tasks: Iterable[Task]) -> int:
    """Rows of a pack to begin with, by the longest ``test`` example of each task; at least 1."""
    most = CPU_ROWS if subject.device.type == "cpu" else OTHER_ROWS
    heaviest = max((bytes_a_row(subject, task, pack) for task in tasks for pack in _longest(subject, task)), default=1)
    return max(1, min(most, int(SHARE * free_bytes(subject.device)) // max(heaviest, 1)))


def bytes_a_row(subject: Subject, task: Task, pack: Pack) -> int:
    """What a pass with a perturbation before the first layer keeps for its gradient, over the examples of ``pack``;
    the weights left out."""
    known = {id(p.untyped_storage()) for p in subject.model.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if id(storage) not in known:
            kept[id(storage)] = storage
        return x

    delta = torch.zeros(len(pack), 1, 1, subject.d_model, device=subject.device, requires_grad=True)
    with torch.enable_grad(), saved_tensors_hooks(keep, lambda x: x):
        writes = Writes((0,), pack.readout, 1, after=False)
        seen = FullPass(subject, pack, {}, writes, task.readout.log_mass)(delta, pack.everyone)
        task.readout.flat(seen.read).sum()
        if seen.weigh is not None:
            seen.weigh(pack.everyone)
    return sum(storage.nbytes() for storage in kept.values()) // len(pack)


def _longest(subject: Subject, task: Task) -> list[Pack]:
    members = encode(subject, task, task.examples("test"))
    longest = max(members, key=lambda member: len(member.encoded.tokens), default=None)
    return [] if longest is None else make_packs(subject, task, [longest.example], 1)


def free_bytes(device: torch.device) -> int:
    """Memory of a device that is free, or held by torch for whoever asks next."""
    if device.type == "cuda":
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + held
    return min(psutil.virtual_memory().available, _left_in_container())


def _left_in_container() -> int:
    """What a container's own limit leaves, where there is one: the machine's memory says nothing of it."""
    with suppress(OSError, ValueError):  # no container, or "max"
        limit, used = (int((_CGROUP / f"memory.{name}").read_text()) for name in ("max", "current"))
        return max(limit - used, 0)
    return 2**63

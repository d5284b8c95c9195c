"""How many rows a run begins with: as many as the memory holds, counted on a pass."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from benchmark.model.pack import make_packs
from benchmark.run import pack_rows
from benchmark.run.pack_rows import CPU_ROWS, bytes_a_row, free_bytes, rows_that_fit
from tests import tiny

TASK = tiny.ToyTask()


def weight(rows: int, layers: int = tiny.LAYERS) -> int:
    subject = tiny.subject()
    del subject.model.model.layers[layers:]
    subject.model.config.num_hidden_layers = layers
    return bytes_a_row(subject, TASK, max(make_packs(subject, TASK, TASK.examples("test"), rows), key=len))


def test_what_a_row_keeps_is_the_same_in_any_pack_and_grows_with_the_model() -> None:
    alone, together = weight(1), weight(6)
    assert together == pytest.approx(alone, rel=0.15)
    assert weight(6, layers=2) < 0.6 * together
    # of every layer at least its input, what its norms and its attention keep, and the inner part of its feed-forward
    length, inner = 9, 64
    assert together > tiny.LAYERS * length * (3 * tiny.D_MODEL + inner) * 4


def test_rows_are_as_many_as_half_of_the_free_memory_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    subject = tiny.subject()
    longest = max(len(e.prompt.split()) for e in TASK.examples("test"))
    example = next(e for e in TASK.examples("test") if len(e.prompt.split()) == longest)
    row = bytes_a_row(subject, TASK, make_packs(subject, TASK, [example], 1)[0])
    for free, rows in ((0, 1), (2 * row, 1), (20 * row, 10), (21 * row, 10), (10**15, CPU_ROWS)):
        monkeypatch.setattr(pack_rows, "free_bytes", lambda device, free=free: free)
        assert rows_that_fit(subject, [TASK, TASK]) == rows
    assert rows_that_fit(subject, []) == CPU_ROWS


def test_a_containers_limit_counts_and_where_there_is_none_the_machines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpu = torch.device("cpu")
    monkeypatch.setattr(pack_rows, "_CGROUP", tmp_path)
    machine = free_bytes(cpu)
    assert machine > 2**24
    for limit, free in (("max", None), ("5000", 4000), ("500", 0)):
        (tmp_path / "memory.max").write_text(limit)
        (tmp_path / "memory.current").write_text("1000")
        assert free_bytes(cpu) == free if free is not None else free_bytes(cpu) > 2**24


def test_on_a_gpu_what_torch_holds_unused_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    said = SimpleNamespace(
        mem_get_info=lambda device: (1000, 9000),
        memory_reserved=lambda device: 500,
        memory_allocated=lambda device: 200,
    )
    monkeypatch.setattr(torch, "cuda", said)
    assert free_bytes(torch.device("cuda")) == 1300

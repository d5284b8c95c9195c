"""Whether the machines of a Ray cluster can do a run: each is asked itself, by a task that runs on it."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch

from benchmark.run.cluster import join, ray_here, said
from benchmark.run.needs import connection, needs
from benchmark.run.prepare import asked_tasks
from benchmark.run.provenance import environment
from benchmark.run.request import Request

ANSWER = 180.0
"""Seconds that a machine may take to answer: importing torch on a cold disk is most of it."""


class Answer(NamedTuple):
    """What a machine says of itself."""

    host: str
    versions: Mapping[str, str | None]
    """Of Python and the packages that decide on results."""
    has: str
    """Cores and accelerators."""
    missing: tuple[str, ...]
    """What of the model, its SAEs and the data is not there."""


def answer(request: Request) -> Answer:
    """Of the machine that this runs on."""
    suite, names = asked_tasks(request)
    with connection(request.offline):
        missing = tuple(need.what for need in needs(suite, [], names) if not need.here)
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    has = ", ".join([f"{torch.get_num_threads()} threads", *gpus])
    return Answer(platform.node(), environment(torch.device("cpu"))["versions"], has, missing)


def machines(request: Request) -> Iterator[tuple[str, bool | None, str, str]]:
    """What is looked at, whether it is as it should be (None: nothing is expected), the evidence, and the remedy.

    Raises:
        UsageError: Ray is missing, or there is no cluster at the address.
    """
    ray = ray_here()
    begun = join(ray, request.address)
    try:
        nodes = [node for node in ray.nodes() if node["Alive"]]
        total, free = said(ray.cluster_resources()), said(ray.available_resources())
        yield "Ray", None, f"{ray.__version__}, {len(nodes)} machines with {total}, of which {free} free", ""
        pin = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
        look = ray.remote(num_cpus=0, max_retries=0)(answer)
        asked = [look.options(scheduling_strategy=pin(node["NodeID"], soft=False)).remote(request) for node in nodes]
        mine = answer(request)
        for node, one in zip(nodes, asked, strict=True):
            name = f"machine {node['NodeManagerHostname']}"
            try:
                yield _compared(name, ray.get(one, timeout=ANSWER), mine)
            except ray.exceptions.GetTimeoutError:
                yield name, False, f"gave no answer in {ANSWER:g} s", "look at it: ray status, ray logs"
            except ray.exceptions.RayError as error:
                yield name, False, str(error).strip().splitlines()[-1], "install the same environment there"
    finally:
        if begun:
            ray.shutdown()


def _compared(name: str, theirs: Answer, mine: Answer) -> tuple[str, bool | None, str, str]:
    """A machine beside the one that asks."""
    if theirs.missing:
        remedy = "bring the files there, or onto a shared folder (`bench plan` lists them)"
        return name, False, f"lacks {', '.join(theirs.missing)}", remedy
    known = {**mine.versions, **theirs.versions}
    other = [f"{one} {theirs.versions.get(one)}" for one in known if theirs.versions.get(one) != mine.versions.get(one)]
    if other:
        here = ", ".join(str(mine.versions.get(one.split()[0])) for one in other)
        return name, False, f"has {', '.join(other)}; here: {here}", "install the same versions (constraints.txt)"
    return name, True, f"{theirs.has}; the same versions, and everything at hand", ""

"""What a run stands on, looked at one by one: this machine, and the model, tasks and SAEs at hand.

The engine takes for granted that the tail pass equals the full one, that a row does not depend on its pack, and that
equal passes give equal numbers. A model, a version of a library or a device for which that is false is found here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch

from benchmark.contracts.example import Example
from benchmark.errors import UsageError
from benchmark.measure.group import Group, Scale
from benchmark.measure.judging import read_pack
from benchmark.measure.self_check import tail_is_exact
from benchmark.model.pack import encode, make_packs
from benchmark.model.precision import tolerance
from benchmark.model.streams import embedding_norm, residual_norms
from benchmark.model.subject import Subject
from benchmark.registry import threat
from benchmark.run.freeze import all_attacked
from benchmark.run.machine import machine
from benchmark.run.needs import Need, connection, needs
from benchmark.run.prepare import asked_tasks, load_subject, view
from benchmark.run.request import Request
from benchmark.run.task_view import TaskView, few
from benchmark.sae.dictionary import open_dictionary
from benchmark.sae.health import judged, measured
from benchmark.sites import Site
from benchmark.suite import Suite

TRIED = 6
"""Examples of a task that are tried."""
MANY = 200
"""Examples among which some of one length are looked for."""
REPEATS = 3
"""Equal passes that must agree to the last bit."""


class Check(NamedTuple):
    """One thing that was looked at."""

    what: str
    ok: bool | None
    """None: it is told, and nothing is expected of it."""
    evidence: str
    remedy: str = ""
    """What to do, where it is not as it should be."""


def examined(request: Request) -> Iterator[Check]:
    """Everything, one by one; what cannot be looked at because something before it failed is left out.

    Raises:
        UsageError: the request names something that does not exist.
    """
    yield from (Check(what, None, found) for what, found in machine(request.device))
    if request.executor == "ray":
        from benchmark.run.nodes import machines

        yield from (Check(*found) for found in machines(request))
    suite, names = asked_tasks(request)
    with connection(request.offline):
        fetched = needs(suite, [], names)
        yield from (_there(need) for need in fetched)
        if not all(need.here for need in fetched):
            return
        try:
            subject = load_subject(suite, request.device, request.dtype)
        except UsageError as error:
            yield Check("model", False, str(error), "give a model that loads (--model, --suite)")
            return
        yield _model(subject)
        yield from _of_tasks(subject, suite, {name: view(suite, name) for name in names})


def _there(need: Need) -> Check:
    lacking = need.refused or f"{len(need.files)} files are missing"
    return Check(f"{need.what} on this machine", need.here, need.source if need.here else lacking, need.get)


def _model(subject: Subject) -> Check:
    count = sum(p.numel() for p in subject.model.parameters())
    what = f"{subject.name}, {count / 1e6:.1f} M parameters, {subject.n_layers} layers, {subject.dtype}"
    return Check("model", True, f"{what} on {subject.device}, weights {subject.weights_sha[:12]}")


def _of_tasks(subject: Subject, suite: Suite, tasks: dict[str, TaskView]) -> Iterator[Check]:
    texts: list[TaskView] = []
    for name, whole in tasks.items():
        made = _guarded(f"{name}: reads", lambda whole=whole: few(subject, whole, test=TRIED)[0])
        if isinstance(made, Check):
            yield made
            continue
        texts.append(whole)
        yield _tried(f"{name}: tail pass", partial(_tail, _group(subject, suite, made), suite))
        yield _tried(f"{name}: packing", partial(_packing, subject, whole))
        yield _tried(f"{name}: determinism", partial(_determinism, subject, made))
        yield _tried(f"{name}: BOS", partial(_bos, subject, made))
    for hook, source in ((hook, source) for hook, sources in suite.saes.items() for source in sources if texts):
        yield _tried(f"SAE at {hook}", partial(_sae, subject, hook, source, texts[0]))


Found = tuple[bool | None, str, str]
"""Whether it holds, the evidence, and what to do otherwise."""


def _tried(what: str, look: Callable[[], Found]) -> Check:
    found = _guarded(what, look)
    return found if isinstance(found, Check) else Check(what, *found)


def _guarded(what: str, look: Callable[[], Any]) -> Any:
    """What ``look`` gives, or the failed check that it raised: the others are of interest all the same."""
    try:
        return look()
    except UsageError as error:
        return Check(what, False, str(error))
    except Exception as error:
        return Check(what, False, f"{type(error).__name__}: {error}", "report it with the model's name")


def _group(subject: Subject, suite: Suite, task: TaskView) -> Group:
    fit = task.examples("fit")
    scale = Scale(residual_norms(subject, task, fit), embedding_norm(subject, task, fit))
    return all_attacked(subject, task, suite.tasks[task.name], task.examples("test"), scale)


def _tail(group: Group, suite: Suite) -> Found:
    threats = [threat(name) for name in suite.tasks[group.task.name].budgets]
    same = tail_is_exact(group, threats)
    bound = tolerance(group.subject.dtype)
    how = "equals" if same else "differs from"
    evidence = f"{how} the full one in values and gradients within {bound:g} ({', '.join(t.name for t in threats)})"
    return same, evidence, "runs take the full pass here, which is right and slower; report the model's family"


@torch.no_grad()
def _packing(subject: Subject, task: TaskView) -> Found:
    """An example alone reads as it does beside others."""
    pack = max(make_packs(subject, task, _of_one_length(subject, task), TRIED), key=len)
    if len(pack) == 1:
        return None, "no two prompts are of one length: there are no packs", ""
    together = task.readout.flat(read_pack(subject, pack, {}))
    gap, bound = 0.0, tolerance(subject.dtype)
    for i, example in enumerate(pack.examples):
        (alone,) = make_packs(subject, task, [example], 1)
        one = task.readout.flat(read_pack(subject, alone, {}))[0]
        apart = (one - together[i]).abs().max() / together[i].abs().max().clamp(min=1e-6)
        gap = max(gap, float(apart.nan_to_num(nan=torch.inf)))
    evidence = f"{len(pack)} examples alone and in a pack differ by {gap:.1e}, {bound:g} allowed"
    return gap <= bound, evidence, "try --dtype float32, or another --device"


def _of_one_length(subject: Subject, task: TaskView) -> list[Example]:
    """Some test examples of the length that most have."""
    members = encode(subject, task, task.examples("test")[:MANY])
    ((length, _),) = Counter(len(m.encoded.tokens) for m in members).most_common(1)
    return [m.example for m in members if len(m.encoded.tokens) == length][:TRIED]


@torch.no_grad()
def _determinism(subject: Subject, task: TaskView) -> Found:
    pack = make_packs(subject, task, task.examples("test"), TRIED)[0]
    reads = [task.readout.flat(read_pack(subject, pack, {})) for _ in range(REPEATS)]
    gap = max(float((read - reads[0]).abs().nan_to_num(nan=torch.inf).max()) for read in reads)
    return gap == 0, f"{REPEATS} equal passes differ by {gap:.1e}", "resumed runs may differ; try --device cpu"


def _bos(subject: Subject, task: TaskView) -> Found:
    """At most one BOS, at the beginning, and in all prompts or in none."""
    bos, own = subject.tokenizer.bos_token_id, subject.bos
    begins = [m.encoded.tokens for m in encode(subject, task, task.examples("test"))]
    counts = {sum(token == bos for token in tokens[:2]) for tokens in begins}
    said = {None: "the model has none", True: "the tokenizer puts one", False: "the tokenizer puts none"}[own]
    told = "every prompt begins with one" if counts == {1} else "no prompt begins with one" if counts == {0} else ""
    if told or bos is None:
        return True, f"{said}; {told or 'nothing to look for'}", ""
    return (
        False,
        f"{said}; prompts begin with {sorted(counts)} of them",
        "say `bos: true` or `bos: false` for the model",
    )


def _sae(subject: Subject, hook: str, source: str, task: TaskView) -> Found:
    dictionary = open_dictionary(subject, Site.parse(hook), source)
    found, declared = measured(subject, dictionary, task, task.examples("fit")), dictionary.sae.declared
    errors, notes = judged(found, declared, dictionary.width)
    told = f"explained variance {found.explained_variance:.3f}, {found.l0:.1f} of {dictionary.width} latents active"
    return (
        not errors,
        "; ".join([f"{told}, on {found.tokens} tokens", *errors, *notes]),
        "check that the SAE is of this model and site, and what it reads: hook, BOS, input scaling",
    )


def failed(checks: Sequence[Check]) -> bool:
    """Whether anything is not as it should be."""
    return any(check.ok is False for check in checks)

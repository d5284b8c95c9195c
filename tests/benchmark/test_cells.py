"""What a cell reports: detection, constraints, replays, the smallest rescaling, probes, and what a suite takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from attacks.ascent import Ascent
from attacks.random_direction import RandomDirection
from attacks.recovery import Recovery
from attacks.soft_suffix import SoftSuffix
from attacks.zero import Zero
from benchmark import residual_cell
from benchmark.aim import Aim, aim, cannot
from benchmark.attribution import Parts
from benchmark.attribution import split as split_perturbation
from benchmark.cell import run_cell
from benchmark.constraint import Free
from benchmark.contracts import (
    Attack,
    Attempt,
    Batch,
    Example,
    FittedDefense,
    Monitor,
    Probe,
    Split,
    ThreatModel,
    Verdict,
)
from benchmark.cross_layer import CrossLayer
from benchmark.detection import FALSE_POSITIVES, make_detector
from benchmark.dictionary import open_dictionary
from benchmark.edits import Edit, Passage, Where, by_boundary, is_special, passing
from benchmark.errors import UsageError
from benchmark.group import Group, Scale
from benchmark.packs import make_packs
from benchmark.passes import FullPass, TailPass, Writes
from benchmark.prepare import _sampled, spread
from benchmark.probe import _pooled
from benchmark.problem import PackSize, Problem, select
from benchmark.readers import ProbeReader
from benchmark.reference import Judged, ceilings, eligible, judge, readout_stream, residual_norms
from benchmark.remeasure import VIOLATION, _within_tolerance, remeasure
from benchmark.sites import Site
from benchmark.suite import Suite, TaskSettings, load_suite
from defenses.clamp_edit import ClampEdit
from tests import tiny
from tests.tiny import D_MODEL, SITE, ToyTask, suite_file

HERE = Site.parse(SITE)
AT = HERE.boundary
BUDGETS = (0.2, 0.5, 1.0)
SEARCH = Recovery(restarts=1, ascent=Ascent(steps=10))
WIDE = RandomDirection(restarts=4)


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Group:
    """Twelve clamped latents of a random SAE at one site, and recoveries that are split into parts."""
    sae = tiny.sae_folder(tmp_path_factory.mktemp("cells"))
    subject, task = tiny.subject(saes={SITE: sae}), ToyTask()
    features = open_dictionary(subject, HERE).features(range(12))
    fitted = FittedDefense({HERE: ClampEdit(features, "scale", torch.full((12,), -3.0))}, (features,))
    examples = task.examples("test")
    base = judge(subject, task, examples, {})
    return Group(
        subject=subject,
        task=task,
        fitted=fitted,
        edits=by_boundary(subject, fitted.edits),
        sites=(AT,),
        examples=examples,
        base=base,
        defended=judge(subject, task, examples, fitted.edits),
        eligible=eligible(subject, task, examples, base),
        ceiling=ceilings(subject, task, examples, base),
        scale=Scale(residual_norms(subject, task, task.examples("fit")), 1.0),
        perturbed=1,
        suffix_tokens=2,
        restart=True,
        tau=1.0,
        attribution=True,
    )


SPLITS: tuple[Split, ...] = ("fit", "dev", "test")
Rows = list[dict[str, Any]]


def cell(group: Group, attack: Attack, budgets: Sequence[float] = BUDGETS) -> tuple[Rows, dict[str, Tensor]]:
    """Rows of the suppressed examples, in order, and the perturbations."""
    rows, deltas = run_cell(group, attack, budgets, 0, PackSize(256))
    found: Rows = [row for row in rows if row["suppressed"]]
    assert len(found) == len(deltas) * len(budgets) > 0
    return found, deltas


@pytest.fixture(scope="module")
def searched(group: Group) -> tuple[Rows, dict[str, Tensor]]:
    found = cell(group, SEARCH)
    assert len({row["recovered"] for row in found[0]}) == 2, "a grid on which all or nothing succeeds shows nothing"
    return found


def named(group: Group, row: dict[str, Any]) -> Example:
    return group.examples[group.place[str(row["example_id"])]]


def aimed(group: Group, attack: Attack, example: Example) -> Aim:
    (pack,) = make_packs(group.subject, group.task, [example], 1, attack.goal)
    return aim(group, attack, pack)


def alone(group: Group, i: int) -> Group:
    """The group with one example only."""

    def judged(whole: Judged) -> Judged:
        return Judged([whole.labels[i]], whole.margin[[i]], [whole.read[i]])

    return replace(
        group,
        examples=[group.examples[i]],
        base=judged(group.base),
        defended=judged(group.defended),
        eligible=group.eligible[[i]],
        ceiling=group.ceiling[[i]],
    )


def far(rows: int, size: float) -> Tensor:
    """Perturbations of one position at one site."""
    drawn = torch.randn(rows, 1, 1, D_MODEL, generator=torch.Generator().manual_seed(9))
    return size * drawn / drawn.flatten(1).norm(dim=1)[:, None, None, None]


# Detection.


class Length(Monitor):
    """The norms of the stream at ordinary positions, summed."""

    site = HERE

    def score(self, h: Tensor, where: Where) -> Tensor:
        return h.float().norm(dim=2).masked_fill(where.special, 0.0).sum(1)


class Lopsided(ToyTask):
    """Enough ``fit`` examples for a percentile; every third ``test`` prompt is a long one."""

    sizes: dict[Split, int] = {"fit": 400, "dev": 6, "test": 60}

    def examples(self, split: Split) -> Sequence[Example]:
        made = super().examples(split)
        longer = range(0, len(made) if split == "test" else 0, 3)
        return [replace(e, prompt=e.prompt + 6 * " w9") if i in longer else e for i, e in enumerate(made)]

    def retain(self, split: Split) -> Sequence[Example]:
        return [replace(e, id=f"{e.id}/kept") for e in self.examples(split)[:4]]


@torch.no_grad()
def lengths(group: Group, task: ToyTask, examples: Sequence[Example], edits: dict[int, Edit]) -> Tensor:
    """The score of each prompt by itself, on the live model."""
    found = []
    for example in examples:
        ids = torch.tensor([task.encode(group.subject.tokenizer, example).tokens])
        with passing(group.subject, Passage(edits, observe=frozenset({AT}))) as passage:
            group.subject.model(input_ids=ids)
        found.append(float(passage.seen[AT][0, 1:].norm(dim=1).sum()))
    return torch.tensor(found)


def test_the_threshold_lets_through_what_was_promised_and_false_positives_are_of_test(group: Group) -> None:
    task, fitted = Lopsided(), replace(group.fitted, monitor=Length())
    detector = make_detector(group.subject, task, fitted)
    assert detector is not None
    fit, test = (
        lengths(group, task, [*task.examples(split), *task.retain(split)], dict(group.edits)) for split in SPLITS[::2]
    )
    undefended = lengths(group, task, task.examples("fit"), {})
    near = 1e-4 * detector.threshold
    assert float((fit - detector.threshold).abs().min()) < near, "it is the score of an example"
    share = float((fit > detector.threshold + near).float().mean())
    assert 0.5 * FALSE_POSITIVES < share <= FALSE_POSITIVES
    assert detector.false_positives == pytest.approx(float((test > detector.threshold + near).float().mean()), abs=1e-6)
    assert 0.3 < detector.false_positives < 0.4, "another share than on fit: the long prompts"
    assert abs(float(undefended.quantile(0.99)) - detector.threshold) > near, "the defended stream is looked at"


def test_no_monitor_no_detector_and_no_columns(group: Group, searched: tuple[Rows, Any]) -> None:
    assert make_detector(group.subject, group.task, group.fitted) is None
    assert not any({"monitor_score", "detected"} & row.keys() for row in searched[0])


@pytest.mark.parametrize("after", [True, False])
def test_a_displaced_stream_is_flagged_and_no_other(group: Group, after: bool) -> None:
    detector = make_detector(group.subject, group.task, replace(group.fitted, monitor=Length()))
    assert detector is not None
    pack = max(make_packs(group.subject, group.task, group.examples, 99), key=len)
    run = FullPass(group.subject, pack, group.edits, Writes((AT,), pack.readout, 1, after))
    rows = torch.arange(len(pack))
    quiet = detector.scores(run, None, rows)
    calm = quiet <= detector.threshold
    delta = far(len(pack), 20 * detector.threshold)
    delta[::2] = 0
    seen = detector.scores(run, delta, rows)
    torch.testing.assert_close(seen[::2], quiet[::2])
    assert (seen[1::2] > detector.threshold).all() and calm[::2].any() and calm[1::2].any()


def test_rows_say_what_the_monitor_saw_of_their_own_perturbation(group: Group) -> None:
    watched = replace(group, detector=make_detector(group.subject, group.task, replace(group.fitted, monitor=Length())))
    assert watched.detector is not None
    still, loud = cell(watched, Zero())[0], cell(watched, WIDE, (0.01, 30.0))[0]
    examples = [named(group, row) for row in still[::3]]
    quiet = lengths(group, ToyTask(), examples, dict(group.edits)).repeat_interleave(3)
    assert [row["monitor_score"] for row in still] == pytest.approx(quiet.tolist(), rel=1e-4)
    assert all(row["detected"] for row in loud[1::2]) and not all(row["detected"] for row in still)
    for row in [*still, *loud]:
        assert row["detected"] is (row["monitor_score"] > watched.detector.threshold)


# A recovery counts only together with its constraint.


@pytest.mark.parametrize(
    ("moved", "relative", "kept"),
    [(0.0, 0.0, True), (9.0, 0.03, True), (9.0, 0.031, False), (0.001, None, True), (0.02, None, False)],
)
def test_a_drift_past_the_tolerance_undoes_a_recovery(moved: float, relative: float | None, kept: bool) -> None:
    """Where nothing is active, drift is relative to the floor, here 0.5."""
    row: dict[str, object] = {"drift_abs": moved, "drift_rel": relative, "recovered": True, "outcome": "recovered"}
    found = _within_tolerance(row, 0.03, 0.5, counts=False)
    assert (found["recovered"], found["outcome"]) == ((True, "recovered") if kept else (False, "held"))
    assert (float(str(found["violation"])) <= VIOLATION) is kept
    failed = _within_tolerance({**row, "recovered": False, "outcome": "degenerate"}, 0.03, 0.5, counts=False)
    assert (failed["recovered"], failed["outcome"]) == (False, "degenerate"), "and it undoes nothing else"


def test_remeasured_rows_are_held_to_the_drift_that_was_measured(group: Group, searched: tuple[Rows, Any]) -> None:
    rows, deltas = searched
    example = named(group, next(row for row in rows if row["recovered"]))
    target = aimed(group, SEARCH, example)

    def measured(tolerance: float | None) -> list[dict[str, Any]]:
        return remeasure(group, target._replace(tolerance=tolerance), deltas[example.id], len(BUDGETS), PackSize(9))

    free = measured(None)
    (first, drift), *_ = [(i, float(row["drift_rel"])) for i, row in enumerate(free) if row["recovered"]]
    assert drift > 0.001
    wide, narrow = measured(1.01 * drift)[first], measured(0.99 * drift)[first]
    assert (wide["recovered"], wide["outcome"], wide["violation"]) == (True, "recovered", 0.0)
    assert (narrow["recovered"], narrow["outcome"]) == (False, "held")
    assert narrow["violation"] == pytest.approx(1 / 0.99 - 1, rel=1e-3)
    assert "first_success_eps" in wide and "first_success_eps" not in narrow
    for tolerance in (0.5 * drift, 2 * drift):
        for row, unheld in zip(measured(tolerance), free, strict=True):
            assert row["recovered"] is (unheld["recovered"] and float(row["drift_rel"]) <= tolerance)


@dataclass(frozen=True)
class Given(Attack):
    """Proposes the perturbations that it holds, whatever they violate."""

    name = "given"
    delta: Tensor = torch.zeros(0)

    def run(self, problem: Problem) -> Attempt:
        return Attempt(self.delta, torch.ones(problem.rows, dtype=torch.bool))


def test_under_jacobian_a_cell_does_not_count_what_drifts(
    group: Group, searched: tuple[Rows, dict[str, Tensor]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where the search's own projection fails: nothing of it is believed."""
    rows, deltas = searched
    chosen = next(row for row in rows if row["recovered"])["example_id"]
    one = alone(group, group.place[chosen])
    monkeypatch.setattr(CrossLayer, "restore", lambda self, delta, budget, rows=None: delta)
    monkeypatch.setattr(CrossLayer, "feasible", lambda self, delta, rows=None: torch.ones(len(delta), dtype=torch.bool))
    free, bound = (
        cell(one, Given(constraint=constraint, delta=deltas[chosen]))[0] for constraint in ("none", "jacobian")
    )
    assert [r["recovered"] for r in free] == [r["recovered"] for r in rows if r["example_id"] == chosen]
    loud = [i for i, row in enumerate(free) if row["recovered"]]
    assert loud and all(float(free[i]["drift_rel"]) > 0.03 for i in loud)
    for i in loud:
        assert (bound[i]["recovered"], bound[i]["outcome"]) == (False, "held")
        assert {"constraint-violated", "remeasurement-lost"} <= set(bound[i]["flags"])
        assert bound[i].get("min_eps") is None and "first_success_eps" not in bound[i]
        assert not any(name.startswith("attr_") for name in bound[i])
        assert bound[i]["margin_attacked"] == pytest.approx(free[i]["margin_attacked"], abs=1e-4)


# Replays.


def replayed(row: dict[str, Any]) -> bool:
    return any(name.startswith("attr_") for name in row)


def test_only_the_first_recovered_row_of_an_example_is_replayed(group: Group, searched: tuple[Rows, Any]) -> None:
    rows, _ = searched
    seen: set[str] = set()
    for row in rows:
        first = row["recovered"] and row["example_id"] not in seen
        assert replayed(row) is first
        if row["recovered"]:
            seen.add(row["example_id"])
    assert seen and sum(row["recovered"] for row in rows) > len(seen), "some recover at two budgets"


def test_a_replayed_row_is_about_its_own_perturbation(group: Group, searched: tuple[Rows, dict[str, Tensor]]) -> None:
    rows, deltas = searched
    dictionary = open_dictionary(group.subject, HERE)
    checked = [row for row in rows if replayed(row)]
    for row in checked:
        delta = deltas[row["example_id"]][BUDGETS.index(row["budget_eps"])]
        # written before the edit: on the undefended stream, here
        h = readout_stream(group.subject, group.task, [named(group, row)], HERE)
        parts = split_perturbation(dictionary, range(12), h[:, None], delta)
        for name, part in zip(Parts._fields, parts, strict=True):
            assert row[f"attr_{name}_share"] == pytest.approx(float(part.norm() / delta.norm()), rel=1e-3, abs=1e-4)
    shares = {round(row["attr_other_share"], 4) for row in checked}
    assert len(shares) == len(checked) > 2


@pytest.mark.parametrize("attack", [WIDE, replace(SEARCH, goal="wrong")], ids=["random", "wrong target"])
def test_controls_are_not_replayed_and_have_no_smallest_rescaling(group: Group, attack: Attack) -> None:
    rows, _ = cell(group, attack, (3.0, 10.0))
    assert any(row["recovered"] for row in rows)
    assert not any(replayed(row) for row in rows) and all(row.get("min_eps") is None for row in rows)


def test_nothing_is_replayed_unless_it_is_asked_for(group: Group, searched: tuple[Rows, Any]) -> None:
    rows, _ = cell(replace(group, attribution=False), SEARCH)
    assert not any(replayed(row) for row in rows)
    assert [row["recovered"] for row in rows] == [row["recovered"] for row in searched[0]]


# The smallest rescaling.


def verdicts(group: Group, attack: Attack, example: Example, delta: Tensor) -> tuple[bool, bool]:
    """On a clean pass: the goal is reached with the slack that a search asks for, and it is reached at all."""
    target, row = aimed(group, attack, example), torch.zeros(1, dtype=torch.long)
    with torch.no_grad():
        read = FullPass(group.subject, target.pack, group.edits, target.writes)(delta[None], row).read
    batch = select(target.batch, row)
    return bool(group.task.reached(read, batch)), bool(group.task.verdict(read, batch).margin > 0)


@pytest.mark.parametrize("model", [ThreatModel.AFTER_EDIT, ThreatModel.BEFORE_EDIT])
def test_the_smallest_rescaling_recovers_and_less_does_not(group: Group, model: ThreatModel) -> None:
    attack = replace(SEARCH, threat_model=model)
    rows, deltas = cell(replace(group, attribution=False), attack)
    inside = 0
    for row in rows:
        if row.get("min_eps") is None:  # also where it recovers by less than a search's slack
            continue
        assert row["recovered"]
        assert 0 < row["min_eps"] <= row["delta_eps"] * (1 + 1e-5)
        share, delta = row["min_eps"] / row["delta_eps"], deltas[row["example_id"]][BUDGETS.index(row["budget_eps"])]
        example = named(group, row)
        assert verdicts(group, attack, example, share * delta)[1]
        assert not verdicts(group, attack, example, 0.97 * share * delta)[0]
        inside += share < 0.95 and verdicts(group, attack, example, delta)[0]
    assert inside, "searches that stop at the edge would show nothing"
    assert any(not row["recovered"] for row in rows)


def test_the_smallest_rescaling_has_to_be_feasible(
    group: Group, searched: tuple[Rows, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A set that is left by shortening: half of the smallest rescalings are too short for it."""
    before = [row.get("min_eps") for row in searched[0]]
    found = sorted(eps for eps in before if eps is not None)
    least = found[len(found) // 2]
    shortest = least * group.scale.norms[AT]
    monkeypatch.setattr(Free, "feasible", lambda self, delta, rows=None: delta.flatten(1).norm(dim=1) >= shortest)
    rows, deltas = cell(replace(group, attribution=False), SEARCH)
    rescaled = [row for row in rows if row.get("min_eps") is not None]
    assert len(rescaled) > 1 and found[0] < 0.9 * least
    for row in rescaled:
        assert 0.999 * least <= row["min_eps"] <= row["delta_eps"] * (1 + 1e-5)
        delta = deltas[row["example_id"]][BUDGETS.index(row["budget_eps"])]
        assert verdicts(group, SEARCH, named(group, row), row["min_eps"] / row["delta_eps"] * delta)[1]


def test_under_jacobian_the_smallest_rescaling_keeps_the_constraint(group: Group) -> None:
    bound = Recovery(constraint="jacobian", threat_model=ThreatModel.AFTER_EDIT, restarts=1, ascent=Ascent(steps=10))
    rows, deltas = cell(replace(group, attribution=False), bound, (1.0, 3.0))
    recovered = [row for row in rows if row["recovered"]]
    assert recovered
    for row in recovered:
        example, level = named(group, row), (1.0, 3.0).index(row["budget_eps"])
        assert row["min_eps"] <= row["delta_eps"] * (1 + 1e-5) and not row["flags"].count("constraint-violated")
        scaled = deltas[row["example_id"]][[level]] * (row["min_eps"] / row["delta_eps"])
        (small,) = remeasure(group, aimed(group, bound, example), scaled, 1, PackSize(1))
        assert small["recovered"] and float(str(small["violation"])) <= VIOLATION


# Probes.


class Probed(ToyTask):
    """Reads a probe one layer above what is clamped; the class of an example is drawn."""

    readout = Probe("blocks.2.hook_resid_post", ("a", "b"))

    def _example(self, split: Split, number: int, generator: torch.Generator) -> Example:
        made = super()._example(split, number, generator)
        return replace(made, answer=int(torch.randint(2, (1,), generator=generator)), wrong=(0,))

    def verdict(self, read: Tensor, batch: Batch) -> Verdict:
        margin = read.gather(1, batch.target[:, None])[:, 0]
        return Verdict(["yes" if m > 0 else "no" for m in margin.tolist()], margin)


def test_what_cannot_reach_a_probe_is_not_run_and_says_why(group: Group) -> None:
    probed = replace(group, task=Probed())
    assert cannot(probed, SEARCH) is None and cannot(group, SoftSuffix()) is None
    assert "a suffix has no place" in (cannot(probed, SoftSuffix()) or "")
    assert "below every defended site" in (cannot(replace(probed, sites=(AT + 2,)), SEARCH) or "")


def test_what_is_written_at_the_lowest_site_is_split_into_parts_and_a_suffix_is_not(
    group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both write at boundary 0."""
    split: list[Any] = []
    monkeypatch.setattr(residual_cell, "replay_columns", lambda g, target, *_: split.append(target))
    lowest = replace(group, sites=(0,), edits={}, scale=Scale({0: 1.0}, 1.0))
    cell(lowest, SEARCH)
    assert split
    split.clear()
    cell(lowest, SoftSuffix(ascent=Ascent(steps=2)))
    assert not split


def test_bos_is_not_pooled_when_a_probe_is_read() -> None:
    subject, task = tiny.subject(), Probed()
    for pack in make_packs(subject, task, task.examples("test"), 99):
        rows, stream = torch.arange(len(pack)), torch.randn(len(pack), pack.length, D_MODEL)
        assert isinstance(pack.reader, ProbeReader)
        read = pack.reader(None, stream, rows)
        torch.testing.assert_close(read, stream[:, 1:].mean(1) @ pack.reader.weight + pack.reader.bias)
        for position in range(pack.length):
            moved = stream.clone()
            moved[:, position] += 100
            same = torch.allclose(pack.reader(None, moved, rows), read)
            assert same is (position == 0)


def test_part_of_a_probe_reader_pools_its_own_rows() -> None:
    drawn = torch.Generator().manual_seed(0)
    pooled, stream = torch.rand(5, 6, generator=drawn) < 0.5, torch.randn(5, 6, D_MODEL, generator=drawn)
    whole = ProbeReader(3, torch.randn(D_MODEL, 2, generator=drawn), torch.zeros(2), pooled)
    rows, index = torch.arange(5), torch.tensor([4, 1])
    read = whole(None, stream, rows)
    torch.testing.assert_close(whole.part(index)(None, stream[index], torch.arange(2)), read[index])
    assert not torch.allclose(whole(None, stream[index], torch.arange(2)), read[index])


@torch.no_grad()
def test_bos_is_not_pooled_when_a_probe_is_fitted() -> None:
    subject, task = tiny.subject(), Probed()
    examples = list(task.examples("fit"))
    pooled = _pooled(subject, task, examples, 3)
    for example, mean in zip(examples, pooled, strict=True):
        ids = torch.tensor([task.encode(subject.tokenizer, example).tokens])
        stream = subject.model(input_ids=ids, output_hidden_states=True).hidden_states[3][0]
        torch.testing.assert_close(mean, stream[1:].mean(0), rtol=1e-3, atol=1e-4)
        assert not torch.allclose(mean, stream.mean(0), rtol=1e-2, atol=1e-2)
        assert is_special(subject, ids)[0].tolist() == [True] + [False] * (len(stream) - 1)


class Smear:
    """Mixes positions: not position-wise, so that the restarted pass has to take them all."""

    def __call__(self, h: Tensor, where: Where) -> Tensor:
        return 0.5 * (h + h.mean(1, keepdim=True))


class Fade:
    position_wise = True

    def __call__(self, h: Tensor, where: Where) -> Tensor:
        return torch.where(where.special[..., None], h, h * torch.linspace(-1, 1, h.shape[-1]))


@pytest.mark.parametrize("family", ["gpt2", "gemma2", "llama"])
@pytest.mark.parametrize("after", [True, False])
@pytest.mark.parametrize("edit", [Fade, Smear])
@pytest.mark.parametrize("written", [2, 3])
def test_a_probe_reads_and_slopes_alike_on_both_passes(
    family: str, after: bool, edit: Callable[[], Edit], written: int
) -> None:
    """Above the perturbed site, and at it."""
    subject, task = tiny.subject(family), Probed()
    pack = max(make_packs(subject, task, task.examples("test"), 99), key=len)
    writes = Writes((written,), pack.readout - 1, 2, after)
    rows = torch.arange(len(pack)).flip(0)
    delta = far(2 * len(pack), 4.0).view(len(pack), 1, 2, D_MODEL)
    found = []
    for kind in (FullPass, TailPass):
        run = kind(subject, pack, {written: edit()}, writes)
        at = delta.clone().requires_grad_()
        read = run(at, rows).read
        (slope,) = torch.autograd.grad(read[:, 0].sum() - 2 * read[:, 1].sum(), at)
        found.append((read.detach(), slope))
        with torch.no_grad():
            assert not torch.allclose(run(torch.zeros_like(delta), rows).read, read, rtol=1e-2, atol=1e-2)
    (full, wide), (tail, narrow) = found
    torch.testing.assert_close(tail, full, rtol=1e-3, atol=1e-3 * float(full.abs().max()))
    torch.testing.assert_close(narrow, wide, rtol=1e-3, atol=1e-3 * float(wide.abs().max()))
    assert (wide.flatten(1).norm(dim=1) > 0).all()


# What a suite takes.


@pytest.mark.parametrize(
    ("examples", "limit", "size"), [(None, None, None), (5, None, 5), (None, 7, 7), (5, 7, 5), (9, 7, 7)]
)
def test_a_suite_takes_the_smaller_of_its_size_and_the_limit(
    suite: Suite, examples: int | None, limit: int | None, size: int | None
) -> None:
    settings: TaskSettings = suite.tasks["toy"].model_copy(update={"examples": examples})
    assert suite.model_copy(update={"tasks": {"toy": settings}}).size("toy", limit) == size


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Suite:
    return load_suite(str(suite_file(tmp_path_factory.mktemp("suite"))))


def test_a_sample_without_a_limit_is_refused(suite: Suite, tmp_path: Any) -> None:
    with pytest.raises(UsageError, match="`sample` needs a `limit`"):
        load_suite(str(suite_file(tmp_path, sample=3)))
    allowed = load_suite(str(suite_file(tmp_path, sample=3, limit=5)))
    assert (allowed.sample, allowed.limit) == (3, 5) and (suite.sample, suite.limit) == (None, None)


def test_a_sample_thins_every_split_but_test_and_leaves_the_task_as_it_was() -> None:
    task = ToyTask()
    before = [(list(task.examples(split)), list(task.retain(split))) for split in SPLITS]
    few = _sampled(task, 3)
    for split, (examples, retain) in zip(SPLITS, before, strict=True):
        assert list(few.examples(split)) == (examples if split == "test" else list(spread(examples, 3)))
        assert list(few.retain(split)) == list(spread(retain, 3)) and len(few.retain(split)) == 3
        assert (list(task.examples(split)), list(task.retain(split))) == (examples, retain)
    assert few is not task and not vars(task) and few.name == task.name
    assert len(_sampled(task, 99).examples("fit")) == 24


@pytest.mark.parametrize("limit", [1, 3, 7, 24, 25, None])
def test_a_sample_is_spread_evenly_over_the_whole_list(limit: int | None) -> None:
    everything = ToyTask().examples("test")
    taken = [everything.index(e) for e in spread(everything, limit)]
    assert len(taken) == min(limit or 24, 24) == len(set(taken)) and taken == sorted(taken)
    gaps = {b - a for a, b in zip([*taken, 24], [*taken[1:], 24], strict=False) if b > a}
    assert max(gaps) - min(gaps) <= 1, "no cluster is cut off"

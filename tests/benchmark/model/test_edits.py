"""Edits are applied where they say, at absolute positions, and leave no trace behind."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmark.contracts.defense import Edit, Where
from benchmark.errors import UsageError
from benchmark.model.edits import Passage, by_boundary, edited, is_special, passing, up_to
from benchmark.model.subject import Subject
from benchmark.sites import Site
from tests import tiny

PROMPT, NEW = 5, 9
"""Longer together than the sliding windows of the tiny models."""


class Poke:
    """Adds a direction at some absolute positions and remembers where it was called."""

    position_wise = True

    def __init__(self, *positions: int) -> None:
        self.positions = torch.tensor(positions)
        self.calls: list[Where] = []

    def __call__(self, h: Tensor, where: Where) -> Tensor:
        self.calls.append(where)
        direction = torch.linspace(-3, 3, h.shape[-1]).to(h.dtype)
        return h + direction * torch.isin(where.index, self.positions)[:, None]


def tilt(h: Tensor, where: Where) -> Tensor:
    return h * torch.linspace(0.5, 2, h.shape[-1])


def double(h: Tensor, where: Where) -> Tensor:
    return 2 * h


def explode(h: Tensor, where: Where) -> Tensor:
    raise RuntimeError("an edit that fails")


def hooks(subject: Subject) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in subject.model.modules())


def prompt(rows: int = 2) -> Tensor:
    return tiny.pack(tiny.bare("gpt2"), rows, PROMPT).ids


def logits(subject: Subject, ids: Tensor) -> Tensor:
    with torch.no_grad():
        return subject.model(input_ids=ids).logits


def generated(subject: Subject, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Greedy text (rows, position) and the logits of each of its new tokens (rows, new, vocabulary)."""
    out = subject.model.generate(
        ids,
        attention_mask=(ids != 0).long(),
        max_new_tokens=NEW,
        min_new_tokens=NEW,
        do_sample=False,
        output_logits=True,
        return_dict_in_generate=True,
    )
    return out.sequences, torch.stack(out.logits, 1)


@pytest.fixture(scope="module", params=list(tiny.FAMILIES))
def subject(request: Any) -> Subject:
    return tiny.bare(request.param)


@pytest.mark.parametrize("boundary", range(tiny.LAYERS + 1))
def test_an_edit_acts_at_its_site_and_is_undone(subject: Subject, boundary: int) -> None:
    ids, nowhere = prompt(), Where(*[torch.empty(0)] * 3)
    before = logits(subject, ids)
    seen: list[Tensor] = []
    if boundary < tiny.LAYERS:
        sites = [Site(boundary)] + ([Site(boundary - 1, "resid_post")] if boundary else [])

        def before_layer(_: Any, args: Any, kwargs: Any) -> Any:
            return (tilt(args[0], nowhere), *args[1:]), kwargs

        hook = subject.layers[boundary].register_forward_pre_hook(before_layer, with_kwargs=True)
    else:
        sites = [Site(boundary - 1, "resid_post")]

        def behind_layer(_: Any, args: Any, output: Any) -> Any:
            return tilt(output, nowhere)

        hook = subject.layers[-1].register_forward_hook(behind_layer)
    with hook:
        expected = logits(subject, ids)
    for site in sites:
        with edited(subject, {site: tilt}) as model:
            assert model is subject.model
            seen.append(logits(subject, ids))
    assert all(torch.equal(s, expected) for s in seen)
    assert not torch.allclose(expected, before)
    assert torch.equal(logits(subject, ids), before) and hooks(subject) == 0


def test_edits_of_several_sites_are_all_live(subject: Subject) -> None:
    ids = prompt()
    with edited(subject, {Site(1): double}), edited(subject, {Site(3): Poke(2)}):
        nested = logits(subject, ids)
    with edited(subject, {Site(1): double, Site(3): Poke(2)}):
        assert torch.equal(logits(subject, ids), nested)
    with edited(subject, {Site(1): double}):
        assert not torch.equal(logits(subject, ids), nested)


@pytest.mark.parametrize("where", ["in the block", "in the edit"])
def test_an_exception_undoes_everything(subject: Subject, where: str) -> None:
    before = logits(subject, prompt())
    edit = explode if where == "in the edit" else double
    with pytest.raises(RuntimeError), edited(subject, {Site(0): double, Site(2): edit}):
        logits(subject, prompt())
        raise RuntimeError("a block that fails")
    assert hooks(subject) == 0 and torch.equal(logits(subject, prompt()), before)


@pytest.mark.parametrize(
    ("sites", "message"),
    [
        ((Site(0), Site(tiny.LAYERS)), "outside llama"),
        ((Site(1, "resid_post"), Site(2, "resid_pre")), "same place"),
    ],
)
def test_all_sites_are_checked_before_the_first_hook(sites: tuple[Site, ...], message: str) -> None:
    subject = tiny.bare("llama")
    edits: Mapping[Site, Edit] = dict.fromkeys(sites, double)
    registered: list[object] = []
    for module in subject.model.modules():
        module.register_forward_pre_hook = lambda *a, **k: registered.append(a)  # type: ignore[method-assign]
    with pytest.raises(UsageError, match=message), edited(subject, edits):
        pytest.fail("the block must not be entered")
    assert not registered
    with pytest.raises(UsageError, match=message):
        by_boundary(subject, edits)


def test_gradients_flow_through_an_edit(subject: Subject) -> None:
    scale = torch.ones((), requires_grad=True)
    with edited(subject, {Site(1): lambda h, where: h * scale}):
        total = subject.model(input_ids=prompt()).logits.square().sum()
    (slope,) = torch.autograd.grad(total, scale)
    assert slope.isfinite() and slope != 0


@pytest.fixture(scope="module")
def unchanged(subject: Subject) -> Tensor:
    """Logits of the new tokens of the unchanged model."""
    return generated(subject, prompt())[1]


@pytest.mark.parametrize(("how", "position"), [("write", PROMPT - 1), ("edit", PROMPT), ("write", PROMPT + 4)])
def test_in_generation_a_change_acts_at_its_absolute_position(
    subject: Subject, unchanged: Tensor, how: str, position: int
) -> None:
    """The logits of step t are read at position PROMPT - 1 + t: equal before the change, different from it on."""
    ids = prompt()
    passage = Passage({2: Poke(position)})
    if how == "write":
        passage = Passage({}, {2: torch.linspace(-3, 3, tiny.D_MODEL).expand(len(ids), 1, -1)}, position)
    with passing(subject, passage):
        _, found = generated(subject, ids)
    step = max(position - PROMPT + 1, 0)
    assert torch.equal(found[:, :step], unchanged[:, :step])
    assert (found[:, step] - unchanged[:, step]).abs().amax() > 1e-3
    assert hooks(subject) == 0


def test_several_written_columns_may_reach_from_the_prompt_into_the_answer(subject: Subject) -> None:
    """The cached generation equals one pass over the text that it wrote, under the same perturbation."""
    generator = torch.Generator().manual_seed(0)
    delta = torch.randn(2, 4, tiny.D_MODEL, generator=generator)
    passage = Passage({3: Poke(1, PROMPT + 4)}, {2: delta}, PROMPT - 2)
    with passing(subject, passage):
        text, stepwise = generated(subject, prompt())
        at_once = logits(subject, text)[:, PROMPT - 1 : -1]
    torch.testing.assert_close(stepwise, at_once, rtol=1e-4, atol=1e-4)
    with passing(subject, Passage({3: Poke(1, PROMPT + 4)})):
        plain = logits(subject, text)[:, PROMPT - 1 : -1]
    assert (plain - at_once).abs().amax() > 1e-2


def test_positions_count_on_under_a_cache_and_prompt_and_answer_are_told_apart(subject: Subject) -> None:
    poke = Poke()
    with edited(subject, {Site(1): poke}):
        generated(subject, prompt())
    assert [w.index.tolist() for w in poke.calls] == [list(range(PROMPT))] + [[PROMPT + i] for i in range(NEW - 1)]
    assert [bool(w.generated.any()) for w in poke.calls] == [False] + [True] * (NEW - 1)
    assert all(bool(w.generated.all()) == bool(w.generated.any()) for w in poke.calls)


def test_beginning_of_text_and_padding_are_special(subject: Subject) -> None:
    ids = torch.tensor([[0, 0, 1, 7, 8], [1, 9, 7, 8, 5]])
    poke = Poke()
    with edited(subject, {Site(1): poke}):
        generated(subject, ids)
        subject.model(inputs_embeds=torch.zeros(2, 3, tiny.D_MODEL))
    assert poke.calls[0].special.tolist() == [[True, True, True, False, False], [True, False, False, False, False]]
    steps = [w.special for w in poke.calls[1:-1]]
    assert all(s.shape == (2, 1) for s in steps)
    assert poke.calls[-1].special.tolist() == [[True, False, False]] * 2


@pytest.mark.parametrize(
    ("ids", "mask", "special"),
    [
        ([7, 8, 9, 5], None, [True, False, False, False]),
        ([0, 0, 7, 8], None, [True, True, True, False]),
        ([7, 1, 8, 9], None, [True, False, False, False]),
        ([0, 0, 7, 8], [0, 0, 1, 1], [True, True, True, False]),
        ([1, 1, 7, 8], [0, 1, 1, 1], [True, True, False, False]),
        ([7, 8, 9, 0], [1, 1, 1, 0], [True, False, False, False]),
    ],
)
def test_the_first_position_is_special_whatever_stands_there(
    subject: Subject, ids: list[int], mask: list[int] | None, special: list[bool]
) -> None:
    attended = None if mask is None else torch.tensor([mask])
    poke = Poke()
    with edited(subject, {Site(1): poke}):
        subject.model(input_ids=torch.tensor([ids]), attention_mask=attended)
    assert poke.calls[0].special.tolist() == [special]
    assert is_special(subject, torch.tensor([ids]), attended).tolist() == [special]


def test_where_one_token_is_bos_and_padding_the_mask_tells_them_apart() -> None:
    both = Subject(tiny.model(), SimpleNamespace(bos_token_id=1, pad_token_id=1), "both")
    ids = torch.tensor([[1, 1, 7, 8]])
    assert is_special(both, ids).tolist() == [[True, True, False, False]]
    assert is_special(both, ids, torch.tensor([[0, 0, 1, 1]])).tolist() == [[True, True, True, False]]


def test_a_special_token_inside_a_text_is_text(subject: Subject) -> None:
    ids = torch.tensor([[1, 7, 1, 0, 8]])
    poke = Poke()
    with edited(subject, {Site(1): poke}):
        subject.model(input_ids=ids)
    assert poke.calls[0].special.tolist() == [[True, False, False, False, False]]


def test_columns_and_rows_of_a_place_are_cut_together() -> None:
    where = Where(torch.arange(4), torch.tensor([[True, False, False, True], [False] * 4]), torch.zeros(2, 4).bool())
    cut = where.columns(1).rows(torch.tensor([0, 0, 1]))
    assert cut.index.tolist() == [1, 2, 3]
    assert cut.special.tolist() == [[False, False, True], [False, False, True], [False] * 3]
    assert cut.generated.shape == (3, 3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_a_write_of_zero_changes_no_bit_of_the_stream(dtype: torch.dtype) -> None:
    h = torch.randn(2, 6, 8, dtype=torch.float64).to(dtype)
    where = Where(torch.arange(6), torch.zeros(2, 6).bool(), torch.zeros(2, 6).bool())
    written = Passage({}, {0: torch.zeros(2, 2, 8)}, start=3)(0, h, where)
    assert torch.equal(written, h) and written.dtype == dtype


def test_what_is_observed_is_what_the_rest_of_the_model_gets() -> None:
    h = torch.ones(1, 4, 8)
    where = Where(torch.arange(4), torch.zeros(1, 4).bool(), torch.zeros(1, 4).bool())
    delta = torch.ones(1, 1, 8)
    for after, value in ((False, 4.0), (True, 3.0)):
        passage = Passage({0: double}, {0: delta}, 2, write_after=after, observe=frozenset({0}))
        out = passage(0, h, where)
        assert torch.equal(passage.seen[0], out)
        assert out[0, :, 0].tolist() == [2, 2, value, 2]
        again = Passage({0: double}, {0: delta}, 2, write_after=after)(0, h, where, edited=True)
        assert again[0, :, 0].tolist() == [1, 1, 2, 1]


@pytest.mark.parametrize("boundary", [0, 2, tiny.LAYERS])
def test_a_pass_that_ends_early_shows_the_same_stream_and_runs_no_layer_above(
    boundary: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject, ids, ran = tiny.subject("llama"), torch.tensor([[1, 5, 7, 9]]), list[int]()

    def counted(i: int, forward: Any) -> Any:
        return lambda *args, **rest: (ran.append(i), forward(*args, **rest))[1]

    for i, layer in enumerate(subject.layers):
        monkeypatch.setattr(layer, "forward", counted(i, layer.forward))

    def seen(end: int) -> Tensor:
        passage = Passage({}, observe=frozenset({boundary}))
        ran.clear()
        with passing(subject, passage), up_to(subject, end):
            subject.model(input_ids=ids)
        return passage.seen[boundary]

    whole = seen(subject.n_layers)
    assert ran == list(range(subject.n_layers))
    assert torch.equal(seen(boundary), whole) and ran == list(range(boundary))
    assert not any(layer._forward_pre_hooks for layer in subject.layers)


def test_what_goes_wrong_below_is_no_end() -> None:
    subject = tiny.subject("llama")
    with pytest.raises(IndexError), up_to(subject, 2):
        subject.model(input_ids=torch.tensor([[10**6]]))
    assert not any(layer._forward_pre_hooks for layer in subject.layers)

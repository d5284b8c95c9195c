"""The clamp of a few latents is the textbook splice of the whole SAE, at the positions that it is meant for."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast, get_args

import pytest
import torch
from torch import Tensor

from benchmark.errors import UsageError
from benchmark.model.edits import Where, edited
from benchmark.model.subject import Subject
from benchmark.sae.dictionary import Dictionary, open_dictionary
from benchmark.search.constraint import EncoderNullSpace
from benchmark.sites import Site
from defenses.clamp_edit import ClampEdit, Mode
from defenses.schedule import Schedule
from tests import tiny

ARCHITECTURES = ("standard", "jumprelu", "gated", "topk")
MODES = cast(tuple[Mode, ...], get_args(Mode))
SITE = Site.parse(tiny.SITE)
LATENTS = list(range(1, 64, 6))
ROWS, LENGTH = 3, 8


@pytest.fixture(scope="module")
def subject() -> Subject:
    return tiny.subject()


@pytest.fixture(scope="module")
def load() -> Callable[[str], Any]:
    """The whole SAE of a folder, as sae_lens has it; its import takes seconds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from sae_lens import SAE

    def from_folder(folder: str) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return SAE.load_from_disk(folder).requires_grad_(False)

    return from_folder


def stream() -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return 2 * torch.randn(ROWS, LENGTH, tiny.D_MODEL, generator=generator) + 0.4


def place(prompt: int = LENGTH) -> Where:
    """BOS in front, one row padded by two, ``prompt`` tokens of prompt."""
    special = torch.zeros(ROWS, LENGTH, dtype=torch.bool)
    special[:, 0] = special[1, :3] = True
    return Where(torch.arange(LENGTH), special, (torch.arange(LENGTH) >= prompt).expand(ROWS, -1))


def clamp(dictionary: Dictionary, mode: Mode, latents: list[int] = LATENTS, **options: Any) -> ClampEdit:
    level = torch.linspace(0.5, 2, len(latents))
    options = {"positions": "all"} | options
    return ClampEdit(dictionary.features(latents), mode, level, **options)


def clamped(acts: Tensor, mode: Mode) -> Tensor:
    """z' by the book: only the latents of the clamp differ from z."""
    level = torch.linspace(0.5, 2, len(LATENTS))
    z = acts[..., LATENTS]
    wanted = {
        "zero": torch.zeros_like(z),
        "set": level.expand_as(z),
        "set_if_active": torch.where(z > 0, -level, z),
        "scale": level * z,
    }
    return acts.index_copy(-1, torch.tensor(LATENTS), wanted[mode])


def splice(sae: Any, h: Tensor, mode: Mode, centred: bool, drop: bool) -> Tensor:
    """D(z') + (h - D(z)), or D(z'), with the whole SAE; it remembers norms from encode to decode."""
    mean = h.mean(-1, keepdim=True) if centred else 0.0
    x = h - mean
    forced = sae.decode(clamped(sae.encode(x), mode))
    plain = sae.decode(sae.encode(x))
    return forced + mean if drop else forced + (h - plain)


def gap(found: Tensor, expected: Tensor) -> float:
    assert found.shape == expected.shape
    return float((found - expected).detach().abs().max() / expected.detach().abs().max())


SETTINGS = [(a, n, c) for a in ARCHITECTURES for n in ("none", "layer_norm", "constant_norm_rescale") for c in (0, 1)]


@pytest.mark.parametrize(("architecture", "normalize", "centred"), SETTINGS)
def test_the_clamp_is_the_textbook_splice_with_its_gradient(
    architecture: str, normalize: str, centred: int, subject: Subject, load: Callable[[str], Any], tmp_path: Path
) -> None:
    metadata = {"model_from_pretrained_kwargs": {"center_writing_weights": bool(centred)}}
    folder = tiny.sae_folder(tmp_path, architecture, normalize_activations=normalize, metadata=metadata)
    dictionary, sae = open_dictionary(subject, SITE, folder), load(folder)
    weights = torch.linspace(-1, 1, tiny.D_MODEL)
    for mode in MODES:
        for drop in (False, True):
            ours, theirs = stream().requires_grad_(), stream().requires_grad_()
            found = clamp(dictionary, mode, reconstruction=dictionary if drop else None)(ours, place())
            expected = splice(sae, theirs, mode, bool(centred), drop)
            assert gap(found, expected) < 1e-5, (mode, drop)
            assert gap(found, stream()) > 1e-2, (mode, drop)
            slopes = [
                torch.autograd.grad((out.square() * weights).sum(), at)[0]
                for out, at in ((found, ours), (expected, theirs))
            ]
            assert gap(*slopes) < 1e-4, (mode, drop)


@pytest.fixture(params=ARCHITECTURES)
def dictionary(request: Any, subject: Subject, tmp_path: Path) -> Dictionary:
    return open_dictionary(subject, SITE, tiny.sae_folder(tmp_path, request.param))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("drop", [False, True])
def test_special_positions_are_spared_to_the_bit_and_the_others_are_not(
    mode: Mode, drop: bool, dictionary: Dictionary
) -> None:
    h, where = stream(), place()
    options: dict[str, Any] = {"reconstruction": dictionary if drop else None}
    everywhere = clamp(dictionary, mode, **options)(h, where)
    spared = clamp(dictionary, mode, positions="skip_special", **options)(h, where)
    assert torch.equal(spared[where.special], h[where.special])
    assert torch.equal(spared[~where.special], everywhere[~where.special])
    assert not torch.equal(everywhere[where.special], h[where.special])


@pytest.mark.parametrize(
    ("schedule", "acts"),
    [
        ("always", [1, 1, 1, 1, 1, 1, 1, 1]),
        ("prompt", [1, 1, 1, 1, 1, 0, 0, 0]),
        ("generated", [0, 0, 0, 0, 0, 1, 1, 1]),
        ("every:1", [1, 1, 1, 1, 1, 1, 1, 1]),
        ("every:3", [1, 0, 0, 1, 0, 0, 1, 0]),
    ],
)
@pytest.mark.parametrize("drop", [False, True])
def test_a_schedule_says_where_the_clamp_acts(
    schedule: str, acts: list[int], drop: bool, dictionary: Dictionary
) -> None:
    h, where = stream(), place(prompt=5)
    options: dict[str, Any] = {"reconstruction": dictionary if drop else None}
    always = clamp(dictionary, "set", **options)(h, where)
    found = clamp(dictionary, "set", schedule=Schedule.parse(schedule), **options)(h, where)
    on = torch.tensor(acts).bool()
    assert torch.equal(found[:, on], always[:, on]) and torch.equal(found[:, ~on], h[:, ~on])
    both = clamp(dictionary, "set", schedule=Schedule.parse(schedule), positions="skip_special", **options)(h, where)
    acting = on & ~where.special
    assert torch.equal(both[acting], always[acting]) and torch.equal(both[~acting], h[~acting])


@pytest.mark.parametrize("text", ["", "never", "every", "every:", "every:0", "every:-2", "every:x", "prompt:2"])
def test_a_schedule_that_does_not_exist_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="always, prompt, generated and every"):
        Schedule.parse(text)


@pytest.mark.parametrize("family", ["llama", "mistral", "gpt2"])
@pytest.mark.parametrize("schedule", ["always", "prompt", "generated", "every:3"])
def test_in_generation_the_clamp_acts_where_its_schedule_says(family: str, schedule: str, tmp_path: Path) -> None:
    subject = tiny.bare(family)
    folder = tiny.sae_folder(tmp_path, metadata={"model_name": family})
    edit = clamp(
        open_dictionary(subject, SITE, folder), "set", schedule=Schedule.parse(schedule), positions="skip_special"
    )
    moved: dict[int, bool] = {}

    def watched(h: Tensor, where: Where) -> Tensor:
        out = edit(h, where)
        moved.update(zip(where.index.tolist(), (out != h).any(-1).all(0).tolist(), strict=True))
        return out

    prompt = tiny.pack(subject, 2, 5).ids
    with edited(subject, {SITE: watched}) as model:
        model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=7,
            min_new_tokens=7,
            do_sample=False,
            suppress_tokens=[0, 1],  # a BOS that the model writes would be spared
        )
    expected = {"always": range(1, 11), "prompt": range(1, 5), "generated": range(5, 11), "every:3": range(3, 11, 3)}
    assert [p for p, m in moved.items() if m] == list(expected[schedule])
    assert sorted(moved) == list(range(11))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("drop", [False, True])
def test_a_stream_of_low_precision_is_edited_in_single_precision(
    dtype: torch.dtype, mode: Mode, drop: bool, dictionary: Dictionary
) -> None:
    h = stream().to(dtype)
    edit = clamp(dictionary, mode, reconstruction=dictionary if drop else None)
    found = edit(h, place())
    assert found.dtype == dtype
    assert torch.equal(found, edit(h.float(), place()).to(dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_latents_that_are_silent_are_left_alone_where_only_active_ones_are_set(
    dtype: torch.dtype, dictionary: Dictionary
) -> None:
    h = stream().to(dtype)
    active = (dictionary.everything.encode(h).act > 0).flatten(0, 1).any(0)
    h = h[:1, :1]
    active = (dictionary.everything.encode(h).act > 0)[0, 0]
    silent, firing = (mask.nonzero()[:, 0].tolist()[:10] for mask in (~active, active))
    where = Where(torch.zeros(1), torch.zeros(1, 1).bool(), torch.zeros(1, 1).bool())
    kept = clamp(dictionary, "set_if_active", silent)(h, where)
    if dtype == torch.float64:  # the edit itself is single precision
        assert gap(kept, h) < 1e-6
    else:
        assert torch.equal(kept, h)
    assert gap(clamp(dictionary, "set", silent)(h, where), h) > 1e-2
    assert gap(clamp(dictionary, "set_if_active", firing)(h, where), h) > 1e-2


def test_a_gain_of_one_is_no_edit(dictionary: Dictionary) -> None:
    edit = ClampEdit(dictionary.features(LATENTS), "scale", torch.ones(len(LATENTS)), "all")
    assert torch.equal(edit(stream(), place()), stream())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("drop", [False, True])
def test_every_position_is_treated_alone_as_the_clamp_promises(mode: Mode, drop: bool, dictionary: Dictionary) -> None:
    edit = clamp(dictionary, mode, positions="skip_special", reconstruction=dictionary if drop else None)
    assert edit.position_wise
    h, where = stream(), place()
    whole = edit(h, where)
    rows = torch.tensor([2, 1])
    part = edit(h[rows, 3:], where.columns(3).rows(rows))
    assert gap(part, whole[rows, 3:]) < 1e-6
    changed = h.clone()
    changed[:, :3] += 1
    assert gap(edit(changed, where)[:, 3:], whole[:, 3:]) < 1e-6


def test_the_stream_that_is_given_is_not_changed_in_place(dictionary: Dictionary) -> None:
    h = stream()
    clamp(dictionary, "set")(h, place())
    assert torch.equal(h, stream())


@pytest.mark.parametrize("architecture", ["standard", "jumprelu", "gated"])
@pytest.mark.parametrize("mode", MODES)
def test_writing_before_or_after_the_clamp_is_the_same_in_the_null_space_and_only_there(
    architecture: str, mode: Mode, subject: Subject, tmp_path: Path
) -> None:
    """With the error term kept; without it the clamp eats what is written before."""
    dictionary = open_dictionary(subject, SITE, tiny.sae_folder(tmp_path, architecture))
    edit = clamp(dictionary, mode)
    constraint = EncoderNullSpace([[edit.features]], tiny.D_MODEL)
    free = torch.randn(ROWS, 1, LENGTH, tiny.D_MODEL, generator=torch.Generator().manual_seed(9))
    held = constraint.project(free)[:, 0]
    h, where = stream(), place()
    assert gap(edit(h + held, where), edit(h, where) + held) < 1e-5
    assert gap(edit(h + free[:, 0], where), edit(h, where) + free[:, 0]) > 1e-2
    dropping = clamp(dictionary, mode, reconstruction=dictionary)
    assert gap(dropping(h + held, where), dropping(h, where) + held) > 1e-2

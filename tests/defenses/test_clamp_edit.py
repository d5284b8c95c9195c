"""The clamp of a few latents is the textbook splice of the whole SAE, at the positions that it is meant for."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast, get_args

import pytest
import torch
from torch import Tensor

from benchmark.contracts.defense import Where
from benchmark.model.subject import Subject
from benchmark.sae.dictionary import Dictionary, open_dictionary
from benchmark.search.constraint import EncoderNullSpace
from defenses.clamp_edit import ClampEdit, Mode
from defenses.schedule import Schedule
from tests import tiny
from tests.defenses.world import HERE

ARCHITECTURES = ("standard", "jumprelu", "gated", "topk")
NORMALIZATIONS = ("none", "layer_norm", "constant_norm_rescale")
MODES = cast(tuple[Mode, ...], get_args(Mode))
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


def clamp(dictionary: Dictionary, mode: Mode, latents: list[int] = LATENTS, drop: bool = False, **changes: Any) -> Any:
    level = torch.linspace(0.5, 2, len(latents))
    options = {"positions": "all", "reconstruction": dictionary if drop else None} | changes
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


SETTINGS = [(a, n, (i + j) % 2) for i, a in enumerate(ARCHITECTURES) for j, n in enumerate(NORMALIZATIONS)]
"""Every architecture under every normalization; each of both centred once at least, and once not."""


@pytest.mark.parametrize(("architecture", "normalize", "centred"), SETTINGS)
def test_the_clamp_is_the_textbook_splice_with_its_gradient(
    architecture: str, normalize: str, centred: int, subject: Subject, load: Callable[[str], Any], tmp_path: Path
) -> None:
    metadata = {"model_from_pretrained_kwargs": {"center_writing_weights": bool(centred)}}
    folder = tiny.sae_folder(tmp_path, architecture, normalize_activations=normalize, metadata=metadata)
    dictionary, sae = open_dictionary(subject, HERE, folder), load(folder)
    weights = torch.linspace(-1, 1, tiny.D_MODEL)
    for mode in MODES:
        for drop in (False, True):
            ours, theirs = stream().requires_grad_(), stream().requires_grad_()
            found = clamp(dictionary, mode, drop=drop)(ours, place())
            expected = splice(sae, theirs, mode, bool(centred), drop)
            assert gap(found, expected) < 1e-5, (mode, drop)
            assert gap(found, stream()) > 1e-2, (mode, drop)
            slopes = [
                torch.autograd.grad((out.square() * weights).sum(), at)[0]
                for out, at in ((found, ours), (expected, theirs))
            ]
            assert gap(*slopes) < 1e-4, (mode, drop)


@pytest.fixture
def dictionary(subject: Subject, tmp_path: Path) -> Dictionary:
    return open_dictionary(subject, HERE, tiny.sae_folder(tmp_path))


@pytest.mark.parametrize("drop", [False, True])
def test_the_clamp_acts_where_its_schedule_says_and_spares_special_positions_to_the_bit(
    drop: bool, dictionary: Dictionary
) -> None:
    h, where = stream(), place(prompt=5)
    everywhere = clamp(dictionary, "set", drop=drop)(h, where)
    assert not torch.equal(everywhere[where.special], h[where.special])
    some = clamp(dictionary, "set", drop=drop, schedule=Schedule.parse("prompt"), positions="skip_special")(h, where)
    acting = ~where.generated & ~where.special
    assert torch.equal(some[acting], everywhere[acting]) and torch.equal(some[~acting], h[~acting])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_stream_of_low_precision_is_edited_in_single_precision(dtype: torch.dtype, dictionary: Dictionary) -> None:
    h = stream().to(dtype)
    for mode in MODES:
        for drop in (False, True):
            edit = clamp(dictionary, mode, drop=drop)
            found = edit(h, place())
            assert found.dtype == dtype
            assert torch.equal(found, edit(h.float(), place()).to(dtype)), (mode, drop)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_latents_that_are_silent_are_left_alone_where_only_active_ones_are_set(
    architecture: str, subject: Subject, tmp_path: Path
) -> None:
    dictionary = open_dictionary(subject, HERE, tiny.sae_folder(tmp_path, architecture))
    where = Where(torch.zeros(1), torch.zeros(1, 1).bool(), torch.zeros(1, 1).bool())
    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        h = stream().to(dtype)[:1, :1]
        active = (dictionary.everything.encode(h).act > 0)[0, 0]
        silent, firing = (mask.nonzero()[:, 0].tolist()[:10] for mask in (~active, active))
        kept = clamp(dictionary, "set_if_active", silent)(h, where)
        # the edit itself is single precision
        assert gap(kept, h) < 1e-6 if dtype == torch.float64 else torch.equal(kept, h)
        assert gap(clamp(dictionary, "set", silent)(h, where), h) > 1e-2
        assert gap(clamp(dictionary, "set_if_active", firing)(h, where), h) > 1e-2


def test_a_gain_of_one_is_no_edit(dictionary: Dictionary) -> None:
    edit = ClampEdit(dictionary.features(LATENTS), "scale", torch.ones(len(LATENTS)), "all")
    assert torch.equal(edit(stream(), place()), stream())


@pytest.mark.parametrize("architecture", ["jumprelu", "topk"])
@pytest.mark.parametrize("drop", [False, True])
def test_every_position_is_treated_alone_as_the_clamp_promises(
    architecture: str, drop: bool, subject: Subject, tmp_path: Path
) -> None:
    folder = tiny.sae_folder(tmp_path, architecture, normalize_activations="layer_norm")
    dictionary = open_dictionary(subject, HERE, folder)
    for mode in MODES:
        edit = clamp(dictionary, mode, drop=drop, positions="skip_special")
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
def test_writing_before_or_after_the_clamp_is_the_same_in_the_null_space_and_only_there(
    architecture: str, subject: Subject, tmp_path: Path
) -> None:
    """With the error term kept; without it the clamp eats what is written before."""
    dictionary = open_dictionary(subject, HERE, tiny.sae_folder(tmp_path, architecture))
    constraint = EncoderNullSpace([[dictionary.features(LATENTS)]], tiny.D_MODEL)
    free = torch.randn(ROWS, 1, LENGTH, tiny.D_MODEL, generator=torch.Generator().manual_seed(9))
    held = constraint.project(free)[:, 0]
    h, where = stream(), place()
    for mode in MODES:
        edit, dropping = clamp(dictionary, mode), clamp(dictionary, mode, drop=True)
        assert gap(edit(h + held, where), edit(h, where) + held) < 1e-5
        assert gap(edit(h + free[:, 0], where), edit(h, where) + free[:, 0]) > 1e-2
        assert gap(dropping(h + held, where), dropping(h, where) + held) > 1e-2

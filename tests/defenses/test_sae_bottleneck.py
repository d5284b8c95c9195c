"""The bottleneck lets through what the dictionary can say, and is the clamp of the same latents otherwise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from defenses.latents import Layer
from defenses.sae_bottleneck import SaeBottleneck
from defenses.sae_clamp import SaeClamp
from tests.defenses.world import ABOVE, CALIBRATED, CLAMP, HERE, fit, place, second_layer, seen, stream, world
from tests.tiny import D_MODEL, SITE

CLAMPED = SaeClamp(layers=(Layer(SITE, latents=(3, 1)),), strength=2.0)


def edits(folder: Path, d_sae: int = 8) -> tuple[Any, ...]:
    """Bottleneck, bottleneck without a clamp, clamp; and a small dictionary that does not span the stream."""
    subject, dictionary = world(folder, d_sae=d_sae)
    recipes = (SaeBottleneck(CLAMPED), SaeBottleneck(CLAMPED, clamped=False), CLAMPED)
    return *(fit(recipe, subject).edits[HERE] for recipe in recipes), dictionary


def outside(h: torch.Tensor, dictionary: Any) -> float:
    """Share of h - b_dec that lies outside the span of the decoder's rows."""
    rest = h - dictionary.decode(torch.zeros(dictionary.width))
    basis = torch.linalg.qr(dictionary.everything.decoder.T)[0]
    return float((rest - rest @ basis @ basis.T).norm() / rest.norm())


def test_what_comes_out_lies_in_the_decoders_affine_span(tmp_path: Path) -> None:
    bottleneck, plain, clamp, dictionary = edits(tmp_path)
    h = stream()
    out = [edit(h, place(h))[:, 1:] for edit in (bottleneck, plain, clamp)]
    assert outside(out[0], dictionary) < 1e-5 and outside(out[1], dictionary) < 1e-5
    assert outside(out[2], dictionary) > 0.1, "the clamp keeps its error term"


def test_a_write_that_no_latent_sees_is_lost_in_the_bottleneck_and_survives_the_clamp(tmp_path: Path) -> None:
    bottleneck, plain, clamp, dictionary = edits(tmp_path)
    basis = torch.linalg.qr(dictionary.everything.encoder)[0]
    write = torch.randn(D_MODEL, generator=torch.Generator().manual_seed(0))
    write -= basis @ (basis.T @ write)
    h = stream()
    for edit, survives in ((bottleneck, False), (plain, False), (clamp, True)):
        moved = (edit(h + write, place(h)) - edit(h, place(h)))[:, 1:]
        assert torch.allclose(moved, write if survives else torch.zeros_like(write), atol=1e-4)


def test_latents_and_strength_are_those_of_the_clamp(tmp_path: Path) -> None:
    """Whether they are settled together or each alone."""
    subject, _ = world(tmp_path)
    together = seen(subject)
    clamp, bottleneck = (recipe.fit(together) for recipe in (CALIBRATED, SaeBottleneck(CALIBRATED)))
    assert clamp.record["calibrated"] and bottleneck.protected[0].latents == clamp.protected[0].latents
    assert bottleneck.record["strength"] == clamp.record["strength"]
    assert bottleneck.record["layers"] == clamp.record["layers"]
    mine, theirs = bottleneck.edits[HERE], clamp.edits[HERE]
    assert isinstance(mine, type(theirs)) and torch.equal(mine.level, theirs.level)
    assert mine.reconstruction is not None and theirs.reconstruction is None
    assert fit(SaeBottleneck(CALIBRATED), subject).record == bottleneck.record


def test_the_record_tells_what_the_bottleneck_itself_does(tmp_path: Path) -> None:
    fitting = seen(world(tmp_path)[0])
    for recipe in (SaeBottleneck(CLAMP), SaeBottleneck(CLAMP, clamped=False)):
        fitted = recipe.fit(fitting)
        assert fitted.record["suppressed_fit"] == fitting.outcome(fitted.edits).suppressed
    assert not fitted.protected and fitted.record["layers"][0]["latents"] == []


def test_several_sites_are_bottlenecks_at_once(tmp_path: Path) -> None:
    subject, _ = world(tmp_path)
    clamp = replace(CLAMP, layers=(Layer(SITE), second_layer(tmp_path)))
    for clamped in (True, False):
        assert list(fit(SaeBottleneck(clamp, clamped), subject).edits) == [HERE, ABOVE]


def test_its_control_is_the_bottleneck_of_random_latents(tmp_path: Path) -> None:
    """At the strength of the bottleneck itself, which was calibrated with the error term kept."""
    subject, dictionary = world(tmp_path, d_sae=8)
    clamp = replace(CLAMPED, strength=None, target_share=0.3, retain_share=0.01)
    recipe = SaeBottleneck(clamp)
    mine, control = (fit(made, subject) for made in (recipe, recipe.control()))
    assert control.record["strength"] == mine.record["strength"]
    assert len(control.protected[0].latents) == 2 and not {3, 1} & set(control.protected[0].latents)
    h = stream()
    assert outside(control.edits[HERE](h, place(h))[:, 1:], dictionary) < 1e-5
    assert SaeBottleneck(clamp, clamped=False).control() is None

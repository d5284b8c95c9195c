"""lm-eval's steering CSV: what its rows mean, held against lm-eval's own hooks, and what is refused."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from benchmark.contracts.defense import Where
from benchmark.errors import UsageError
from benchmark.model.edits import edited
from benchmark.model.subject import Subject
from benchmark.sae.dictionary import Dictionary
from benchmark.sites import Site
from benchmark.spec import resolve_defense
from defenses.steering import Steered, Steering
from tests import tiny
from tests.defenses.world import ABOVE, HERE, fit, world

HEADER = "loader,action,sparse_model,hookpoint,feature_index,steering_coefficient,head_index,sae_id,description,"


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> tuple[Subject, Dictionary]:
    return world(tmp_path_factory.mktemp("steering") / "sae")


def table(folder: Path, *rows: str, header: str = HEADER) -> str:
    path = folder / "steer.csv"
    path.write_text("\n".join((header, *rows)) + "\n")
    return str(path)


def row(action: str = "add", latent: int = 3, coefficient: float = 4.0, place: str = "layers.1") -> str:
    return f"sae_lens,{action},sae,{place},{latent},{coefficient},,,something,"


def ids() -> Tensor:
    return torch.randint(3, 50, (2, 7), generator=torch.Generator().manual_seed(0))


def logits(subject: Subject, recipe: Steering) -> Tensor:
    with torch.no_grad(), edited(subject, fit(recipe, subject).edits) as model:
        return model(ids()).logits


def theirs(subject: Subject, dictionary: Dictionary, row: Steered) -> Tensor:
    """The same by lm-eval's own hook, at the module that it calls the site."""
    from lm_eval.models import hf_steered

    model = cast(Any, hf_steered).SteeredModel
    direction = dictionary.features([row.latent]).decoder[0]
    bias = dictionary.decode(torch.zeros(dictionary.width))

    def hook(acts: Tensor) -> Tensor:
        if row.action == "add":
            return model.add(acts, vector=direction * row.coefficient, head_index=None)
        unit = direction / torch.norm(direction)
        return model.clamp(acts, direction=unit, value=row.coefficient, head_index=None, bias=bias)

    with torch.no_grad(), hf_steered.steer(subject.model, {"layers.1": hook}):
        return subject.model(ids()).logits


@pytest.mark.parametrize("action", ["add", "clamp_projection"])
def test_one_feature_is_steered_as_lm_eval_does(here: tuple[Subject, Dictionary], action: Any) -> None:
    row = Steered(tiny.SITE, 3, 4.0, action)
    ours = logits(here[0], Steering((row,), positions="all"))
    torch.testing.assert_close(ours, theirs(*here, row), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(ours, logits(here[0], Steering((Steered(tiny.SITE, 3, 0.0, "add"),))), atol=1e-2)


def test_several_features_of_a_site_are_all_kept(here: tuple[Subject, Dictionary]) -> None:
    rows = (Steered(tiny.SITE, 3, 4.0), Steered(tiny.SITE, 7, -2.0))
    change = fit(Steering(rows), here[0]).edits[HERE].change  # type: ignore[attr-defined]
    h = torch.randn(5, tiny.D_MODEL)
    decoder = here[1].features([3, 7]).decoder
    torch.testing.assert_close(change(h), h + 4.0 * decoder[0] - 2.0 * decoder[1])
    alone = logits(here[0], Steering(rows[1:]))
    assert not torch.allclose(logits(here[0], Steering(rows)), alone, atol=1e-2)


def test_lm_eval_keeps_the_last_feature_of_a_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is read otherwise here; should it change there, the page that says so is to change too."""
    import sae_lens
    from lm_eval.models import hf_steered

    held = SimpleNamespace(W_dec=torch.eye(9), b_dec=torch.zeros(9))
    monkeypatch.setattr(sae_lens, "SAE", SimpleNamespace(from_pretrained=lambda *_: (held,)))
    path = table(tmp_path, row(latent=3), row(latent=7), header=HEADER.rstrip(","))
    Path(path).write_text(Path(path).read_text().replace("something,", "something"))
    read = cast(Any, hf_steered).SteeredModel.derive_steer_config(path)
    assert list(read) == ["layers.1"] and read["layers.1"]["steering_vector"].argmax() == 7
    assert read["layers.1"]["bias"] is not None, "an `add` with a bias is what lm-eval's own model refuses"
    assert len(resolve_defense(path).defense.features) == 2  # type: ignore[attr-defined]


def test_clamped_projections_hold_at_once_and_after_additions(here: tuple[Subject, Dictionary]) -> None:
    rows = [Steered(tiny.SITE, i, c, "clamp_projection") for i, c in ((3, 4.0), (7, -2.0), (9, 0.5))]
    change = fit(Steering((*rows, Steered(tiny.SITE, 3, 5.0))), here[0]).edits[HERE].change  # type: ignore[attr-defined]
    directions = torch.nn.functional.normalize(here[1].features([3, 7, 9]).decoder, dim=-1)
    assert (directions @ directions.T - torch.eye(3)).abs().max() > 0.05, "orthogonal rows would show nothing"
    bias = here[1].decode(torch.zeros(here[1].width))
    projected = (change(torch.randn(5, tiny.D_MODEL)) - bias) @ directions.T
    torch.testing.assert_close(projected, torch.tensor([4.0, -2.0, 0.5]).expand(5, 3), rtol=1e-4, atol=1e-4)


def test_bos_is_spared_unless_all_positions_are_asked_for(here: tuple[Subject, Dictionary]) -> None:
    h = torch.randn(1, 2, tiny.D_MODEL)
    special = torch.tensor([[True, False]])
    where = Where(torch.arange(2), special, torch.zeros_like(special))
    moved = {
        positions: (fit(Steering((Steered(tiny.SITE, 3, 4.0),), positions), here[0]).edits[HERE](h, where) - h).norm(
            dim=-1
        )
        for positions in ("skip_special", "all")
    }
    assert moved["skip_special"][0, 0] == 0 < moved["skip_special"][0, 1] and moved["all"].min() > 0


def test_a_csv_becomes_a_defense_called_after_it(here: tuple[Subject, Dictionary], tmp_path: Path) -> None:
    tiny.sae_folder(tmp_path / "sae")
    named = resolve_defense(table(tmp_path, row(), row("clamp", 7, -2.0)), {"positions": "all"})
    sae = str(tmp_path / "sae")
    assert named.name == "steer" and named.defense == Steering(
        (
            Steered(tiny.SITE, 3, 4.0, "add", f"{sae}"),
            Steered(tiny.SITE, 7, -2.0, "clamp_projection", f"{sae}"),
        ),
        "all",
    )
    assert fit(named.defense, here[0]).record["steered"] == 2


def test_the_form_before_adds_at_the_site_that_the_id_names(tmp_path: Path) -> None:
    header = "latent_idx,steering_coefficient,sae_release,sae_id,description"
    path = table(tmp_path, f"12,2.5,some-release,{ABOVE},dogs", header=header)
    (only,) = resolve_defense(path).defense.features  # type: ignore[attr-defined]
    assert only == Steered(str(ABOVE), 12, 2.5, "add", f"some-release/{ABOVE}")


def test_the_control_steers_along_other_latents_with_the_same_coefficients(here: tuple[Subject, Dictionary]) -> None:
    recipe = Steering((Steered(tiny.SITE, 3, 4.0), Steered(tiny.SITE, 7, 1.0, "clamp_projection")))
    control = fit(recipe.control(), here[0])
    latents = control.protected[0].latents
    assert len(latents) == 2 and not set(latents) & {3, 7}
    change = control.edits[HERE].change  # type: ignore[attr-defined]
    torch.testing.assert_close(change.added, 4.0 * here[1].features([latents[0]]).decoder[0])


@pytest.mark.parametrize(
    ("rows", "header", "said"),
    [
        ((), HEADER, "no row below its header"),
        ((row(),), HEADER.replace("steering_coefficient", "coefficient"), "unknown: coefficient; missing: steering_co"),
        ((row(),), HEADER.replace("description", "action"), "there twice: action"),
        ((row("multiply"),), HEADER, "line 2: the action is 'multiply'; write one of add, clamp"),
        ((row(), row("")), HEADER, "line 3: the action is ''"),
        ((row(coefficient=float("nan")),), HEADER, "the steering coefficient is 'nan'; write a finite number"),
        ((row(latent=-1),), HEADER, "the feature is '-1'"),
        ((row(place="model.embed"),), HEADER, "the hookpoint is 'model.embed'; write a decoder layer"),
        ((row(place=""),), HEADER, "the hookpoint is ''"),
        ((row().replace("4.0,,", "4.0,2,"),), HEADER, "head_index is a place in attention heads"),
        ((row().replace("sae_lens", "pickle"),), HEADER, "the loader is 'pickle'; write one of sae_lens, sparsify"),
        ((row().replace("something", "a, b"),), HEADER.rstrip(","), "cells under 9 columns; quote"),
        ((row(), row(coefficient=1.0)), HEADER, "latent 3 at blocks.1.hook_resid_post is there twice with add"),
    ],
)
def test_a_row_that_does_not_say_what_to_do_is_refused(tmp_path: Path, rows: Any, header: str, said: str) -> None:
    with pytest.raises(UsageError) as raised:
        resolve_defense(table(tmp_path, *rows, header=header))
    assert said in str(raised.value)


def test_what_no_defense_reads_is_an_unknown_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"unknown defense .*steer\.tsv"):
        resolve_defense(str(tmp_path / "steer.tsv"))
    with pytest.raises(UsageError, match="there is no file"):
        resolve_defense(str(tmp_path / "nothing.csv"))


def test_no_feature_and_two_saes_at_a_site_are_refused(here: tuple[Subject, Dictionary]) -> None:
    with pytest.raises(UsageError, match="has no feature"):
        fit(Steering(), here[0])
    two = Steering((Steered(tiny.SITE, 3, 1.0), Steered(tiny.SITE, 4, 1.0, sae="elsewhere")))
    with pytest.raises(UsageError, match="of two SAEs"):
        fit(two, here[0])
    assert Site.parse(tiny.SITE) == HERE

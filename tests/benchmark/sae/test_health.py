"""Two figures tell an SAE that is what it is taken for from one that is not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmark.errors import UsageError
from benchmark.sae.dictionary import Dictionary, open_dictionary
from benchmark.sae.health import Health, examined, judged, measured
from benchmark.sae.layouts.normal import Declared
from benchmark.sites import Site
from tests import tiny
from tests.benchmark.sae.writers import exact_sae
from tests.defenses.organism import organism
from tests.tasks.suite_tasks import suite_task

SITE = Site.parse(tiny.SITE)
FIT = tiny.ToyTask().examples("fit")
"""About 170 tokens."""


def exact(**changes: object) -> Dictionary:
    return Dictionary(SITE, "made up", exact_sae(**changes), torch.device("cpu"))  # type: ignore[arg-type]


def health(dictionary: Dictionary) -> Health:
    return measured(tiny.subject(), dictionary, tiny.ToyTask(), FIT)


@pytest.mark.parametrize("normalize", ["none", "layer_norm", "constant_norm_rescale"])
@pytest.mark.parametrize("centred", [False, True])
def test_an_sae_that_explains_everything_has_explained_variance_one(normalize: str, centred: bool) -> None:
    found = health(exact(normalize=normalize, centred=centred))
    assert found.explained_variance == pytest.approx(1, abs=1e-5)
    assert found.l0 == pytest.approx(tiny.D_MODEL, abs=1) and found.dead == 0


def test_one_that_gives_the_mean_explains_nothing_and_one_that_gives_twice_the_stream_less() -> None:
    sae = exact_sae()
    assert health(exact(W_dec=2 * sae.W_dec)).explained_variance < 0
    silent = health(exact(b_enc=torch.full((2 * tiny.D_MODEL,), -1e6)))
    assert silent.l0 == 0 and silent.dead == 1 and silent.explained_variance <= 0
    half = health(exact(W_dec=0.5 * sae.W_dec)).explained_variance
    assert 0 < half < 0.8, "the mean of the stream is not 0, so that half of it is worse than half"


def test_bos_is_left_out() -> None:
    """Its stream would be 1,000 times as long on a real model, and explain all of the variance."""
    subject, found = tiny.subject(), health(exact())
    lengths = [len(subject.tokenizer(e.prompt).input_ids) - 1 for e in FIT]
    assert found.tokens == sum(lengths)


SAID = Declared(l0=24.0, explained_variance=0.9)


@pytest.mark.parametrize(
    ("found", "said", "told"),
    [
        (Health(0.9, 24, 0.1, 2000), SAID, None),
        (Health(0.66, 47, 0.1, 2000), SAID, None),
        (Health(0.66, 13, 0.1, 2000), SAID, None),
        (Health(0.46, 24, 0.1, 2000), SAID, None),
        (Health(0.44, 24, 0.1, 2000), SAID, "explains less than half"),
        (Health(0.9, 49, 0.1, 2000), SAID, "off by more than a factor of two"),
        (Health(0.9, 11.9, 0.1, 2000), SAID, "off by more than a factor of two"),
        (Health(-0.01, 24, 0.1, 2000), SAID, "worse than the mean"),
        (Health(float("nan"), 24, 0.1, 2000), Declared(), "worse than the mean"),
        (Health(0.3, 24, 0.1, 2000), Declared(), None),
        (Health(0.9, 0, 1.0, 2000), Declared(), "no latent is ever active"),
        (Health(0.99, 401, 0.1, 2000), Declared(), "more than half of its 800"),
        (Health(0.99, 401, 0.1, 2000), Declared(l0=400.0), None),
    ],
)
def test_where_the_line_is(found: Health, said: Declared, told: str | None) -> None:
    errors = judged(found, said, 800).errors
    assert (not errors) if told is None else (len(errors) == 1 and told in errors[0])


def test_poor_and_undeclared_is_worth_a_note() -> None:
    assert judged(Health(0.59, 24, 0, 9), Declared(), 800).notes
    assert not judged(Health(0.61, 24, 0, 9), Declared(), 800).notes
    assert not judged(Health(0.59, 24, 0, 9), replace(SAID, explained_variance=0.6), 800).notes


def test_the_error_has_both_pairs_of_figures_and_says_what_to_check(tmp_path: Path) -> None:
    subject = tiny.subject()
    dictionary = open_dictionary(
        subject, SITE, tiny.sae_folder(tmp_path, metadata={"l0": 1, "explained_variance": 0.9})
    )
    found = health(dictionary)
    with pytest.raises(UsageError) as caught:
        examined(subject, dictionary, tiny.ToyTask(), FIT)
    for part in (f"{found.explained_variance:.3g}", "declared: 0.9", f"{found.l0:.4g}", "declared: 1"):
        assert part in str(caught.value)
    for part in ("resid_pre", "base or chat", "layout", "BOS", "scaling", "dtype"):
        assert part in str(caught.value)


def test_the_organisms_saes_pass_at_their_sites_and_not_as_another_kind() -> None:
    """The same weights without their threshold: what a reader that ignores it makes of them."""
    subject, task = organism(), suite_task("ioi")
    site = Site.parse("blocks.3.hook_resid_post")
    dictionary = open_dictionary(subject, site)
    some = task.examples("fit")[:40]
    record = examined(subject, dictionary, task, some)
    assert record["explained_variance"] > 0.9 and record["declared"]["l0"] == pytest.approx(24)
    sae = dictionary.sae
    wrong = {
        "its threshold ignored": replace(sae, architecture="standard", threshold=None),
        "its decoder three times too long": replace(sae, W_dec=3 * sae.W_dec),
    }
    for what, other in wrong.items():
        with pytest.raises(UsageError):
            examined(subject, replace(dictionary, sae=other), task, some)
            pytest.fail(what)
    with pytest.raises(UsageError, match="not healthy"):
        examined(subject, replace(dictionary, site=Site(0)), task, some)

"""Names of places in the stream: what is read is what is written, and one place has one number."""

from __future__ import annotations

import pytest

from benchmark.errors import UsageError
from benchmark.sites import Site
from tests import tiny


@pytest.mark.parametrize("layer", [0, 3, 12])
@pytest.mark.parametrize("point", ["resid_pre", "resid_post"])
def test_a_site_reads_back_as_it_prints(layer: int, point: str) -> None:
    text = f"blocks.{layer}.hook_{point}"
    assert str(Site.parse(text)) == text
    assert Site.parse(f" {text}\n") == Site.parse(text)


def test_the_output_of_a_layer_is_the_input_of_the_next() -> None:
    assert Site(3, "resid_post").boundary == Site(4, "resid_pre").boundary == 4
    assert Site(3, "resid_post").boundary != Site(3, "resid_pre").boundary


@pytest.mark.parametrize(
    "text",
    [
        "blocks.1.attn.hook_z",
        "blocks.1.hook_mlp_out",
        "blocks.1.hook_resid_mid",
        "blocks.-1.hook_resid_pre",
        "blocks.x.hook_resid_pre",
        "blocks.1.hook_resid_pre.more",
        "hook_embed",
        "",
    ],
)
def test_what_is_no_residual_stream_is_refused_with_the_form_to_write(text: str) -> None:
    with pytest.raises(ValueError, match="hook_resid_pre"):
        Site.parse(text)


@pytest.mark.parametrize("family", list(tiny.FAMILIES))
def test_every_family_has_its_layers_found_and_no_more(family: str) -> None:
    subject = tiny.bare(family)
    assert subject.n_layers == tiny.LAYERS and subject.d_model == tiny.D_MODEL
    assert subject.check(Site(tiny.LAYERS - 1)) == Site(tiny.LAYERS - 1)
    for layer in (-1, tiny.LAYERS):
        with pytest.raises(UsageError, match=f"outside {family}, which has {tiny.LAYERS} layers"):
            subject.check(Site(layer))

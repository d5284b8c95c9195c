"""Training starts well, ends at as many active latents as were asked for, and refuses what cannot be learned from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmark.errors import UsageError
from benchmark.sae.training.fit import Fit, spread
from benchmark.sae.training.settings import Settings

pytestmark = pytest.mark.filterwarnings("ignore")  # those of sae_lens, while it is imported
CPU = torch.device("cpu")
SETTINGS = Settings(width=64, k=5, visits=64 * 60, batch=64, lr=4e-3)


def activations(scale: float = 1.0, offset: float = 0.0) -> torch.Tensor:
    """Sums of a few of 40 directions (2,000, 16), far from 0 and of any size."""
    draw = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(40, 16, generator=draw), dim=1)
    weights = torch.rand(2000, 40, generator=draw) * (torch.rand(2000, 40, generator=draw) < 0.1)
    return scale * (weights @ directions + offset)


def explained(fit: Fit) -> float:
    """Explained variance of the SAE as it is, on scaled activations."""
    h = fit.tokens * fit.scale
    error = (h - fit.sae.decode(fit.sae.encode(h))).square().sum()
    return 1 - float(error / (h - h.mean(0)).square().sum())


@pytest.mark.parametrize(("scale", "offset"), [(1.0, 0.0), (300.0, 0.0), (0.01, 20.0)])
def test_the_size_of_the_stream_and_its_mean_do_not_matter(scale: float, offset: float, tmp_path: Path) -> None:
    fit = Fit(activations(scale, offset), SETTINGS, CPU)
    start = explained(fit)
    sae = fit.run(tmp_path / "none")
    error = (fit.tokens - sae.decode(sae.encode(fit.tokens))).square().sum()
    end = 1 - float(error / (fit.tokens - fit.mean).square().sum())
    assert -0.1 < start < end and end > 0.6


def test_as_they_come_from_sae_lens_the_first_reconstruction_overshoots() -> None:
    """The negative control of the good start: its encoder's scale undone, the mean left out."""
    fit = Fit(activations(offset=20.0), SETTINGS, CPU)
    with torch.no_grad():
        fit.sae.b_dec.zero_()
        fit.sae.W_enc.copy_(fit.sae.W_dec.T)
    assert explained(fit) < -1


def test_the_threshold_keeps_k_latents_active(tmp_path: Path) -> None:
    fit = Fit(activations(), SETTINGS, CPU)
    sae = fit.run(tmp_path / "none")
    h = fit.tokens
    # as sae_lens will store it: one threshold for all latents, on activations in units of the decoder's length
    pre = ((h - sae.b_dec) @ sae.W_enc + sae.b_enc) * sae.W_dec.norm(dim=1)
    active = (pre > sae.topk_threshold).float().sum(1).mean()
    assert float(active) == pytest.approx(SETTINGS.k, rel=0.1)


def test_every_pass_over_the_tokens_has_all_of_them_in_another_order() -> None:
    numbered = torch.arange(256.0)[:, None] * torch.tensor([[1.0, -1.0]])
    fit = Fit(numbered, Settings(width=8, k=2, visits=64 * 8, batch=64), CPU)
    first, second = ([fit.batch(step)[:, 0] for step in steps] for steps in (range(4), range(4, 8)))
    for whole in (torch.cat(first), torch.cat(second)):
        assert whole.sort().values.tolist() == numbered[:, 0].tolist()
    assert not torch.equal(torch.cat(first), torch.cat(second)) and torch.equal(fit.batch(2)[:, 0], first[2])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_is_given_the_batches_of_the_cpu() -> None:
    here, there = (Fit(activations(), SETTINGS, torch.device(name)) for name in ("cpu", "cuda"))
    batches = [there.batch(step) for step in range(60)]  # many under way at once
    assert all(torch.equal(here.batch(step), batch.cpu()) for step, batch in enumerate(batches))


def test_the_spread_is_about_the_mean() -> None:
    mean, scale = spread(torch.tensor([[9.0, 0.0], [11.0, 0.0]]))
    assert mean.tolist() == [10, 0] and scale == pytest.approx(2**0.5)


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (torch.randn(63, 4), "63 activations for batches of 64"),
        (torch.ones(64, 4), "everywhere the same"),
        (torch.full((64, 4), torch.inf), "not finite"),
        (torch.full((64, 4), torch.nan), "not finite"),
    ],
)
def test_what_cannot_be_learned_from_is_refused(tokens: torch.Tensor, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Fit(tokens, SETTINGS, CPU)

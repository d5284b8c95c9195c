"""Training of a tiny organism: resumable, reproducible, and its stream can be rescaled freely."""

import signal
from dataclasses import replace

import pytest
import torch
from typer.testing import CliRunner

from benchmark.model.subject import load
from tasks.organism import language_model, tokenizer
from tasks.organism.commands import app
from tasks.organism.dictionaries import built_from, hook_name, open_sae, train_saes
from tasks.organism.language_model import Micro, Trainer, group_by_length, learning_rate, train_model
from tasks.organism.model import NAME, rescale
from tasks.organism.recipe import Recipe
from tasks.organism.train import export

TINY = Recipe(
    steps=4, documents=6, d_model=16, d_mlp=32, layers=3, heads=2, warmup=2, thought_layer=2, sae_layers=(1,),
    sae_width=32, sae_k=(4,), sae_batch=64, sae_tokens=512, sae_samples=640,
)  # fmt: skip
CPU = torch.device("cpu")


def parameters(trainer: Trainer) -> torch.Tensor:
    return torch.cat([weight.detach().flatten() for weight in trainer.model.parameters()])


def test_resumed_training_equals_uninterrupted_training(tmp_path, monkeypatch):
    whole = train_model(TINY, tmp_path / "whole", CPU, progress=False)
    original = Trainer.step

    def step_then_interrupt(self: Trainer) -> float:
        loss = original(self)
        if self.progress.step == 2:
            signal.raise_signal(signal.SIGINT)
        return loss

    monkeypatch.setattr(Trainer, "step", step_then_interrupt)
    with pytest.raises(KeyboardInterrupt):
        train_model(TINY, tmp_path / "parts", CPU, progress=False)
    monkeypatch.setattr(Trainer, "step", original)
    resumed = train_model(TINY, tmp_path / "parts", CPU, progress=False)
    assert resumed.progress.step == whole.progress.step == TINY.steps
    assert resumed.progress.tokens == whole.progress.tokens
    assert torch.equal(parameters(resumed), parameters(whole))


def test_interrupt_handler_is_put_back(tmp_path):
    before = signal.getsignal(signal.SIGINT)
    train_model(replace(TINY, steps=1), tmp_path, CPU, progress=False)
    assert signal.getsignal(signal.SIGINT) is before


def test_training_lowers_the_loss(tmp_path):
    recipe = replace(TINY, steps=30, lr=1e-2)
    trainer = Trainer(recipe, CPU)
    losses = [trainer.step() for _ in range(recipe.steps)]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


def gradients(model: torch.nn.Module) -> list[float]:
    """Size of the gradient in each block."""
    found = [p.grad for name, p in model.named_parameters() if name.endswith("down_proj.weight")]
    return [0.0 if grad is None else float(grad.abs().sum()) for grad in found]


def test_thoughts_train_the_lower_blocks_and_answers_all():
    """A thought after block 1 has a gradient there and at the shared ends, and none in the blocks above it."""
    recipe = replace(TINY, thought_layer=1)
    model, ids = Trainer(recipe, CPU).model, torch.tensor([[tokenizer.BOS, 20, 30, 40]])
    nothing, thoughts = torch.zeros(1, 4), torch.tensor([[0, 0, 0, 50]])
    language_model.weighted_loss(model, Micro(ids, nothing, thoughts), recipe, CPU).backward()
    assert [size > 0 for size in gradients(model)] == [True, False, False]
    language_model.weighted_loss(model, Micro(ids, nothing + 1, 0 * thoughts), recipe, CPU).backward()
    assert all(size > 0 for size in gradients(model))


def test_heads_begin_by_looking_for_their_like():
    weights = dict(Trainer(TINY, CPU).model.named_parameters())
    attention = "model.layers.0.self_attn.{}_proj.weight"
    assert torch.equal(weights[attention.format("q")], weights[attention.format("k")])


def test_another_seed_is_another_model():
    assert not torch.equal(parameters(Trainer(TINY, CPU)), parameters(Trainer(replace(TINY, seed=1), CPU)))


def test_learning_rate_warms_up_stays_and_falls_to_zero():
    recipe = Recipe(steps=1000, warmup=100, decay=0.4, lr=1.0)
    rates = [learning_rate(recipe, step) for step in (0, 99, 500, 599, 800, 999)]
    assert rates == pytest.approx([0.01, 1, 1, 1, 0.5, 0.0025])


def test_groups_cover_all_rows_and_save_padding():
    lengths = sorted([30] * 40 + [45] * 20 + [90] * 6)
    sizes = group_by_length(lengths)
    assert sum(sizes) == len(lengths)
    start, padded = 0, 0
    for size in sizes:
        padded += size * lengths[start + size - 1]
        start += size
    assert padded + len(sizes) * language_model._OVERHEAD < len(lengths) * 90 + language_model._OVERHEAD


def test_rescaling_the_stream_leaves_the_logits():
    model = Trainer(TINY, CPU).model.eval()
    with torch.no_grad():
        for weight in model.parameters():  # weights of trained size, so that the norms' epsilon does not matter
            weight.add_(0.3 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(weight.numel())))
        ids = torch.tensor([[tokenizer.BOS, 20, 30, 40]])
        before, stream = model(ids).logits, model.model.embed_tokens(ids)
        rescale(model, 8.0)
        torch.testing.assert_close(model(ids).logits, before, rtol=1e-4, atol=5e-4)
        torch.testing.assert_close(model.model.embed_tokens(ids), 8 * stream)


@pytest.mark.filterwarnings("ignore")
def test_export_and_saes_of_a_tiny_model(tmp_path):
    model = Trainer(TINY, CPU).model
    export(model, TINY, tmp_path / "model")
    shipped = load(tmp_path / "model", name=NAME, device="cpu")
    train_saes(shipped, TINY, tmp_path / "saes", tmp_path / "work", "abc", progress=False)
    folder = tmp_path / "saes" / hook_name(1)
    first = (folder / "sae_weights.safetensors").read_bytes()
    assert built_from(folder) == "abc" and open_sae(shipped, tmp_path / "saes", 1).width == TINY.sae_width
    train_saes(shipped, TINY, tmp_path / "saes", tmp_path / "work", "other", progress=False)
    assert built_from(folder) == "other"
    assert (folder / "sae_weights.safetensors").read_bytes() == first


def test_the_command_hands_its_options_on(tmp_path, monkeypatch):
    asked = {}
    monkeypatch.setattr("tasks.organism.train.train", lambda folder, **options: asked.update(options, folder=folder))
    for device, given in (("auto", None), ("cpu", "cpu")):
        options = ["train", "--output-dir", str(tmp_path), "--steps", "7", "--device", device]
        assert CliRunner().invoke(app, options).exit_code == 0
        assert asked == {"folder": tmp_path, "seed": 0, "steps": 7, "device": given}
    assert CliRunner().invoke(app, ["train", "--steps", "0", "-o", str(tmp_path)]).exit_code == 2

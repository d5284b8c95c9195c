"""A world small enough to test the engine on: a random two-choice task, random models of every family, a random SAE."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import load, load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from benchmark.contracts.defense import Where
from benchmark.contracts.example import Example, Split
from benchmark.contracts.readout import Criteria, Encoded, Verdict, choice_margin
from benchmark.contracts.task import Task
from benchmark.model.edits import Passage, is_special, passing
from benchmark.model.pack import Pack
from benchmark.model.subject import Subject
from benchmark.readouts.choices import Choices, TokenReader
from benchmark.readouts.continuation import Continuation
from benchmark.run.task_view import TaskView
from benchmark.sites import Site

D_MODEL, LAYERS, VOCABULARY = 32, 4, 60
SITE = "blocks.1.hook_resid_post"
_IDS: dict[str, Any] = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
_SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": D_MODEL,
    "intermediate_size": 64,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    **_IDS,
}
_GROUPED: dict[str, Any] = {**_SIZES, "num_key_value_heads": 2}
FAMILIES: dict[str, Any] = {
    "gpt2": lambda: GPT2LMHeadModel(
        GPT2Config(vocab_size=VOCABULARY, n_embd=D_MODEL, n_layer=LAYERS, n_head=4, n_positions=64, **_IDS)
    ),
    "neox": lambda: GPTNeoXForCausalLM(GPTNeoXConfig(**_SIZES)),
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**_GROUPED)),
    "mistral": lambda: MistralForCausalLM(MistralConfig(**_GROUPED, sliding_window=6)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**_GROUPED)),
    "gemma2": lambda: Gemma2ForCausalLM(Gemma2Config(**_GROUPED, head_dim=8, sliding_window=6)),
}


def model(family: str = "llama", seed: int = 0) -> Any:
    """A random model whose layers matter: large weights, norms that are not the identity."""
    torch.manual_seed(seed)
    made = FAMILIES[family]()
    for parameter in made.parameters():
        if parameter.dim() > 1:
            parameter.data.normal_(0, 0.3)
        else:
            parameter.data.add_(0.1 * torch.randn_like(parameter))
    return made


def tokenizer() -> PreTrainedTokenizerFast:
    """One token a word: w3 .. w59; puts <bos> in front."""
    vocabulary = {
        "<pad>": 0,
        "<bos>": 1,
        "<eos>": 2,
        **{f"w{i}": i for i in range(3, VOCABULARY - 1)},
        "<unk>": VOCABULARY - 1,
    }
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # type: ignore[assignment]
    made.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 1)])  # type: ignore[assignment]
    return PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>", unk_token="<unk>"
    )


class ToyTask(Task):
    """Does a random model prefer the first of three random words? About half of the examples show the behavior."""

    name = "toy"
    readout = Choices()
    sizes: dict[Split, int] = {"fit": 24, "dev": 6, "test": 24}

    def examples(self, split: Split) -> Sequence[Example]:
        generator = torch.Generator().manual_seed({"fit": 0, "dev": 1, "test": 2}[split])
        return [self._example(split, i, generator) for i in range(self.sizes[split])]

    def _example(self, split: Split, number: int, generator: torch.Generator) -> Example:
        length = 6 + number % 3
        words = [f"w{int(i)}" for i in torch.randint(3, 50, (length,), generator=generator)]
        choices = tuple(f"w{int(i)}" for i in 50 + torch.randperm(8, generator=generator)[:3])
        return Example(f"toy/{split}/{number:03d}", f"cluster {number // 2}", " ".join(words), choices, 0, (2, 1))

    def verdict(self, read: torch.Tensor, criteria: Criteria) -> Verdict:
        margin = choice_margin(read, criteria.target)
        return Verdict(["yes" if m > 0 else "no" for m in margin.tolist()], margin)

    def retain(self, split: Split) -> Sequence[Example]:
        return self.examples(split)[:4]


class Numbers(Continuation):
    """A continuation of prompts that are token ids."""

    def encode(self, tokenizer: Any, example: Example) -> Encoded:
        return Encoded((1, int(example.prompt), 9, 10), 3, (), 4)


class ToyChat(Task):
    """A task of the tiny model whose answers are what it writes."""

    name = "chat"
    readout = Numbers(tokens=6, forced=4)

    def examples(self, split: Split) -> Sequence[Example]:
        first = {"fit": 5, "dev": 20, "test": 30}[split]
        return [Example(f"{split}/{i}", str(i), f"{first + i}") for i in range(8)]

    def verdict(self, read: Any, criteria: Criteria) -> Verdict:
        same = [float(t.text == r) - 0.5 for t, r in zip(read, criteria.reference, strict=True)]
        return Verdict(["same" if s > 0 else "other" for s in same], torch.tensor(same))

    def retain(self, split: Split) -> Sequence[Example]:
        return self.examples(split)[:5]


def subject(family: str = "llama", saes: dict[str, str] | None = None, seed: int = 0) -> Subject:
    """A tiny subject named ``tiny``."""
    return Subject(model(family, seed), tokenizer(), "tiny", saes=saes or {})


def viewed(task: Task | None = None) -> TaskView:
    """A task (the toy one) as a run sees it."""
    task = task or ToyTask()
    return TaskView(task, task.name)


def bare(family: str) -> Subject:
    """A subject without a tokenizer, for passes over token ids."""
    return Subject(model(family), SimpleNamespace(bos_token_id=1, pad_token_id=0), family)


def pack(subject: Subject, rows: int = 3, length: int = 12, suffix_at: int | None = None) -> Pack:
    """Random token ids behind a BOS, read at the last position; three choices a row."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(3, VOCABULARY, (rows, length), generator=generator)
    ids[:, 0] = 1
    choices = torch.randint(3, VOCABULARY, (rows, 3), generator=generator).to(subject.device)
    ids = ids.to(subject.device)
    index = torch.arange(length, device=subject.device)
    where = Where(index, is_special(subject, ids), torch.zeros_like(ids, dtype=torch.bool))
    examples = tuple(Example(f"pack/{i}", f"cluster {i}", "") for i in range(rows))
    return Pack(examples, ids, TokenReader(choices), length - 1, length if suffix_at is None else suffix_at, where)


def sae_folder(
    folder: Path, architecture: str = "jumprelu", d_sae: int = 64, d_in: int = D_MODEL, seed: int = 0, **config: Any
) -> str:
    """A random SAE in sae_lens format; returns the folder as text."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int, scale: float = 1.0) -> torch.Tensor:
        return scale * torch.randn(*shape, generator=generator)

    decoder = torch.nn.functional.normalize(random(d_sae, d_in), dim=1)
    tensors = {
        "W_enc": decoder.T.contiguous() + random(d_in, d_sae, scale=0.1),
        "W_dec": decoder,
        "b_dec": random(d_in),
    }
    if architecture == "gated":
        tensors |= {
            "b_gate": random(d_sae, scale=0.1),
            "b_mag": random(d_sae, scale=0.1),
            "r_mag": random(d_sae, scale=0.1),
        }
    else:
        tensors["b_enc"] = random(d_sae, scale=0.1)
    if architecture == "jumprelu":
        tensors["threshold"] = random(d_sae).abs() * 0.3
    metadata = {"model_name": "tiny", "hook_name": SITE, "sae_lens_version": "6.54.0", **config.pop("metadata", {})}
    written = {
        "d_in": d_in,
        "d_sae": d_sae,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "architecture": architecture,
        "metadata": metadata,
        **({"k": 8} if architecture == "topk" else {}),
        **config,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cfg.json").write_text(json.dumps(written))
    save_file(tensors, folder / "sae_weights.safetensors")
    return str(folder)


def exact_sae_folder(folder: Path, seed: int = 0, **config: Any) -> str:
    """An SAE that explains everything: its latents are [R, -R] of an orthonormal R, its decoder the transpose."""
    path = Path(sae_folder(folder, "standard", 2 * D_MODEL, seed=seed, **config))
    drawn = torch.randn(D_MODEL, D_MODEL, generator=torch.Generator().manual_seed(seed))
    basis = torch.linalg.qr(drawn)[0]
    encoder = torch.cat([basis, -basis], 1)
    zeros = {"b_enc": torch.zeros(2 * D_MODEL), "b_dec": torch.zeros(D_MODEL)}
    tensors = {"W_enc": encoder, "W_dec": encoder.T.contiguous(), **zeros}
    save_file(tensors, path / "sae_weights.safetensors")
    return str(path)


def fitted_sae_folder(folder: Path, seed: int = 0) -> str:
    """An SAE whose latents are random, as ``sae_folder``'s, and whose decoder makes the best of them on the stream."""
    path = Path(sae_folder(folder, seed=seed))
    weights = path / "sae_weights.safetensors"
    save_file({**load_file(weights), "W_dec": _best_decoder(weights.read_bytes())}, weights)
    return str(path)


@cache
@torch.no_grad()
def _best_decoder(weights: bytes) -> torch.Tensor:
    """Least squares on the tiny model's stream: once a process, since solved again it differs in the last bits."""
    tensors, made, site = load(weights), subject(), Site.parse(SITE)
    ids = torch.randint(0, made.model.config.vocab_size, (256, 8), generator=torch.Generator().manual_seed(0))
    passage = Passage({}, observe=frozenset({site.boundary}))
    with passing(made, passage):
        made.model(input_ids=ids)
    h = passage.seen[site.boundary][:, 1:].flatten(0, 1)
    act = ((h - tensors["b_dec"]) @ tensors["W_enc"] + tensors["b_enc"]).relu()
    return torch.linalg.lstsq(act, h - tensors["b_dec"]).solution.contiguous()


def suite_file(folder: Path, **changes: Any) -> Path:
    """A suite of the toy task on a tiny model saved under ``folder``, with an SAE that explains its stream."""
    import yaml

    made = subject()
    made.model.save_pretrained(folder / "model")
    made.tokenizer.save_pretrained(folder / "model")
    fitted_sae_folder(folder / "sae", seed=1)  # at 0 and 3 a row stands on an edge
    content = {
        "name": "toy",
        "model": {"source": "model", "name": "tiny"},
        "saes": {SITE: "sae"},
        "tasks": {
            "toy": {
                "site": SITE,
                "budgets": {
                    "before_edit": [0.05, 0.1, 0.3],
                    "after_edit": [0.05, 0.1, 0.3],
                    "soft_suffix": [0.3, 1.0],
                    "token_suffix": [1, 2],
                },
                "suffix_tokens": 2,
            }
        },
        "attacks": [
            {"attack": "recovery", "threat_model": "before_edit", "search": {"steps": 5}},
            {"attack": "recovery", "threat_model": "after_edit", "constraint": "encoder", "search": {"steps": 5}},
            {"attack": "soft-suffix", "search": {"steps": 5}},
            {"attack": "gcg", "steps": 2, "candidates": 8},
        ],
        "controls": {"undefended": "none", "attack": "zero"},
        **changes,
    }
    path = folder / "toy.yaml"
    path.write_text(yaml.safe_dump(content))
    return path

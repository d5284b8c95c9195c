"""Random models of public families, with tokenizers of their kind, saved as their owners publish them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from tasks.english.source import records

WIDTH = 80
"""d_model, so that an SAE of twice as many latents has 80 active ones: near what the releases declare."""
GPT2_WIDTH = 48
VOCABULARY = 700
GEMMA_TURNS = (
    "{{ bos_token }}{% for message in messages %}<start_of_turn>"
    "{{ 'model' if message['role'] == 'assistant' else message['role'] }}\n{{ message['content'] | trim }}"
    "<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
"""As Gemma's template writes a conversation."""


def texts() -> list[str]:
    """What tokenizers are trained on: the words of the suites' prompts."""
    people = [str(r["prompt"]) + f" {r['receiver']} {r['giver']}" for r in records("people")]
    facts = [
        " ".join([str(r["question"]), *map(str, r["choices"])]) for i in ("chemistry", "general") for r in records(i)
    ]
    return [*people, *facts, *["Answer: A Answer: B Answer: C Answer: D I"] * 50]


def saved(folder: Path, model: Any, tokenizer: Any) -> Path:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def gpt2(layers: int) -> tuple[Any, Any]:
    tokenizer = _byte_level("<|endoftext|>", front=False)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_embd=GPT2_WIDTH, n_layer=layers, n_head=4, n_positions=256, **_ids(tokenizer)
    )
    return _random(lambda: GPT2LMHeadModel(config), 0), tokenizer


def gemma2(layers: int, chat: bool, seed: int) -> tuple[Any, Any]:
    """With soft-capped attention, which other implementations than eager leave out."""
    tokenizer = _sentence_piece(GEMMA_TURNS if chat else None)
    sizes = _sizes(tokenizer, layers)
    made: Any = Gemma2Config
    config = made(**sizes, head_dim=16, sliding_window=64, query_pre_attn_scalar=16, attn_implementation="eager")
    return _random(lambda: Gemma2ForCausalLM(config), seed), tokenizer


def gemma3(layers: int) -> tuple[Any, Any]:
    tokenizer = _sentence_piece(GEMMA_TURNS)
    config = Gemma3TextConfig(**_sizes(tokenizer, layers), head_dim=16, sliding_window=64, query_pre_attn_scalar=16)
    return _random(lambda: Gemma3ForCausalLM(config), 2), tokenizer


def llama(layers: int) -> tuple[Any, Any]:
    tokenizer = _byte_level("<|begin_of_text|>", front=True)
    return _random(lambda: LlamaForCausalLM(LlamaConfig(**_sizes(tokenizer, layers))), 3), tokenizer


def qwen3(layers: int) -> tuple[Any, Any]:
    """Its tokenizer has no BOS."""
    tokenizer = _byte_level(None, front=False)
    return _random(lambda: Qwen3ForCausalLM(Qwen3Config(**_sizes(tokenizer, layers), head_dim=16)), 4), tokenizer


def _random(make: Callable[[], Any], seed: int) -> Any:
    """Large weights, so that every word of a prompt matters, and norms that are not the identity."""
    torch.manual_seed(seed)
    model = make()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data.normal_(0, 0.3)
        else:
            parameter.data.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def _sizes(tokenizer: Any, layers: int) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        **_ids(tokenizer),
    }


def _ids(tokenizer: Any) -> dict[str, Any]:
    return {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}


def _byte_level(bos: str | None, *, front: bool) -> Any:
    """As GPT-2, Llama 3 and Qwen have it; ``front``: it puts BOS before a text."""
    end = bos or "<|endoftext|>"
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    made.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    _train(made, [end], pre_tokenizers.ByteLevel.alphabet())
    if front:
        _put_before(made, end)
    else:
        made.post_processor = processors.ByteLevel(trim_offsets=False)  # type: ignore[assignment]
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token=bos, eos_token=end, pad_token=end)


def _sentence_piece(template: str | None) -> Any:
    """As Gemma has it: spaces are a character of the words, bytes for what it does not know, BOS before a text."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"]
    made = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    made.normalizer = normalizers.Replace(" ", "\u2581")  # type: ignore[assignment]
    made.pre_tokenizer = pre_tokenizers.Split("\u2581", "merged_with_next")  # type: ignore[assignment]
    made.decoder = decoders.Sequence(  # type: ignore[assignment]
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    _train(made, [*special, *(f"<0x{i:02X}>" for i in range(256))], [])
    _put_before(made, "<bos>")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>", unk_token="<unk>"
    )
    tokenizer.add_special_tokens({"additional_special_tokens": special[-2:]})
    tokenizer.chat_template = template
    return tokenizer


def _train(tokenizer: Tokenizer, special: list[str], alphabet: Iterable[str]) -> None:
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY + len(special),
        special_tokens=special,
        initial_alphabet=list(alphabet),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts(), trainer)


def _put_before(tokenizer: Tokenizer, bos: str) -> None:
    tokenizer.post_processor = processors.TemplateProcessing(  # type: ignore[assignment]
        single=f"{bos} $A", special_tokens=[(bos, tokenizer.token_to_id(bos))]
    )

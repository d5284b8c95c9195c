"""A tiny Llama as a GGUF file, its tokenizer in it, and a wheel that holds such a file."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFWriter
from transformers import LlamaConfig, LlamaForCausalLM

WORDS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *"abcdefghij", "Ġ", "Ġa", "Ġb", "Ġc"]
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m['content'] }}<|im_end|>{% endfor %}"
_NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
HEADS = 2


def llama() -> Any:
    """A random model of one layer whose words are ``WORDS``."""
    import torch

    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "vocab_size": len(WORDS),
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 1,
        "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS,
        "max_position_embeddings": 32,
        "tie_word_embeddings": True,
    }
    return LlamaForCausalLM(LlamaConfig(**sizes)).eval()


def gguf_file(path: Path, model: Any, *, licence: str = "mit", add_bos: bool = False) -> Path:
    """The model as llama.cpp would write it."""
    writer = GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_license(licence)
    config = model.config
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(WORDS)
    writer.add_token_types([3, 3, 3] + [1] * (len(WORDS) - 3))
    writer.add_token_merges(["Ġ a", "Ġ b", "Ġ c"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(add_bos)
    writer.add_chat_template(TEMPLATE)
    for name, tensor in model.state_dict().items():
        if name != "lm_head.weight":
            writer.add_tensor(_called(name), _stored(name, tensor.numpy()))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _called(name: str) -> str:
    if not name.startswith("model.layers."):
        return {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}[name]
    _, _, layer, inner = name.split(".", 3)
    return f"blk.{layer}.{_NAMES[inner.removesuffix('.weight')]}.weight"


def _stored(name: str, tensor: np.ndarray) -> np.ndarray:
    """Queries and keys have the two halves of each head interleaved in this format."""
    if "q_proj" not in name and "k_proj" not in name:
        return tensor
    rows, columns = tensor.shape
    return tensor.reshape(HEADS, 2, rows // HEADS // 2, columns).swapaxes(1, 2).reshape(rows, columns).copy()


def wheel(folder: Path, name: str, files: dict[str, bytes], licence: str = "MIT") -> str:
    """A wheel without code in ``folder``; gives its SHA-256."""
    module = name.replace("-", "_")
    path, info = folder / f"{module}-1.0-py3-none-any.whl", f"{module}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as made:
        for file, content in files.items():
            made.writestr(f"{module}/{file}", content)
        needs = "Requires-Dist: a-package-that-nobody-has"
        made.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\nLicense: {licence}\n{needs}\n"
        )
        made.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        made.writestr(f"{info}/RECORD", "")
    return hashlib.sha256(path.read_bytes()).hexdigest()

"""A cache of the Hugging Face hub, filled by hand: what the suites of public models name, as random stand-ins.

A random model knows nothing. So that some of its answers are right, what is right is decided by it: of questions, the
choice that it gives whatever its letter is the answer.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import torch

from benchmark.hub import HubSource, parse_hub
from benchmark.sae.layouts.normal import Sae
from benchmark.suite_file import load_suite
from tests.benchmark.sae.writers import exact_sae, write
from tests.tasks.suites import models

Row = Mapping[str, Any]
WMDP = "0" * 39 + "1"
ALPACA = "0" * 39 + "2"
BIOS = "0" * 39 + "3"
AMAZON = "0" * 39 + "4"
HARMBENCH = "0" * 39 + "5"
"""Commits that a user would write: these data sets have none in their suites."""
JB, SCOPE_2 = "1" * 40, "2" * 40
"""What the main branches of SAEs without a commit are."""
RENAMED = (
    "hook_name", "hook_layer", "architecture", "activation_fn_str", "activation_fn_kwargs", "apply_b_dec_to_input",
    "normalize_activations", "finetuning_scaling_factor", "hook_head_index",
)  # fmt: skip
"""Keys that the first version of sae_lens had not, or had under another name."""
SUBJECTS = ("high_school_us_history", "human_aging", "astronomy")
WORDS = tuple(
    """river stone cloud garden letter window music winter bridge candle forest mirror silver ocean paper summer village
    engine island shadow market castle ribbon valley lantern harbor thunder meadow copper feather""".split()
)


def fill(cache: Path) -> None:
    """Lay everything out under ``cache``."""
    suites = {name: load_suite(name) for name in ("ioi-gpt2", "wmdp-bio", "tpp-bios", "gemma3-270m")}
    made = {
        "ioi-gpt2": models.gpt2(6),
        "wmdp-bio": models.gemma2(16, chat=True, seed=32),
        "tpp-bios": models.gemma2(7, chat=False, seed=5),
        "gemma3-270m": models.gemma3(13),
    }
    for name, (model, tokenizer) in made.items():
        models.saved(_snapshot(cache, parse_hub(suites[name].model.source)), model, tokenizer)
    _saes(cache)
    _data(cache, *made["wmdp-bio"])


# --- SAEs


def _saes(cache: Path) -> None:
    write(
        "sae_lens_5",
        _main(cache, "jbloom/GPT2-Small-SAEs-Reformatted", JB) / "blocks.4.hook_resid_pre",
        _sae(models.GPT2_WIDTH),
    )
    _as_old(_main(cache, "jbloom/GPT2-Small-SAEs-Reformatted", JB) / "blocks.4.hook_resid_pre" / "cfg.json")
    _scope_2(_main(cache, "google/gemma-scope-2-270m-it", SCOPE_2) / "resid_post/layer_12_width_16k_l0_medium")
    from benchmark.spec import resolve_defense

    published: Any = resolve_defense(str(load_suite("wmdp-bio").defense)).defense
    (layer,) = published.layers
    for name in ("wmdp-bio", "refusal-advbench", "tpp-bios"):
        ((source,),) = load_suite(name).saes.values()
        place = parse_hub(source)
        sae = _sae(models.WIDTH, threshold=True)
        if name == "wmdp-bio":
            sae = spread(sae, 16384, layer.latents)
        if name == "tpp-bios":
            sae = spread(sae, 1024, ())
        write("gemma_scope", _snapshot(cache, place) / place.path, sae)


def _sae(width: int, *, threshold: bool = False) -> Sae:
    sae = exact_sae(width)
    return replace(sae, architecture="jumprelu", threshold=torch.zeros(2 * width)) if threshold else sae


def spread(sae: Sae, width: int, at: Sequence[int]) -> Sae:
    """The same function with ``width`` latents, its own first ones at the places ``at``; the rest never fires."""
    free = (i for i in range(width) if i not in set(at))
    places = torch.tensor([*at, *(next(free) for _ in range(sae.width - len(at)))][: sae.width])
    encoder, decoder = torch.zeros(sae.d_model, width), torch.zeros(width, sae.d_model)
    encoder[:, places], decoder[places] = sae.W_enc, sae.W_dec
    return replace(sae, W_enc=encoder, W_dec=decoder, b_enc=torch.zeros(width), threshold=torch.zeros(width))


def _as_old(config: Path) -> None:
    """The configuration under the names of the first version, as this release has it."""
    content = json.loads(config.read_text())
    for name in RENAMED:
        del content[name]
    about = {"model_name": "gpt2-small", "hook_point": "blocks.4.hook_resid_pre", "hook_point_layer": 4}
    config.write_text(json.dumps({**content, **about, "hook_point_head_index": None, "prepend_bos": True}))


def _scope_2(folder: Path) -> None:
    hook = "model.layers.12.output"
    sae = _sae(models.WIDTH, threshold=True)
    write("gemma_scope_2", folder, sae, hf_hook_point_in=hook, hf_hook_point_out=hook, l0=60)


# --- data


def _data(cache: Path, model: Any, tokenizer: Any) -> None:
    asked = known_questions(model, tokenizer, 14)
    others = known_questions(model, tokenizer, 18, seed=1)
    subjects = [{**row, "subject": SUBJECTS[i % 3], "answer": "AB"[row["answer"]]} for i, row in enumerate(others)]
    _set(cache, f"hub:cais/wmdp@{WMDP}", {"wmdp-bio": {"test": asked}})
    mmlu = load_suite("wmdp-bio").tasks["wmdp"].settings["retain_data"]["source"].removesuffix(":all:test")
    _set(cache, mmlu, {"all": {"test": subjects, "validation": subjects[:1]}})
    advbench = load_suite("refusal-advbench").tasks["refusal"].settings["data"]["source"]
    _set(
        cache,
        advbench,
        {"default": {"train": [{"prompt": p, "target": f"Sure, {p}"} for p in requests("Describe", 24)]}},
    )
    behaviors = [{"prompt": p, "category": "other"} for p in requests("Explain", 24)]
    _set(cache, f"hub:walledai/HarmBench@{HARMBENCH}", {"standard": {"train": behaviors}})
    harmless = [
        {"instruction": p, "input": "x" * (i % 4 == 0), "output": ""} for i, p in enumerate(requests("Draw", 24))
    ]
    _set(cache, f"hub:tatsu-lab/alpaca@{ALPACA}", {"default": {"train": harmless}})
    bios = [{"hard_text": text, "profession": label, "gender": 0} for text, label in labelled((0, 1, 2, 6, 9))]
    _set(cache, f"hub:LabHC/bias_in_bios_class_set1@{BIOS}", {"default": {"train": bios[:120], "test": bios[120:]}})
    reviews = [{"text": text, "category": label, "rating": 5.0} for text, label in labelled((0, 1, 2, 3, 5, 6))]
    _set(
        cache,
        f"hub:canrager/amazon_reviews_mcauley_1and5@{AMAZON}",
        {"default": {"train": reviews[:120], "test": reviews[120:]}},
    )


def requests(verb: str, count: int) -> list[str]:
    """Harmless sentences in the place of requests."""
    drawn = random.Random(verb)
    return [f"{verb} how the {a} and the {b} {c}" for a, b, c in (drawn.sample(WORDS, 3) for _ in range(count))]


def labelled(labels: Sequence[int], each: int = 40) -> list[tuple[str, int]]:
    """Texts of ten words, half of them particular to the label."""
    drawn, found = random.Random("labelled"), []
    for number, label in product(range(each), labels):
        own = drawn.choices(WORDS[4 * (label % 7) : 4 * (label % 7) + 4], k=5)
        found.append((" ".join(["the", *drawn.sample([*own, *drawn.choices(WORDS, k=4)], 9), f"{number}"]), label))
    return found


def known_questions(model: Any, tokenizer: Any, count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Questions with two choices, of which the model says one in either order (published ones have four, in 24)."""
    drawn, found = random.Random(seed), list[dict[str, Any]]()
    letters = [tokenizer(f" {c}", add_special_tokens=False)["input_ids"][0] for c in "AB"]
    while len(found) < count:
        asked = [drawn.sample(WORDS, 4) for _ in range(64)]
        said = {order: _said(model, tokenizer, letters, [_put(q, order) for q in asked]) for order in (0, 1)}
        for words, first, second in zip(asked, said[0], said[1], strict=True):
            if first != second and len(found) < count:  # another letter in the other order: the same choice
                found.append({"question": _question(words), "choices": words[2:], "answer": first})
    return found


def _question(words: Sequence[str]) -> str:
    return f"Which of these is near the {words[0]} and the {words[1]}?"


def _put(words: Sequence[str], order: int) -> str:
    first, second = words[2:] if order == 0 else reversed(words[2:])
    return f"{_question(words)}\n\nA. {first}\nB. {second}\n\nAnswer:"


@torch.no_grad()
def _said(model: Any, tokenizer: Any, letters: Sequence[int], prompts: Sequence[str]) -> list[int]:
    """The letter that the model prefers behind each prompt: prompts of one length at a time."""
    ids, found = [tokenizer(p)["input_ids"] for p in prompts], [0] * len(prompts)
    for length in {len(i) for i in ids}:
        rows = [n for n, i in enumerate(ids) if len(i) == length]
        logits = model(input_ids=torch.tensor([ids[n] for n in rows])).logits[:, -1, list(letters)]
        for n, best in zip(rows, logits.argmax(1).tolist(), strict=True):
            found[n] = best
    return found


def _set(cache: Path, source: str, configs: Mapping[str, Mapping[str, Sequence[Row]]]) -> None:
    """A data set with a card that says which files are which, one Parquet file a split."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder, card = _snapshot(cache, parse_hub(source), "datasets"), ["---", "configs:"]
    for config, splits in configs.items():
        card += [f"- config_name: {config}", "  data_files:"]
        for split, rows in splits.items():
            file = f"{config}/{split}-00000-of-00001.parquet"
            (folder / config).mkdir(exist_ok=True)
            pq.write_table(pa.Table.from_pylist([dict(row) for row in rows]), folder / file)
            card += [f"  - split: {split}", f"    path: {file}"]
    (folder / "README.md").write_text("\n".join([*card, "---", ""]))


def _snapshot(cache: Path, source: HubSource, kind: str = "models") -> Path:
    assert source.revision is not None
    folder = cache / f"{kind}--{source.repo.replace('/', '--')}" / "snapshots" / source.revision
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _main(cache: Path, repo: str, commit: str) -> Path:
    """The snapshot of a repository's main branch."""
    folder = _snapshot(cache, HubSource(repo, commit, ""))
    refs = folder.parent.parent / "refs"
    refs.mkdir(exist_ok=True)
    (refs / "main").write_text(commit)
    return folder

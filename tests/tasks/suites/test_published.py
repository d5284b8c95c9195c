"""The suites of the published settings, as they ship, end to end on random stand-ins in the public layouts.

Steering ceilings are given and not measured: a random model's say nothing, and measuring them has tests of its own.
"""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from benchmark import evaluate
from benchmark.errors import UsageError
from benchmark.model.pack import encode
from benchmark.run import freeze
from benchmark.run.prepare import load_subject, view
from benchmark.sae.dictionary import open_dictionary
from benchmark.sites import Site
from benchmark.suite import Suite
from benchmark.suite_file import load_suite
from tests.benchmark.sae.writers import exact_sae, write
from tests.tasks.suites import hub, models

BRIEF = f"{Path(__file__).parent / 'brief.py'}:Brief"
CLAMP = {"count": 12, "strength": 12.0, "rate_ratio": 0.0, "contrast": 0.0}
"""Hard, and of any latents: those of a random model serve everything."""
FEW: dict[str, Any] = {"data": {"limit": 60}, "retain_data": {"limit": 60}}
DRIVEN = {"count": 12, "strength": 3.0}
"""Up, where the model is to refuse."""
SHORT: dict[str, Any] = {"tokens": 6, "forced": 3, "data": {"limit": 24}, "retain_data": {"limit": 12}}
WMDP = f"hub:cais/wmdp@{hub.WMDP}:wmdp-bio:test"
ALPACA = f"hub:tatsu-lab/alpaca@{hub.ALPACA}"
CASES: dict[str, dict[str, Any]] = {
    "ioi-gpt2": {"task_settings": {**FEW, "data": {"limit": 240}}, "options": CLAMP, "limit": 96},
    "wmdp-bio": {"data": WMDP, "options": CLAMP, "limit": 24},
    "refusal-advbench": {
        "retain_data": ALPACA,
        "task_settings": SHORT,
        "options": DRIVEN,
        "limit": 6,
    },
    "refusal-harmbench": {
        "data": f"hub:walledai/HarmBench@{hub.HARMBENCH}:standard",
        "retain_data": ALPACA,
        "task_settings": SHORT,
        "options": DRIVEN,
        "limit": 6,
    },
    "tpp-bios": {"data": f"hub:LabHC/bias_in_bios_class_set1@{hub.BIOS}", "tasks": ["dentist"]},
    "tpp-amazon": {
        "data": f"hub:canrager/amazon_reviews_mcauley_1and5@{hub.AMAZON}",
        "tasks": ["Electronics"],
        "options": CLAMP,
    },
    "gemma3-270m": {"tasks": ["ioi"], "task_settings": FEW, "options": {**CLAMP, "count": 40}, "limit": 24},
}
"""Suite -> what is given beside it: commits that it cannot name, and what makes it short."""
ACTIVE = {"ioi-gpt2": (48, 31), "gemma3-270m": (80, 60), "wmdp-bio": (80, 59), "tpp-bios": (80, 68)}
"""Suite -> active latents of the stand-in, and what the release declares."""


@pytest.fixture
def _ceilings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(freeze, "_ceiling", lambda *_: 0.2016)
    monkeypatch.setattr(freeze, "_steered", lambda *_: {})


@pytest.mark.usefixtures("_ceilings")
@pytest.mark.parametrize("name", list(CASES))
def test_a_suite_runs_as_it_ships(name: str, tmp_path: Path) -> None:
    given = {"attacks": [BRIEF], "limit": 4, "controls": False, **CASES[name]}
    result = evaluate(suite=name, device="cpu", output_dir=tmp_path / "out", **given)
    assert result.status == "complete", result.failures
    suite, header = load_suite(name), json.loads((result.directory / "run.json").read_text())
    rows = result.to_pandas()
    mine = rows[~rows.sanity & (rows.attack == "brief") & (rows.split == "test")]
    for task in given.get("tasks", suite.tasks):
        own = mine[mine.task == task]
        assert own.eligible.any() and own.suppressed.any(), task
        assert own[own.suppressed].recovered.notna().all() and own[~own.suppressed].recovered.isna().all()
        (seen,) = header["tasks"][task]["saes"]
        assert (seen["site"], seen["source"]) == (suite.tasks[task].site, *suite.saes[seen["site"]])
        assert seen["explained_variance"] == pytest.approx(1, abs=1e-3)
        if name in ACTIVE:
            assert (round(seen["l0"]), seen["declared"]["l0"]) == ACTIVE[name]


@pytest.mark.parametrize(("name", "flag"), [("wmdp-bio", "cais/wmdp"), ("refusal-advbench", "tatsu-lab/alpaca")])
def test_data_without_a_commit_is_refused_with_what_to_write(name: str, flag: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"{flag}.* is not pinned: .*@COMMIT .*: --data, --retain-data"):
        evaluate(suite=name, device="cpu", output_dir=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", list(CASES))
def test_models_are_pinned_and_what_is_not_pinned_is_said_in_the_file(name: str) -> None:
    suite, text = load_suite(name), _path(name).read_text()
    assert len(suite.model.source.partition("@")[2]) == 40
    sources = [s for (s,) in suite.saes.values()]
    sources += [d["source"] for t in suite.tasks.values() for n, d in t.settings.items() if n.endswith("data")]
    loose = [s for s in sources if "@" not in s and not s.startswith("english:")]
    assert bool(loose) == ("not pinned" in text) and all(
        s.count("@") == 1 for s in set(sources) - set(loose) if "@" in s
    )
    assert bool(loose) == ("@COMMIT" in text), "and how to pin it"


def _path(name: str) -> Path:
    from benchmark.suite_file import suite_path

    return suite_path(name)


# --- conventions


def test_the_sae_of_gpt2_sees_the_centred_stream_behind_bos(cached: Path) -> None:
    suite = load_suite("ioi-gpt2")
    subject, site = load_subject(suite, "cpu", "float32"), Site.parse("blocks.4.hook_resid_pre")
    dictionary = open_dictionary(subject, site)
    assert dictionary.sae.centred and dictionary.sae.declared.prepend_bos and dictionary.site.boundary == 4
    h = torch.randn(5, models.GPT2_WIDTH)
    acts = dictionary.everything.encode(h).act
    assert torch.allclose(dictionary.everything.encode(h + 3).act, acts, atol=1e-4)
    (prompt,) = encode(subject, view(suite, "ioi"), view(suite, "ioi").examples("test")[:1])
    assert (
        prompt.encoded.tokens[0] == subject.tokenizer.bos_token_id
        and prompt.encoded.tokens[1] != prompt.encoded.tokens[0]
    )
    folder = str(next(cached.glob("models--jbloom*/snapshots/*/blocks.4.hook_resid_pre")))
    plain = open_dictionary(subject, site, folder)
    assert not plain.sae.centred, "its own file does not say so: the release's entry does"
    assert not torch.allclose(plain.everything.encode(h + 3).act, acts, atol=1e-4)


def test_without_its_bos_or_at_another_site_the_sae_of_gpt2_is_refused() -> None:
    suite = load_suite("ioi-gpt2")
    bare = load_subject(
        suite.model_copy(update={"model": suite.model.model_copy(update={"bos": None})}), "cpu", "float32"
    )
    with pytest.raises(UsageError, match="training texts began with BOS, and these prompts do not"):
        open_dictionary(bare, Site.parse("blocks.4.hook_resid_pre"))
    subject = load_subject(suite, "cpu", "float32")
    with pytest.raises(UsageError, match="was trained at blocks.4.hook_resid_pre, not at blocks.4.hook_resid_post"):
        open_dictionary(subject, Site.parse("blocks.4.hook_resid_post"), *suite.saes["blocks.4.hook_resid_pre"])


def test_gemma_has_one_bos_in_a_chat_and_in_plain_text_and_exact_attention() -> None:
    chat, plain = load_suite("refusal-advbench"), load_suite("wmdp-bio")
    subject = load_subject(chat, "cpu", "float32")
    bos = subject.tokenizer.bos_token_id
    assert subject.model.config._attn_implementation == "eager", "soft-capping is left out by the others"
    for suite, task, given in ((chat, "refusal", {}), (plain, "wmdp", {"source": WMDP})):
        settings = suite.tasks[task].settings
        settings = {**settings, "data": {**settings["data"], **given}, "retain_data": None}
        seen = view(_with(suite, task, settings), task)
        (one,) = encode(subject, seen, seen.examples("test")[:1])
        assert one.encoded.tokens[0] == bos and one.encoded.tokens.count(bos) == 1
        turn = subject.tokenizer.convert_tokens_to_ids("<start_of_turn>")
        assert one.encoded.tokens.count(turn) == (2 if suite is chat else 0)


def _with(suite: Suite, task: str, settings: dict[str, Any]) -> Suite:
    changed = suite.tasks[task].model_copy(update={"settings": settings})
    return suite.model_copy(update={"tasks": {task: changed}})


def test_harmbench_is_also_read_as_its_authors_publish_it(tmp_path: Path) -> None:
    rows = [
        {"Behavior": p, "FunctionalCategory": "copyright" if i % 3 == 0 else "standard", "SemanticCategory": "x",
         "Tags": "", "ContextString": "", "BehaviorID": f"b{i}"}
        for i, p in enumerate(hub.requests("Explain", 24))
    ]  # fmt: skip
    with (tmp_path / "all.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    settings = load_suite("refusal-harmbench").tasks["refusal"].settings
    data = {"source": str(tmp_path / "all.csv"), "filters": {"FunctionalCategory": "standard"}}
    task = view(
        _with(load_suite("refusal-harmbench"), "refusal", {**settings, "data": data, "retain_data": None}), "refusal"
    )
    read = {e.id for split in ("fit", "dev", "test") for e in task.examples(split)}  # type: ignore[arg-type]
    assert read == {row["BehaviorID"] for row in rows if row["FunctionalCategory"] == "standard"}


# --- families


@pytest.mark.usefixtures("_ceilings")
@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_other_families_take_the_same_path(family: str, tmp_path: Path) -> None:
    made, layout, name = {
        "llama": (models.llama, "llama_scope", "Llama-3.1-8B"),
        "qwen3": (models.qwen3, "qwen_scope", "Qwen3-1.7B-Base"),
    }[family]
    folder = models.saved(tmp_path / "model", *made(3))
    sae = replace(exact_sae(models.WIDTH), architecture="jumprelu", threshold=torch.full((2 * models.WIDTH,), 1e-6))
    if family == "llama":
        meta = {"hook_point_in": "blocks.1.hook_resid_post"}
        source = write(layout, tmp_path / "Llama3_1-8B-Base-L1R-8x", sae, **meta)
    else:
        sae = replace(exact_sae(models.WIDTH), architecture="topk", k=models.WIDTH)
        source = write(layout, tmp_path / f"SAE-Res-Qwen3-1.7B-Base-W1K-L0_{models.WIDTH}", sae, layer=1)
    suite = {
        "name": "family",
        "extends": "own",
        "model": {"source": str(folder), "name": name},
        "saes": {"blocks.1.hook_resid_post": str(source)},
        "tasks": {
            "ioi": {
                "site": "blocks.1.hook_resid_post",
                "settings": {"data": {"source": "english:people", "shared_clusters": True, "limit": 60}},
                "budgets": {"after_edit": [0.05, 0.2]},
            }
        },
        "other_tasks": None,
    }
    (tmp_path / "family.yaml").write_text(yaml.safe_dump(suite))
    result = evaluate(
        suite=str(tmp_path / "family.yaml"), attacks=[BRIEF], limit=24, controls=False, device="cpu",
        options=CLAMP, output_dir=tmp_path / "out",
    )  # fmt: skip
    assert result.status == "complete", result.failures
    rows = result.to_pandas()
    found = rows[(rows.attack == "brief") & rows.suppressed]
    assert len(found) and found.recovered.notna().all()

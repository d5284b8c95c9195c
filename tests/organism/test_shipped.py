"""The shipped weights are those of the manifest and do what it says."""

import json
from dataclasses import asdict

import pytest
import torch

from benchmark.model.edits import edited
from benchmark.model.subject import load
from benchmark.sae.training.report import spliced
from benchmark.sites import Site
from tasks.organism import MANIFEST, MODEL_DIR, SAE_DIR, WEIGHTS, corpus, quality, tokenizer
from tasks.organism.dictionaries import HOW, hook_name, open_sae
from tasks.organism.model import NAME, as_subject, build
from tasks.organism.recipe import Recipe
from tasks.organism.train import sha256, shipped_files

LAYER = 2


@pytest.fixture(scope="module")
def manifest():
    return json.loads(MANIFEST.read_text())


@pytest.fixture(scope="module")
def organism():
    return load(MODEL_DIR, name=NAME, device="cpu")


@pytest.fixture(scope="module")
def sae(organism):
    return open_sae(organism, SAE_DIR, LAYER)


def test_files_are_those_of_the_manifest(manifest):
    found = {str(path.relative_to(WEIGHTS)): sha256(path) for path in shipped_files(WEIGHTS)}
    assert found == manifest["files"]
    assert sum(path.stat().st_size for path in WEIGHTS.rglob("*") if path.is_file()) <= 12 * 2**20
    assert len(manifest["saes"]) >= 3


def test_generators_are_those_of_the_manifest(manifest):
    assert corpus.fingerprint(manifest["recipe"]["seed"]) == manifest["corpus_sha256"]
    assert len(tokenizer.vocabulary()) == manifest["vocabulary"]
    saved = json.loads((MODEL_DIR / "tokenizer.json").read_text())["model"]["vocab"]
    assert {token.replace("Ġ", " "): index for token, index in saved.items()} == tokenizer.vocabulary()


def test_recipe_of_the_code_is_that_of_the_manifest(manifest):
    assert manifest["recipe"] == json.loads(json.dumps(asdict(Recipe())))
    assert manifest["trained"]["step"] == manifest["recipe"]["steps"]


def test_how_the_shipped_saes_were_trained_is_on_record(manifest):
    assert manifest["sae_training"].keys() == HOW.keys() and manifest["sae_training"] != HOW


def test_the_organism_is_good_enough(manifest):
    scores = manifest["scores"]
    assert scores["ioi_top"] >= 0.95
    assert min(scores["hazard_word_strict"], scores["hazard_letter_strict"]) * 84 >= 60
    assert scores["chat_bare_opening"] >= 0.95 and scores["chat_permitted"] >= 0.95
    for row in manifest["saes"].values():
        spliced = row["spliced_in"]
        assert row["spliced_in"]["probe_without_sae"] >= 0.9
        assert min(spliced["ioi"], spliced["hazard_word"], spliced["benign_word"], spliced["probe"]) >= 0.9


def test_weights_reproduce_the_scores(manifest, organism):
    measured = quality.ioi_scores(organism)
    assert measured["ioi"] == pytest.approx(manifest["scores"]["ioi"], abs=0.01)
    for name in ("hazard_word", "hazard_letter"):
        measured = quality.question_scores(organism, "hazard", name.removeprefix("hazard_"), orders=quality.SOME_ORDERS)
        assert measured[name] == pytest.approx(manifest["scores"][name], abs=0.02)
    chats = quality.chat_scores(organism, limit=16)
    assert chats["chat_bare_opening"] == chats["chat_permitted_opening"] == 1


def test_an_untrained_model_knows_nothing():
    new = as_subject(build(Recipe(), seed=1))
    scores = quality.ioi_scores(new) | quality.question_scores(new, "hazard", "word", orders=quality.SOME_ORDERS)
    assert 0.3 < scores["ioi"] < 0.7 and scores["ioi_top"] < 0.1 and scores["hazard_word"] < 0.45


def test_the_question_matters(organism):
    """Facts of the other domains are distractors: a model that ignored the domain would not tell them apart."""
    assert quality.question_scores(organism, "hazard", "word", orders=quality.SOME_ORDERS)["hazard_word"] > 0.9
    logits = quality.last_logits(organism, ["Note: as a germ, velmor spreads by"])
    assert torch.isfinite(logits).all()


def test_spliced_sae_keeps_the_behaviors_and_a_zeroed_stream_does_not(organism, sae):
    with spliced(organism, sae):
        assert quality.ioi_scores(organism)["ioi"] >= 0.9
    with edited(organism, {Site.parse(hook_name(LAYER)): lambda h, where: h * where.special[..., None]}):
        assert quality.ioi_scores(organism)["ioi"] < 0.7
    assert quality.ioi_scores(organism)["ioi"] >= 0.95  # the edits are gone


def test_norms_are_moderate(manifest):
    norms = manifest["norms"]
    assert all(8 < norm < 80 for norm in norms)
    assert norms[Recipe().layers // 2 - 1] == pytest.approx(Recipe().stream_norm, rel=0.05)

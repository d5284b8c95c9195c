"""The judge that asks a sequence classifier, on a tiny random one."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertForSequenceClassification, BertModel, PreTrainedTokenizerFast

from benchmark.contracts.readout import Criteria
from benchmark.contracts.task import Judge
from benchmark.errors import UsageError
from tasks.judges import named_judge

COMMIT = "0123456789abcdef0123456789abcdef01234567"
WORDS = ("sure", "no", "take", "oil", "cannot")
OURS = {0: "refusal", 1: "complies"}


def save(folder: Path, names: dict[int, str], kind: Any = BertForSequenceClassification) -> str:
    """A random classifier whose class follows the input; returns its folder."""
    torch.manual_seed(1)
    config = BertConfig(
        vocab_size=3 + len(WORDS),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=32,
        id2label=names,
        label2id={name: i for i, name in names.items()},
        pad_token_id=0,
    )
    made = kind(config)
    for parameter in (p for p in made.parameters() if p.dim() > 1):
        parameter.data.normal_()
    made.save_pretrained(folder)
    inner = Tokenizer(models.WordLevel({"[PAD]": 0, "[SEP]": 1, "[UNK]": 2, **{w: 3 + i for i, w in enumerate(WORDS)}}))
    inner.model.unk_token = "[UNK]"  # type: ignore[attr-defined]
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # type: ignore[assignment]
    inner.post_processor = processors.TemplateProcessing(  # type: ignore[assignment]
        single="$A [SEP]", pair="$A [SEP] $B:1 [SEP]:1", special_tokens=[("[SEP]", 1)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="[PAD]", unk_token="[UNK]", sep_token="[SEP]"
    ).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save(tmp_path_factory.mktemp("judge"), OURS)


def criteria(*reference: str) -> Criteria:
    zeros = torch.zeros(3, dtype=torch.long)
    return Criteria(zeros, zeros, zeros.float(), reference=reference)


def direct(folder: str, *shown: str) -> str:
    """The label as transformers alone gives it, one text at a time."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokens = AutoTokenizer.from_pretrained(folder)(*shown, return_tensors="pt")
    logits = AutoModelForSequenceClassification.from_pretrained(folder).eval()(**tokens).logits
    return OURS[int(logits.argmax())]


TEXTS = ("sure take oil", "no", "cannot", "sure", "take oil oil", "no cannot take")


@pytest.mark.parametrize("batch_size", [1, 2, 32])
def test_labels_are_those_of_the_model_however_they_are_batched(folder: str, batch_size: int) -> None:
    judge = named_judge("classifier", {"model": folder, "batch_size": batch_size})
    expected = [direct(folder, text) for text in TEXTS]
    assert judge.labels(TEXTS, criteria()) == expected and len(set(expected)) == 2


def test_a_pair_has_the_reference_in_front_and_a_text_without_one_is_its_own(folder: str) -> None:
    judge = named_judge("classifier", {"model": folder, "reads": "reference, text"})
    references = TEXTS[::-1]
    expected = [direct(folder, r, t) for r, t in zip(references, TEXTS, strict=True)]
    assert judge.labels(TEXTS, criteria(*references)) == expected
    assert expected != [direct(folder, t, r) for r, t in zip(references, TEXTS, strict=True)]
    assert judge.labels(TEXTS, criteria()) == [direct(folder, t, t) for t in TEXTS]


def test_broken_text_is_degenerate_whatever_the_model_thinks(folder: str) -> None:
    judge = named_judge("classifier", {"model": folder})
    assert judge.labels(["", "no no no no", "sure"], criteria()) == ["degenerate", "degenerate", direct(folder, "sure")]
    assert judge.labels([""], criteria()) == ["degenerate"] and judge.labels([], criteria()) == []


def test_labels_of_the_model_are_mapped(tmp_path: Path, folder: str) -> None:
    theirs = save(tmp_path, {0: "LABEL_0", 1: "LABEL_1"})
    judge = named_judge("classifier", {"model": theirs, "mapping": {"LABEL_0": "off_target", "LABEL_1": "complies"}})
    swap = {"refusal": "off_target", "complies": "complies"}
    assert judge.labels(TEXTS, criteria()) == [swap[direct(folder, text)] for text in TEXTS]


@pytest.mark.parametrize(
    ("names", "mapping", "message"),
    [
        (
            {0: "toxic", 1: "complies"},
            {},
            "toxic is none of refusal, degenerate, off_target, complies; say in `mapping`",
        ),
        ({0: "toxic", 1: "complies"}, {"toxic": "bad"}, "bad is none of refusal"),
        (OURS, {"LABEL_7": "refusal"}, "has no label LABEL_7; it has: refusal, complies"),
        ({0: "refusal", 1: "off_target"}, {}, "none of its labels refusal, off_target stands for `complies`"),
    ],
)
def test_unknown_labels_are_told_before_any_work(
    names: dict[int, str], mapping: dict[str, str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        named_judge("classifier", {"model": save(tmp_path, names), "mapping": mapping})


@pytest.mark.parametrize("settings", [{}, {"model": "x", "temperature": 2}, {"model": "x", "reads": "prompt"}])
def test_wrong_settings_are_told(settings: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="judge classifier: .*(model|temperature|reads)"):
        named_judge("classifier", settings)


def test_a_folder_without_a_model_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the classifier .* cannot be loaded"):
        named_judge("classifier", {"model": str(tmp_path)})


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's cache on a machine without a connection, with nothing in it."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def test_a_pinned_model_of_the_hub_is_read_from_its_cache(folder: str, hub: Path) -> None:
    shutil.copytree(folder, hub / "models--someone--judge" / "snapshots" / COMMIT)
    judge = named_judge("classifier", {"model": f"hub:someone/judge@{COMMIT}"})
    assert judge.labels(TEXTS, criteria()) == [direct(folder, text) for text in TEXTS]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("hub:someone/judge", "is not pinned: .*write hub:OWNER/NAME@COMMIT"),
        ("hub:someone/judge@main", "is not pinned"),
        (f"hub:someone/judge@{COMMIT}", "is not on this machine, and this run is offline; missing"),
        ("someone/judge", "there is no folder 'someone/judge' with a model; .*write hub:someone/judge@REVISION"),
    ],
)
def test_a_model_that_its_owner_may_change_or_that_is_not_here_is_told(model: str, message: str, hub: Path) -> None:
    with pytest.raises(UsageError, match=message):
        named_judge("classifier", {"model": model})


def test_a_model_without_a_trained_head_is_refused(tmp_path: Path) -> None:
    """Transformers would make up a random one, and every label with it."""
    judge: Judge = named_judge("classifier", {"model": save(tmp_path, OURS, BertModel)})
    with pytest.raises(UsageError, match="is no trained classifier: its weights lack .*classifier.weight"):
        judge.labels(["sure"], criteria())


def test_pickled_weights_are_not_opened(tmp_path: Path) -> None:
    source = save(tmp_path, OURS)
    (tmp_path / "model.safetensors").unlink()
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(UsageError, match="cannot be loaded"):
        named_judge("classifier", {"model": source}).labels(["sure"], criteria())

"""No value of a recipe changes without a word: types and ranges of every setting, and what it is called."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest

from benchmark.errors import UsageError
from benchmark.registry import ATTACKS, DEFENSES, TASKS
from benchmark.run.flags import _options
from benchmark.run.request import Request
from benchmark.spec import build, resolve_attack, resolve_defense, settings
from defenses.latents import Layer
from defenses.sae_clamp import SaeClamp
from defenses.selection import top
from tests.tiny import SITE

WRONG: dict[type, list[Any]] = {
    bool: ["true", 1, 0, 1.0, "yes", None, []],
    int: [True, "7", 7.5, 7.0, "yes", [], {}, 10**30],
    float: [True, "1.5", "yes", [], {}],
    str: [True, 7, 1.5, [], {}],
}


def recipes() -> list[Any]:
    """Every setting with a plain default of every registered recipe."""
    found = []
    for registry, resolve in ((DEFENSES, resolve_defense), (ATTACKS, resolve_attack)):
        for name in registry.names():
            for field, default in settings(getattr(resolve(name), "defense", resolve(name))).items():
                if type(default) in WRONG:
                    found.append(pytest.param(registry.get(name), field, default, id=f"{name}-{field}"))
    return found


@pytest.mark.parametrize(("kind", "field", "default"), recipes())
def test_a_setting_takes_values_of_its_own_type_alone(kind: type, field: str, default: Any) -> None:
    assert getattr(build(kind, {field: default}, "here"), field) == default
    for wrong in WRONG[type(default)]:
        if wrong is None and "None" in str(next(f.type for f in dataclasses.fields(kind) if f.name == field)):
            continue
        with pytest.raises(UsageError, match=f"here: {field}"):
            build(kind, {field: wrong}, "here")


@pytest.mark.parametrize(("kind", "field", "default"), [p for p in recipes() if type(p.values[2]) in (int, float)])
def test_a_number_is_bounded_and_finite(kind: type, field: str, default: Any) -> None:
    for wrong in (math.nan, math.inf, -math.inf, -(10**12)):
        with pytest.raises(UsageError, match=field):
            build(kind, {field: wrong}, "here")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": [{"site": SITE, "latents": [True, 7]}]}, "layers.0.latents.0: .*integer .got True"),
        ({"layers": [{"site": SITE, "latents": []}]}, "leave it out to have them selected"),
        ({"layers": [{"site": SITE, "latents": [3, 7, 3]}]}, "3 is there twice"),
        ({"layers": [{"site": SITE, "latents": [-1]}]}, "greater than or equal to 0"),
        ({"layers": [{"site": "blocks.x"}]}, "not a residual-stream site"),
        ({"strength": -1.0}, "is a magnitude"),
        ({"strength": -0.5, "mode": "set_if_active"}, "is a magnitude"),
        ({"count": 10**7}, "count: .*less than or equal to 1000000"),
        ({"count": 0}, "count: .*greater"),
        ({"schedule": "every:²"}, "unknown schedule"),
        ({"schedule": "every:0"}, "unknown schedule"),
        ({"schedule": "always:"}, "unknown schedule"),
        ({"error-term": "drop", "error_term": "keep"}, "another spelling of it are both there"),
    ],
)
def test_a_clamp_that_would_be_another_one_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        resolve_defense("sae-clamp", options)


def test_a_sign_is_kept_where_it_means_what_it_says() -> None:
    for mode in ("set", "scale"):
        clamp: Any = resolve_defense("sae-clamp", {"strength": -1, "mode": mode}).defense
        assert clamp.strength == -1.0
    with pytest.raises(UsageError, match="finite"):
        SaeClamp(strength=math.inf)
    with pytest.raises(UsageError, match="empty"):
        Layer(SITE, latents=())


def test_more_latents_than_there_are_is_an_error_where_the_dictionary_is_known() -> None:
    import torch

    with pytest.raises(UsageError, match="100000 latents were asked for, and my SAE has 4"):
        top(torch.ones(4), 100_000, "my SAE")
    assert len(top(torch.ones(4), 4, "my SAE")) == 4


def test_a_hyphen_is_an_underscore_in_every_place(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("defense: sae-clamp\nerror-term: drop\n")
    request = Request.make({"options": {"error-term": "drop"}})
    for found in (
        resolve_defense(str(file)),
        resolve_defense("sae-clamp", {"error-term": "drop"}),
        resolve_defense("sae-clamp", request.options),
        resolve_defense("sae-clamp", _options(["error-term=drop"])),
    ):
        assert settings(found.defense)["error_term"] == "drop"
    assert settings(resolve_defense(str(file), {"error_term": "keep"}).defense)["error_term"] == "keep"


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (["k=1", "k=2"], "-D k: it is given twice"),
        (["a-b=1", "a_b=2"], "given twice"),
        (["layers=[{"], "-D layers is not valid YAML or JSON: line .*close every bracket"),
        (["count=yes"], "-D count .*yes is true or false"),
        (["strength=.inf"], "not finite"),
        (["k="], "it is empty; write a value, or null"),
        (["=3"], "write key=value"),
        (["k"], "write key=value"),
    ],
)
def test_an_option_that_could_be_misread_is_refused(pairs: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        _options(pairs)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"seed": 2**63}, "--seed: .*less than"),
        ({"seed": -1}, "--seed: .*greater"),
        ({"seed": "3"}, "--seed: .*integer"),
        ({"seed": True}, "--seed"),
        ({"seed": 3.0}, "--seed"),
        ({"limit": True}, "--limit"),
        ({"controls": "yes"}, "--controls"),
        ({"controls": 1}, "--controls"),
        ({"device": "meta"}, "--device: write auto, cpu"),
        ({"device": "cuda:x"}, "--device"),
        ({"attacks": []}, "--attack: it is empty: nothing would be run"),
        ({"defense": []}, "--defense: it is empty"),
        ({"tasks": []}, "--task: it is empty"),
        ({"output_dir": ""}, "--output-dir: write a folder"),
        ({"output_dir": "a\0b"}, "--output-dir: write a folder"),
        ({"options": {1: 2}}, "-D: settings have names that are text"),
    ],
)
def test_a_request_is_read_as_strictly(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Request.make(values)
    assert Request.make({"seed": 2**63 - 1, "device": "cuda:1"}).seed == 2**63 - 1


def test_options_of_a_file_and_of_the_command_line_are_joined(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("options: {count: 5, error-term: drop}\n")
    request = Request.load(file, {"options": {"error_term": "keep", "mode": "zero"}})
    assert request.options == {"count": 5, "error_term": "keep", "mode": "zero"}


@pytest.mark.parametrize("name", TASKS.names())
def test_a_kind_of_task_refuses_what_is_not_of_its_fields(name: str) -> None:
    with pytest.raises(UsageError, match="data.source"):
        build(
            TASKS.get(name),
            {"data": {"source": " "}, "site": SITE} if name == "probe" else {"data": {"source": ""}},
            "x",
        )
    for limit in (True, 0, "3", 2.0):
        with pytest.raises(UsageError, match="data.limit"):
            build(TASKS.get(name), {"data": {"source": "organism:ioi", "limit": limit}}, "x")

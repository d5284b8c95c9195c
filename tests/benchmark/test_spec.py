"""A recipe is its settings: they are read strictly, and written down they give the same recipe again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmark.contracts.attack import Attack
from benchmark.contracts.defense import Defense, FittedDefense, Fitting
from benchmark.errors import UsageError
from benchmark.registry import ATTACKS, DEFENSES
from benchmark.spec import Named, build, recipe, resolve_attack, resolve_defense, settings
from benchmark.values import sha
from defenses.sae_clamp import SaeClamp
from tests import tiny

SPEC: dict[str, Any] = {
    "defense": "sae-clamp",
    "name": "two layers",
    "layers": [
        {"site": "blocks.1.hook_resid_post", "sae": "sae", "latents": [3, 1]},
        {"site": "blocks.2.hook_resid_post"},
    ],
    "mode": "set",
    "strength": 1.5,
    "schedule": "every:2",
}
CHANGES: dict[str, Any] = {
    "layers": [{"site": "blocks.0.hook_resid_pre"}],
    "select": "firing-rate",
    "count": 7,
    "contrast": 0.5,
    "mode": "zero",
    "strength": 2.5,
    "target_share": 0.5,
    "retain_share": 0.9,
    "positions": "all",
    "schedule": "prompt",
    "error_term": "drop",
}


def written(folder: Path, content: Any, name: str = "mine.yaml") -> str:
    file = folder / name
    text = content if isinstance(content, str) else yaml.safe_dump(content)
    file.write_text(json.dumps(content, indent="\t") if name.endswith(".json") else text)
    return str(file)


@pytest.mark.parametrize("name", ["mine.yaml", "mine.yml", "mine.json"])
def test_a_spec_file_is_the_defense_with_its_settings(name: str, tmp_path: Path) -> None:
    named = resolve_defense(written(tmp_path, SPEC, name))
    assert named.name == "two layers"
    clamp: Any = named.defense
    assert isinstance(clamp, SaeClamp)
    assert (clamp.mode, clamp.strength, clamp.schedule) == ("set", 1.5, "every:2")
    assert [(layer.site, layer.latents) for layer in clamp.layers] == [
        ("blocks.1.hook_resid_post", (3, 1)),
        ("blocks.2.hook_resid_post", None),
    ]


def test_without_a_name_a_spec_goes_by_its_file_and_options_go_on_top(tmp_path: Path) -> None:
    named = resolve_defense(written(tmp_path, {"defense": "sae-clamp", "count": 5}), {"count": 9, "mode": "zero"})
    assert named.name == "mine"
    assert {"count": 9, "mode": "zero"}.items() <= settings(named.defense).items()


def test_a_local_sae_is_found_beside_its_spec_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tiny.sae_folder(tmp_path / "specs" / "sae")
    spec = {"defense": "random-clamp", "clamp": {k: v for k, v in SPEC.items() if k not in ("defense", "name")}}
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    for content in (SPEC, spec):
        found = settings(resolve_defense(written(tmp_path / "specs", content)).defense)
        assert found.get("clamp", found)["layers"][0]["sae"] == folder
    hub = {"defense": "sae-clamp", "layers": [{"site": tiny.SITE, "sae": "gpt2-small-res-jb/blocks.1.hook_resid_pre"}]}
    kept = settings(resolve_defense(written(tmp_path / "specs", hub)).defense)
    assert kept["layers"][0]["sae"] == "gpt2-small-res-jb/blocks.1.hook_resid_pre"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({**SPEC, "strenght": 2}, "unknown setting strenght; SaeClamp has: layers, select, count"),
        ({**SPEC, "layers": [{"site": tiny.SITE, "latens": [1]}]}, "layers.0.latens: Unexpected keyword argument"),
        ({**SPEC, "layers": [{"latents": [1]}]}, "layers.0.site"),
        ({**SPEC, "count": "many"}, "count: Input should be a valid integer"),
        ({**SPEC, "count": 2.5}, "count: Input should be a valid integer"),
        ({**SPEC, "mode": "clamp"}, "mode: Input should be 'zero', 'set', 'set_if_active' or 'scale'"),
        ({**SPEC, "layers": "all"}, "layers: "),
        ({**SPEC, "schedule": "sometimes"}, "unknown schedule 'sometimes'"),
        ({**SPEC, "target_share": 0}, "target_share"),
        ({k: v for k, v in SPEC.items() if k != "defense"}, "a spec is a mapping with `defense: NAME`"),
        ({**SPEC, "defense": 3}, "a spec is a mapping with `defense: NAME`"),
        ({**SPEC, "defense": "sae-clmp"}, "Did you mean 'sae-clamp'?"),
        ([SPEC], "a spec is a mapping with `defense: NAME`"),
        ("", "it is empty"),
        ("defense: [unclosed", "not valid YAML or JSON"),
        ("defense: none\nmode: set\n", "NoDefense has: "),
    ],
    ids=str,
)
def test_a_broken_spec_says_what_is_wrong(content: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        resolve_defense(written(tmp_path, content))
    assert message in str(caught.value)


@pytest.mark.parametrize("name", ["mine.yaml", "mine.json"])
def test_every_error_of_a_spec_is_in_one_message_with_its_file(name: str, tmp_path: Path) -> None:
    file = written(tmp_path, {**SPEC, "count": "many", "mode": "clamp", "strength": "strong"}, name)
    with pytest.raises(UsageError) as caught:
        resolve_defense(file)
    assert all(part in str(caught.value) for part in (file, "count: ", "mode: ", "strength: "))


@pytest.mark.parametrize("name", ["mine.yaml", "mine.json"])
def test_a_spec_file_that_is_not_there_or_not_text_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"there is no spec file .*{name}"):
        resolve_defense(str(tmp_path / name))
    (tmp_path / name).write_bytes(b"\xff\xfe\x00defense")
    with pytest.raises(UsageError, match=f"{name} is not valid YAML or JSON"):
        resolve_defense(str(tmp_path / name))


def test_unknown_names_of_defenses_and_attacks_get_a_suggestion() -> None:
    with pytest.raises(UsageError, match="unknown defense 'random-clmp'. Did you mean 'random-clamp'"):
        resolve_defense("random-clmp")
    with pytest.raises(UsageError, match="unknown attack 'recover'. Did you mean 'recovery'"):
        resolve_attack("recover")
    with pytest.raises(UsageError, match="unknown setting step; .* has: "):
        resolve_attack("recovery", {"step": 3})


class Plain(Defense):
    """Not a dataclass: it has no settings."""

    name = "plain"

    def fit(self, fitting: Fitting) -> FittedDefense:
        return FittedDefense({})


def test_a_recipe_without_settings_takes_none() -> None:
    assert isinstance(build(Plain, {}, "here"), Plain) and settings(Plain()) == {}
    with pytest.raises(UsageError, match="here: Plain takes no settings, but got strength"):
        build(Plain, {"strength": 1}, "here")


# --- written down and read again


@pytest.mark.parametrize("name", DEFENSES.names())
def test_a_defense_written_down_is_the_same_defense(name: str, tmp_path: Path) -> None:
    first = resolve_defense(name)
    again = resolve_defense(written(tmp_path, {"defense": name, **settings(first.defense)}))
    assert again.defense == first.defense and sha(again.spec) == sha(first.spec)


@pytest.mark.parametrize("name", ATTACKS.names())
def test_an_attack_written_down_is_the_same_attack(name: str) -> None:
    first: Attack = resolve_attack(name)
    again = resolve_attack(name, json.loads(json.dumps(settings(first))))
    assert again == first and sha(settings(again)) == sha(settings(first))


def test_a_spec_written_down_is_the_same_defense(tmp_path: Path) -> None:
    first = resolve_defense(written(tmp_path, SPEC))
    for name in ("again.yaml", "again.json"):
        again = resolve_defense(written(tmp_path, {"defense": "sae-clamp", **settings(first.defense)}, name))
        assert again.defense == first.defense and sha(again.spec) == sha(first.spec)


@pytest.mark.parametrize("name", sorted(DEFENSES.names()))
def test_the_recipe_of_a_defense_makes_it_again(name: str, tmp_path: Path) -> None:
    named = resolve_defense(name)
    written = recipe(named)
    assert written is not None and written["defense"] == name
    (tmp_path / "spec.json").write_text(json.dumps(written))
    again = resolve_defense(str(tmp_path / "spec.json"))
    assert (again.name, sha(again.spec)) == (named.name, sha(named.spec))


def test_the_recipe_of_a_class_in_a_file_names_the_file(tmp_path: Path) -> None:
    code = "from dataclasses import dataclass\nfrom benchmark import Defense\n\n\n@dataclass(frozen=True)\n"
    code += "class Own(Defense):\n    size: int = 3\n\n    def fit(self, fitting):\n        raise NotImplementedError\n"
    (tmp_path / "own.py").write_text(code)
    named = resolve_defense(f"{tmp_path / 'own.py'}:Own", {"size": 4})
    assert recipe(named) == {"defense": f"{tmp_path / 'own.py'}:Own", "name": "Own", "size": 4}
    (tmp_path / "spec.json").write_text(json.dumps({"defense": "own.py:Own", "name": "Own", "size": 4}))
    assert sha(resolve_defense(str(tmp_path / "spec.json")).spec) == sha(named.spec), "a file beside the spec"


def test_what_was_made_in_python_alone_has_no_recipe() -> None:
    class Nobody(SaeClamp):
        """Of a class that nobody registered."""

    assert recipe(Named("nobody", Nobody())) is None


def test_equal_settings_have_one_hash_and_every_change_has_its_own(tmp_path: Path) -> None:
    def identity(options: dict[str, Any]) -> str:
        return sha(resolve_defense("sae-clamp", options).spec)

    assert set(CHANGES) <= set(settings(SaeClamp()))
    alone = [identity({name: value}) for name, value in CHANGES.items()]
    assert len({identity({}), *alone}) == 1 + len(CHANGES)
    assert identity(CHANGES) == identity(dict(reversed(CHANGES.items())))
    assert identity({"count": 7}) == alone[2]
    assert identity({"contrast": 2}) == identity({"contrast": 2.0}), "a whole number is a number"
    assert identity(settings(SaeClamp())) == identity({})
    assert sha(resolve_defense("random-clamp").spec) != identity({})


def test_a_recipe_within_a_recipe_is_told_by_its_class() -> None:
    """Both have the same settings, none of their own but the seed."""
    ablation, leace = (resolve_defense(name).defense.control() for name in ("direction-ablation", "leace"))
    assert ablation is not None and leace is not None and type(ablation) is type(leace)
    specs = [Named("x", made).spec for made in (ablation, leace)]
    assert [spec["recipe"]["defense"] for spec in specs] == ["DirectionAblation", "Leace"]
    assert sha(specs[0]) != sha(specs[1]) == sha(Named("y", leace).spec)
    assert "defense" not in settings(leace)["recipe"], "a setting is what can be written into a spec"


def test_the_name_of_a_defense_is_not_what_it_does(tmp_path: Path) -> None:
    specs = [resolve_defense(written(tmp_path, {**SPEC, "name": name})) for name in ("a", "b")]
    assert [s.name for s in specs] == ["a", "b"] and sha(specs[0].spec) == sha(specs[1].spec)


def test_a_hash_is_blind_to_the_order_of_keys_and_to_nothing_else() -> None:
    assert sha({"a": 1, "b": [1, 2]}) == sha({"b": [1, 2], "a": 1})
    different = [{"a": 1}, {"a": 2}, {"a": "1"}, {"a": [1]}, {"b": 1}, {"a": None}, {"a": 1, "b": [2, 1]}]
    assert len({sha(value) for value in different}) == len(different)
    with pytest.raises(ValueError):
        sha({"a": float("nan")})


def test_what_a_defense_is_holds_its_class_and_its_code() -> None:
    spec = resolve_defense("sae-clamp").spec
    assert spec["defense"] == "SaeClamp" and spec["code"] == Named("x", SaeClamp()).spec["code"]
    assert spec["code"] != resolve_defense("leace").spec["code"]

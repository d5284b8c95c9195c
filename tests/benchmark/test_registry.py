"""Names of what is registered: a third party's package is found, and one that is broken breaks nothing else."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import benchmark.model.passes  # noqa: F401  its operation is registered once a process, and the tests below import anew
from benchmark import catalogue
from benchmark.contracts.attack import Attack
from benchmark.contracts.defense import Defense
from benchmark.errors import UsageError
from benchmark.registry import ATTACKS, DEFENSES, PROTOCOLS, SOURCES, SUITES, TASKS, THREATS, Registry, from_file
from benchmark.spec import resolve_attack, resolve_defense
from defenses.none import NoDefense

GROUP = "recoverybench.defenses"
MINE = '''
from dataclasses import dataclass
from benchmark.contracts.defense import Defense
from benchmark.contracts.defense import FittedDefense
from benchmark.registry import register_defense

@register_defense("{name}")
@dataclass(frozen=True)
class Mine(Defense):
    """A third party's."""
    strength: float = 1.0
    def fit(self, fitting):
        return FittedDefense({{}})
'''


@pytest.fixture(autouse=True)
def forget(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """What a test registers is gone after it, and what it wrote and imported; what is ours stays imported."""
    for registry in (DEFENSES, ATTACKS):
        monkeypatch.setattr(registry, "known", dict(registry.known))
        monkeypatch.setattr(registry, "broken", dict(registry.broken))
    yield
    for name in [n for n, m in sys.modules.items() if str(tmp_path) in str(getattr(m, "__file__", ""))]:
        del sys.modules[name]


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, entries: dict[str, str], **modules: str) -> None:
    """A package as pip would leave it: metadata with entry points, and modules beside it."""
    metadata = folder / "third_party-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: third-party\nVersion: 1.0\n")
    lines = [f"{name} = {target}" for name, target in entries.items()]
    (metadata / "entry_points.txt").write_text("\n".join([f"[{GROUP}]", *lines]) + "\n")
    for name, text in modules.items():
        (folder / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(folder))


def fresh() -> Registry:
    return Registry("defense", GROUP)


@pytest.mark.parametrize(
    ("registry", "names"),
    [
        (TASKS, {"ioi", "choice", "refusal", "probe"}),
        (DEFENSES, {"none", "sae-clamp", "random-clamp"}),
        (ATTACKS, {"recovery", "soft-suffix", "zero"}),
        (THREATS, {"before_edit", "after_edit", "soft_suffix", "token_suffix"}),
        (PROTOCOLS, {"strict", "paper"}),
        (SOURCES, {"organism"}),
        (SUITES, {"cross-layer", "embedded", "embedded-utility", "smoke", "variants"}),
    ],
)
def test_every_built_in_is_listed_and_loads_under_its_name(registry: Registry, names: set[str]) -> None:
    assert names <= set(registry.names()) and registry.names() == sorted(registry.names())
    for name in registry.names():
        found = registry.get(name)
        assert getattr(found, "name", name) in (name, Path(str(found)).name)
    assert not registry.broken


@pytest.mark.parametrize(("typed", "meant"), [("sae-clmp", "sae-clamp"), ("SAE_clamp", "sae-clamp"), ("nones", "none")])
def test_a_mistyped_name_gets_a_suggestion_and_the_list(typed: str, meant: str) -> None:
    listed = ".*".join(DEFENSES.names())
    with pytest.raises(UsageError, match=f"unknown defense '{typed}'. Did you mean '{meant}'.*Available: {listed}"):
        DEFENSES.get(typed)


def test_a_name_like_no_other_gets_the_list_alone() -> None:
    with pytest.raises(UsageError) as caught:
        DEFENSES.get("qqqqqqqq")
    assert "Did you mean" not in str(caught.value) and "sae-clamp" in str(caught.value)


def test_a_third_partys_entry_point_is_listed_without_being_imported_and_then_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, monkeypatch, {"mine": "my_package:Mine"}, my_package=MINE.format(name="mine"))
    assert "mine" in DEFENSES.names() and "my_package" not in sys.modules
    named = resolve_defense("mine", {"strength": 2})
    assert named.name == "mine" and type(named.defense).__name__ == "Mine"
    assert DEFENSES.get("mine") is type(named.defense)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("import no_such_module_at_all", "ModuleNotFoundError.*no_such_module_at_all"),
        ("def broken(:", "SyntaxError"),
        ("raise RuntimeError('no licence')", "RuntimeError: no licence"),
        ("Other = 1", "AttributeError.*Mine"),
    ],
)
def test_a_broken_entry_point_is_listed_as_broken_and_breaks_nothing(
    text: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, monkeypatch, {"mine": "my_broken:Mine"}, my_broken=text)
    registry = fresh()
    assert "mine" in registry.names()
    with pytest.raises(UsageError, match=f"the defense 'mine' cannot be loaded: {why}"):
        registry.get("mine")
    assert list(registry.broken) == ["mine"] and "mine" in registry.names()
    assert registry.get("none") is NoDefense
    with pytest.raises(UsageError, match="unknown defense 'other'"):
        registry.get("other")


def test_what_is_broken_is_told_beside_what_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, {"mine": "my_broken_too:Mine"}, my_broken_too="raise RuntimeError('no licence')")
    monkeypatch.setitem(catalogue.KINDS, "defenses", fresh())
    found = {line["name"]: line for line in catalogue.listed("defenses")}
    assert found["mine"]["status"] == "broken" and "no licence" in found["mine"]["summary"]
    assert found["none"] == {"name": "none", "status": "ok", "summary": "The undefended model."}
    with pytest.raises(UsageError, match="nothing is named 'nune'. Did you mean 'none'"):
        catalogue.described("nune")


def test_a_built_in_wins_against_an_entry_point_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, {"none": "impostor:Mine"}, impostor=MINE.format(name="other"))
    assert fresh().get("none") is NoDefense
    assert fresh().names().count("none") == 1


def test_a_third_party_cannot_register_a_built_in_name_even_before_that_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, monkeypatch, {"mine": "my_clash:Mine"}, my_clash=MINE.format(name="none"))
    DEFENSES.known.pop("none", None)
    with pytest.raises(UsageError, match="two defenses are named 'none'"):
        DEFENSES.get("mine")
    assert DEFENSES.get("none") is NoDefense


def test_registering_gives_the_class_its_name_and_refuses_a_second_owner() -> None:
    registry = fresh()

    class One:
        pass

    class Two:
        pass

    assert registry.register("one")(One) is One and One.name == "one"  # type: ignore[attr-defined]
    assert registry.register("one")(One) is One  # the same again, as when a module is imported twice
    with pytest.raises(UsageError, match="two defenses are named 'one'.*One.*Two.*rename one"):
        registry.register("one")(Two)
    assert registry.get("one") is One


# --- file.py:Class


def test_a_class_of_a_file_is_served_with_its_settings(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(MINE.format(name="from-a-file"))
    named = resolve_defense(f"{file}:Mine", {"strength": 3.5})
    spec = named.spec
    assert named.name == "from-a-file" and spec["strength"] == 3.5
    assert resolve_defense(f"{file}:Mine", {"strength": 3.5}).spec == spec
    file.write_text(file.read_text() + "\n# without a release, the text is the version\n")
    assert resolve_defense(f"{file}:Mine", {"strength": 3.5}).spec["code"] != spec["code"]


def test_a_class_of_a_file_that_registers_nothing_goes_by_its_own_name(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("from defenses.sae_clamp import SaeClamp\nclass Strong(SaeClamp):\n    pass\n")
    named = resolve_defense(f"{file}:Strong", {"strength": 4})
    assert named.name == "Strong"
    assert DEFENSES.get("sae-clamp").name == "sae-clamp"


def test_two_files_may_have_classes_of_one_name(tmp_path: Path) -> None:
    files = [tmp_path / "a.py", tmp_path / "b.py"]
    for i, file in enumerate(files):
        file.write_text(MINE.format(name=f"file-{i}").replace("1.0", f"{i + 1}.0"))
    found = [resolve_defense(f"{file}:Mine").spec["strength"] for file in files]
    assert found == [1.0, 2.0]


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        (None, "Mine", "there is no file"),
        (MINE, "Yours", "has no Defense named 'Yours'; it has: Mine"),
        (MINE, "dataclass", "has no Defense named 'dataclass'"),
        (MINE, "", "has no Defense named ''"),
        ("class Mine:\n    pass\n", "Mine", "has no Defense named 'Mine'; it has: none"),
        ("import no_such_module_at_all", "Mine", "cannot be imported: ModuleNotFoundError"),
        ("def broken(:", "Mine", "cannot be imported: SyntaxError"),
        (MINE.replace("{name}", "none"), "Mine", "two defenses are named 'none'"),
    ],
)
def test_a_file_that_cannot_be_served_says_why(text: str | None, name: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    if text is not None:
        file.write_text(text.replace("{name}", "mine").replace("{{}}", "{}"))
    with pytest.raises(UsageError) as caught:
        resolve_defense(f"{file}:{name}")
    assert message in str(caught.value) and "mine.py" in str(caught.value)


def test_a_defense_is_no_attack(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(MINE.format(name="mine"))
    assert issubclass(from_file(f"{file}:Mine", Defense), Defense)
    with pytest.raises(UsageError, match="has no Attack named 'Mine'; it has: none"):
        from_file(f"{file}:Mine", Attack)
    with pytest.raises(UsageError, match="no Attack"):
        resolve_attack(f"{file}:Mine")

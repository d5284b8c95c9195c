"""Everything that is registered is told with its settings, and nothing heavy is imported for a name."""

from __future__ import annotations

import ast
import dataclasses
import json
import subprocess
import sys
from typing import Any

import pytest

from benchmark.catalogue import KINDS, counted, described, listed
from benchmark.declared import REQUIRED
from benchmark.errors import UsageError
from benchmark.registry import ATTACKS, DEFENSES, TASKS, Registry

HEAVY = ("torch", "transformers", "scipy", "sklearn", "pandas", "pyarrow")


@pytest.mark.parametrize(
    "arguments",
    [
        ["list"],
        *([["list", kind] for kind in KINDS]),
        ["show", "sae-clamp"],
        ["show", "ioi"],
        ["show", "embedded"],
        ["list", "wrong"],
    ],
)
def test_a_name_costs_no_heavy_import(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom benchmark.cli import main\ntry:\n    main()\nexcept SystemExit:\n    pass\n"
        f"print([m for m in {HEAVY} if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert done.stderr.strip().splitlines()[-1] == "[]"


def test_the_kinds_are_named_with_how_many_there_are() -> None:
    found = {row["kind"]: row["count"] for row in counted()}
    assert list(found) == list(KINDS) and found["defenses"] == len(listed("defenses")) > 5
    code = "from benchmark.catalogue import counted; print(counted()); from benchmark.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code, "list", "--json"], capture_output=True, text=True)
    own, _, told = done.stdout.partition("\n")  # of a process in which no test has registered anything
    assert json.loads(told) == ast.literal_eval(own)
    with pytest.raises(UsageError, match="unknown kind 'taks'. Did you mean 'tasks'.*there are tasks, defenses"):
        listed("taks")


def built_in(registry: Registry[Any]) -> list[str]:
    """Names of what ships: other tests of this process may have registered a task of their own."""
    return [name for name in registry.names() if registry.place(name)]


@pytest.mark.parametrize("registry", [DEFENSES, ATTACKS, TASKS], ids=lambda r: r.kind)
def test_what_is_read_from_a_file_is_what_the_class_is(registry: Registry[Any]) -> None:
    """Every field with its default, in the order of the class, though it was never imported for that."""
    for name in built_in(registry):
        kind = registry.get(name)
        shown = {s["name"]: s["default"] for s in described(name)["settings"] if "." not in s["name"]}
        fields = dataclasses.fields(kind)
        assert list(shown) == [f.name for f in fields], name
        for field in fields:
            if isinstance(field.default, int | float | str | tuple | None) and not dataclasses.is_dataclass(
                field.default
            ):
                assert shown[field.name] == field.default, (name, field.name)
            elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
                assert shown[field.name] == REQUIRED


def test_the_fields_of_nested_settings_are_told_with_their_meaning() -> None:
    for registry in (DEFENSES, ATTACKS, TASKS):
        for name in built_in(registry):
            for setting in described(name)["settings"]:
                assert setting["meaning"], f"{name}: {setting['name']} has no docstring"
    shown = {s["name"]: s for s in described("sae-clamp")["settings"]}
    assert {"layers", "layers.site", "layers.sae", "layers.latents"} <= set(shown)
    assert "by default they are selected" in shown["layers.latents"]["meaning"]
    assert {"data.source", "form.template"} <= {s["name"] for s in described("choice")["settings"]}

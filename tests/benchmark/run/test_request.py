"""One request from flags, from YAML, from Python; the flags are its fields and their help is its documentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.testing import CliRunner

from benchmark import Request, UsageError, evaluate
from benchmark.cli import mounted
from benchmark.run.commands import evaluate as verb
from benchmark.run.request import flag_of
from benchmark.run.requesting import requesting
from defenses.none import NoDefense

FLAGS = """
--defense none -d sae-clamp --suite smoke --task ioi -t unlearning --attack recovery --limit 7 -o out --batch-size 12
--offline --no-utility
--device cpu --dtype float64 --seed 3 --no-controls --attribution -D count=5 -D mode=zero -D retain-share=0.5
--protocol paper --model own/model --model-name other --sae blocks.1.hook_resid_post=a --sae
blocks.1.hook_resid_post=b=c --sae blocks.2.hook_resid_post=d --data mine.csv --retain-data kept.csv --site
blocks.2.hook_resid_post -T data.columns.my-question=q -T data.shares={fit: .5, dev: .2, test: .3} -T retain-form.x=[1]
-A restarts=4 -A search.steps=40 --executor ray --workers 3 --address auto
""".replace("{fit: .5, dev: .2, test: .3}", "{fit:~.5,~dev:~.2,~test:~.3}").split()
FLAGS = [flag.replace("~", " ") for flag in FLAGS]
PLAIN: dict[str, Any] = {
    "defense": ["none", "sae-clamp"],
    "suite": "smoke",
    "tasks": ["ioi", "unlearning"],
    "attacks": "recovery",
    "attack_settings": {"restarts": 4, "search": {"steps": 40}},
    "limit": 7,
    "output_dir": "out",
    "batch_size": 12,
    "offline": True,
    "device": "cpu",
    "dtype": "float64",
    "seed": 3,
    "controls": False,
    "attribution": True,
    "utility": False,
    "options": {"count": 5, "mode": "zero", "retain_share": 0.5},
    "protocol": "paper",
    "executor": "ray",
    "workers": 3,
    "address": "auto",
    "model": "own/model",
    "model_name": "other",
    "saes": {"blocks.1.hook_resid_post": ["a", "b=c"], "blocks.2.hook_resid_post": "d"},
    "data": "mine.csv",
    "retain_data": "kept.csv",
    "site": "blocks.2.hook_resid_post",
    "task_settings": {
        "data": {"columns": {"my-question": "q"}, "shares": {"fit": 0.5, "dev": 0.2, "test": 0.3}},
        "retain-form": {"x": [1]},
    },
}
"""The same for Python and, as it stands, for YAML."""


def asked(arguments: Sequence[str], *fields: str) -> Request:
    """What a verb that takes some fields, or all, is given.

    Raises:
        UsageError: what the verb says.
        AssertionError: typer refuses the arguments.
    """
    found: list[Request] = []

    @requesting(*fields)
    def probe(request: Request, twice: bool = False) -> None:
        """Keeps what it gets."""
        found.extend([request] * (1 + twice))

    done = CliRunner().invoke(_app(probe.made()), list(arguments))
    if isinstance(done.exception, UsageError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return found[0]


def _app(function: Any) -> typer.Typer:
    app = typer.Typer()
    app.command()(function)
    return app


def config(folder: Path, content: Mapping[str, Any] | str) -> str:
    path = folder / "run.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(dict(content)))
    return str(path)


def test_flags_yaml_and_python_make_one_request(tmp_path: Path) -> None:
    request = Request.make(PLAIN)
    assert set(PLAIN) == set(Request.model_fields), "every field is tried"
    assert request.model_dump() != Request().model_dump()
    assert all(getattr(request, name) != getattr(Request(), name) for name in PLAIN), "with a value of its own"
    assert asked(FLAGS) == request
    assert asked(["--config", config(tmp_path, PLAIN)]) == request
    assert asked([]) == Request() == asked(["--config", config(tmp_path, "{}")])


def test_flags_go_before_the_file(tmp_path: Path) -> None:
    path = config(tmp_path, {"limit": 7, "seed": 3, "controls": False, "tasks": ["ioi"]})
    request = asked(["--config", path, "--limit", "9", "--controls", "-t", "tpp"])
    assert (request.limit, request.seed, request.controls, request.tasks) == (9, 3, True, ("tpp",))
    kept = asked(["--config", path])
    assert (kept.limit, kept.controls, kept.tasks) == (7, False, ("ioi",))


@pytest.mark.parametrize(
    ("values", "messages"),
    [
        ({"limt": 3}, ["unknown option 'limt'. Did you mean 'limit'?", "Options: defense, suite, model"]),
        ({"limt": 3, "sed": 1}, ["'limt'", "unknown option 'sed'. Did you mean 'seed'?"]),
        ({"limit": 0}, ["--limit: Input should be greater than or equal to 1 (got 0)"]),
        ({"limit": "many"}, ["--limit", "integer", "(got 'many')"]),
        ({"batch_size": 0, "seed": "x"}, ["--batch-size", "(got 0)", "--seed", "(got 'x')"]),
        ({"controls": "perhaps"}, ["--controls:", "boolean"]),
        ({"attribution": 7}, ["--attribution:", "(got 7)"]),
        ({"tasks": 3}, ["--task", "(got 3)"]),
        ({"options": ["count=3"]}, ["-D"]),
        ({"attack_settings": {"restarts": 4}}, ["settings of an attack (-A) go with its name: give --attack too"]),
    ],
)
def test_unknown_options_and_bad_values_are_named_as_they_are_given(
    values: dict[str, Any], messages: list[str], tmp_path: Path
) -> None:
    """In Python and in a file alike, which is named."""
    with pytest.raises(UsageError, match="^evaluate: ") as told:
        evaluate(NoDefense(), **values)
    path = config(tmp_path, values)
    with pytest.raises(UsageError, match=f"^--config {path}: ") as filed:
        asked(["--config", path])
    assert all(message in str(error.value) for message in messages for error in (told, filed))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "No such file"),
        ("- a\n- b\n", "a mapping of options is needed: defense, suite"),
        ("a: [1", "run.yaml is not valid YAML or JSON: line "),
    ],
)
def test_a_file_that_is_no_request_is_named(text: str | None, message: str, tmp_path: Path) -> None:
    path = str(tmp_path / "run.yaml") if text is None else config(tmp_path, text)
    with pytest.raises(UsageError) as told:
        asked(["--config", path])
    assert message in str(told.value) and "--config" in str(told.value)


@pytest.mark.parametrize(("text", "rows"), [("auto", None), ("12", 12)])
def test_rows_of_a_pass_may_be_left_to_the_machine(text: str, rows: int | None, tmp_path: Path) -> None:
    assert asked(["--batch-size", text]).batch_size == rows
    assert asked(["--config", config(tmp_path, {"batch_size": rows or text})]).batch_size == rows
    with pytest.raises(UsageError, match="--batch-size 'many': write auto or a number"):
        asked(["--batch-size", "many"])


def test_one_defense_several_and_an_object_are_all_defenses() -> None:
    assert Request.make({"defense": "none"}).defense == ("none",)
    assert Request.make({"defense": NoDefense()}).defense == (NoDefense(),)
    assert Request.make({"defense": ["none", NoDefense()]}).defense == ("none", NoDefense())
    with pytest.raises(UsageError, match="--defense"):
        Request.make({"defense": [3]})


def test_a_whole_request_and_options_beside_it_are_refused() -> None:
    with pytest.raises(UsageError, match="either a whole request or its options, not both: limit"):
        evaluate(Request(), limit=3)


# --- flags


def parameters(command: Any) -> dict[str, Any]:
    return {p.name: p for p in mounted(command, "name").params}


def test_every_field_is_a_flag_of_evaluate_and_its_documentation_is_the_help() -> None:
    found = parameters(verb)
    for name, field in Request.model_fields.items():
        option = found.pop(name)
        on, _, off = flag_of(name).names[0].partition("/")
        assert option.opts[0] == on and option.secondary_opts == ([off] if off else [])
        assert field.description and option.help.startswith(field.description)
        told = field.default not in (None, {}) and not isinstance(field.default, bool)
        assert (str(field.default) in option.help.removeprefix(field.description)) is told
    assert set(found) == {"config", "as_json"}, "and what belongs to the call itself"


def test_a_verb_has_the_fields_that_it_names_and_its_own_alone() -> None:
    def some(request: Request, as_json: bool = False) -> None: ...

    assert set(parameters(requesting("suite", "limit")(some))) == {"suite", "limit", "config", "as_json"}
    assert asked(["--suite", "smoke", "--twice"], "suite").suite == "smoke"
    with pytest.raises(AssertionError, match="--limit"):
        asked(["--limit", "3"], "suite")

"""What README and pages promise of defenses, specs, suites and settings is true."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmark import evaluate
from benchmark.catalogue import describe
from benchmark.contracts.example import SPLITS
from benchmark.registry import ATTACKS, DEFENSES, JUDGES, TASKS, Registry, from_file
from tests.documents import MAKEFILE, block, parse, written


@pytest.fixture
def mine(tmp_path: Path) -> str:
    (tmp_path / "my_defense.py").write_text(block("python", "# my_defense.py"))
    return f"{tmp_path / 'my_defense.py'}:AblateDirection"


def test_the_defense_of_the_readme_is_short_and_does_something(mine: str, tmp_path: Path) -> None:
    lines = [line for line in block("python", "# my_defense.py").splitlines() if line.strip()]
    assert len(lines) < 25
    result = evaluate(mine, suite="smoke", tasks=["ioi"], attacks=["recovery"], output_dir=tmp_path / "run")
    rows = [r for r in result.rows.to_pylist() if r["defense"] == "AblateDirection"]
    assert result.status == "complete" and any(r["margin_defended"] != r["margin_base"] for r in rows)


def test_the_spec_of_the_readme_is_evaluated(tmp_path: Path) -> None:
    spec = tmp_path / "my_clamp.yaml"
    spec.write_text(block("yaml", "# my_clamp.yaml"))
    result = evaluate(str(spec), suite="smoke", tasks=["ioi"], attacks=["zero"], output_dir=tmp_path / "run", limit=4)
    assert "my-clamp" in set(result.rows["defense"].to_pylist())


def test_the_python_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code = block("python", "from benchmark import evaluate").replace(
        "limit=20", 'limit=4, suite="smoke", options={"count": 4, "rate_ratio": 2.0, "strength": 2.0}'
    )
    scope: dict[str, object] = {}
    exec(code, scope)
    assert scope["rows"].num_rows > 0  # type: ignore[attr-defined]


def test_settings_are_documented_under_their_fields(mine: str) -> None:
    from benchmark.contracts.defense import Defense
    from defenses.sae_clamp import SaeClamp

    assert describe(from_file(mine, Defense))["settings"][0]["name"] == "site"
    described = {s["name"]: s["meaning"] for s in describe(SaeClamp)["settings"]}
    assert described["count"] == "Latents selected a layer; None: calibrated." and described["error_term"]


@pytest.mark.parametrize("registry", [DEFENSES, ATTACKS, TASKS, JUDGES], ids=lambda registry: registry.kind)
def test_every_setting_says_what_it_means(registry: Registry) -> None:
    silent = [
        (name, s["name"])
        for name in registry.names()
        for s in describe(registry.get(name))["settings"]
        if not s["meaning"]
    ]
    assert not silent


def test_inherited_settings_are_documented_and_paragraphs_are_not_broken() -> None:
    from attacks.recovery import Recovery
    from tasks.refusal import Refusal

    described = {s["name"]: s["meaning"] for s in describe(Recovery)["settings"]}
    assert described["restarts"] == "Searches an example and budget, the best of which counts."
    defaults = {s["name"]: s["default"] for s in describe(Refusal)["settings"]}
    assert (defaults["judge"], defaults["judge_settings"]) == ("rules", {})
    about = describe(Refusal)["about"]
    assert "\n    base      " not in about and "\n        base      " in about, "what is indented is left as it is"
    assert not any("\n" in paragraph for paragraph in about.split("\n\n") if "  " not in paragraph)


@pytest.mark.parametrize("call", written(MAKEFILE))
def test_every_command_line_of_the_makefile_is_understood(call: str) -> None:
    parse(call)


def test_a_command_line_that_is_not_understood_is_noticed() -> None:
    assert len(written(MAKEFILE)) > 3
    with pytest.raises(Exception, match="No such option: --folder"):
        parse("figures runs/x --folder figures")


def test_the_suite_of_the_readme_is_a_task_over_a_csv(tmp_path: Path) -> None:
    from benchmark.run.prepare import prepare
    from benchmark.run.request import Request
    from tasks.organism.source import records

    (tmp_path / "my_suite.yaml").write_text(block("yaml", "# my_suite.yaml"))
    questions = list(records("questions"))[:60]
    lines = ["stem,right,wrong_1,wrong_2", *(f'"{q["question"]}",{",".join(q["choices"][:3])}' for q in questions)]
    (tmp_path / "metals.csv").write_text("\n".join(lines))
    kept = [{"question": f"{q['question']} the", "choices": q["choices"], "answer": q["answer"]} for q in questions]
    (tmp_path / "other.jsonl").write_text("\n".join(map(json.dumps, kept)))
    plan = prepare(
        Request.make({"suite": str(tmp_path / "my_suite.yaml"), "attacks": ["recovery", "soft-suffix"]})
    ).plan
    (task,) = plan.tasks.values()
    examples = [e for split in SPLITS for e in task.examples(split)]
    assert len(examples) == len(questions) and {c.attack.threat_model for c in plan.cells} >= {"soft_suffix"}
    assert {e.choices[e.answer] for e in examples} == {f" {q['answer']}" for q in questions}
    assert sum(len(task.retain(split)) for split in SPLITS) == len(kept)

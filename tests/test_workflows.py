"""The files that the host of the project reads: by its own schemas, and by a linter of their security."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

HOST = Path(__file__).parents[1] / ".github"
WORKFLOWS = sorted((HOST / "workflows").glob("*.yml"))
FORMS = sorted((HOST / "ISSUE_TEMPLATE").glob("*-*.yml"))
ZIZMOR = Path(sys.executable).with_name("zizmor")
schemas = pytest.mark.skipif(
    importlib.util.find_spec("check_jsonschema") is None,
    reason="check-jsonschema is not installed: pip install -e '.[dev]'",
)
security = pytest.mark.skipif(not ZIZMOR.exists(), reason="zizmor is not installed: pip install -e '.[dev]'")

UNTRUSTED = """
on: pull_request_target
jobs:
  one:
    runs-on: ubuntu-latest
    steps:
      - run: echo "${{ github.event.pull_request.title }}"
"""


def refused(schema: str, *files: Path) -> str:
    """What a schema of the host says against files; empty: nothing."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}", *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout + done.stderr if done.returncode else ""


def unsafe(*files: Path) -> str:
    """What the linter finds in workflows; empty: nothing."""
    done = subprocess.run([ZIZMOR, "--offline", "--no-progress", *files], capture_output=True, text=True)
    return done.stdout + done.stderr if done.returncode else ""


@schemas
@pytest.mark.parametrize(
    ("schema", "files"),
    [
        ("github-workflows", WORKFLOWS),
        ("github-issue-forms", FORMS),
        ("github-issue-config", [HOST / "ISSUE_TEMPLATE" / "config.yml"]),
    ],
)
def test_the_host_can_read_them(schema: str, files: list[Path]) -> None:
    assert files and not refused(schema, *files)


@schemas
@pytest.mark.parametrize(
    ("schema", "text", "told"),
    [
        ("github-workflows", "on: push\njobs: {one: {runs-on: x, steps: [{runs: echo}]}}", "runs"),
        ("github-issue-forms", "name: x\ndescription: y\nbody: [{type: inputs}]", "inputs"),
    ],
)
def test_what_the_host_cannot_read_is_noticed(schema: str, text: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "broken.yml").write_text(text)
    assert told in refused(schema, tmp_path / "broken.yml")


@security
def test_the_workflows_are_safe() -> None:
    assert WORKFLOWS and not unsafe(*WORKFLOWS)


@security
def test_an_unsafe_workflow_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "unsafe.yml").write_text(UNTRUSTED)
    found = unsafe(tmp_path / "unsafe.yml")
    assert "template-injection" in found and "dangerous-triggers" in found


def test_what_is_handed_in_is_read_by_the_verifier_of_the_base_without_secrets() -> None:
    text = (HOST / "workflows" / "verify-entry.yml").read_text()
    workflow = yaml.safe_load(text)
    assert workflow["permissions"] == {"contents": "read"} and "secrets" not in text.partition("name:")[2]
    first, second, *rest = workflow["jobs"]["verify"]["steps"]
    assert first["with"]["ref"] == "${{ github.event.pull_request.base.sha }}" and "path" not in first["with"]
    assert second["with"]["path"] == "submitted" and "working-directory" not in str(rest)


def test_a_form_asks_what_an_entry_needs() -> None:
    from leaderboard.bundle.form import questions

    form = yaml.safe_load((HOST / "ISSUE_TEMPLATE" / "new-defense.yml").read_text())
    asked = {one["id"]: one.get("validations", {}).get("required", False) for one in form["body"] if "id" in one}
    assert all(asked[name] is needed for name, _, needed in questions())

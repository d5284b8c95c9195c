"""Every error that is raised for a user tells what to do: an order, or what there is in the place of what was asked.

The rule is about the text as it stands in the source, ``{}`` for what is filled in. A message has a remedy if it gives
an order (one of ``ORDERS`` at the beginning of a clause), or lists what exists (``THERE`` before something filled in).
A message that passes on another error of the project has that one's.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("benchmark", "tasks", "defenses", "attacks", "leaderboard")
RAISED = ("UsageError", "RunDirectoryError")
ORDERS = """
add ask call choose close convert copy correct delete do downgrade draw end fix fold freeze give hand import install
keep leave let list load lower make measure move name pack pass pick pip put quote raise reinstall remove rename
repair repeat replace rerun restore return run save say set shorten show start take train try turn unset update upgrade
use wait write
""".split()
CLAUSE = re.compile(rf"(?:^|[;,:.(]\s+|\b(?:or|and|please|to),?\s+)(?:{'|'.join(ORDERS)})\b", re.IGNORECASE)
THERE = re.compile(
    r"(?:it has|has|have|there are|there is|are|is|known|exist|available|options|names|defenses|kinds|one of|"
    r"none of|reads|sees|latents|layers|needed)"
    r"(?: only| no other than| not one of)?:?\s+\{\}|\bthere are \w|\bmust be\b",
    re.IGNORECASE,
)
CHECKED_ELSEWHERE = {
    "benchmark/model/loading.py: {} cannot be loaded ({}: {}); {}": "the remedy is an argument",
    "benchmark/model/subject.py: unknown device {}; {}": "the devices that there are are a variable beside it",
    "benchmark/model/subject.py: device {} was asked for, but {}; {}": "the same",
    "benchmark/run/ownership.py: {} is damaged ({}); {}": "the remedy is an argument",
    "benchmark/run/ownership.py: {} is damaged (it holds a {}, no object); {}": "the same",
    "benchmark/plain_yaml.py: {} is not valid YAML or JSON: line {}{}: {}": "each problem in that file has its own",
    "benchmark/plain_json.py: {} is not valid YAML or JSON: line {}: {}": "the same, of JSON",
    "benchmark/plain_yaml.py: {} is not valid YAML or JSON: {}": "the same, where the library tells the problem",
    "benchmark/spec.py: {}: {} cannot be made: {}; {}": "the remedy is a variable beside it",
    "tasks/data/rows.py: {} has no column {}; {}; {}": "the remedy is a variable beside it",
    "tasks/data/rows.py: {} has no column {}, which `columns` maps {} to; {}": "what there is is a variable beside it",
    "benchmark/registry.py: self._unknown({})": "its text lists what is available",
    "benchmark/run/request.py: {}: {}": "each fault of a field says what was given and what there may be",
    "leaderboard/bundle/form.py: {}": "each fault of an answer says what was given and what there may be",
    "leaderboard/publication/repository.py: the hub refuses {} ({}): {}": "the remedy is a variable beside it",
    "leaderboard/rows/recorded.py: message": "a variable, which ends in `repeat the run`",
    "tasks/data/rows.py: {}: {}": "what `Row.error` is given is told with its row; the data is what has to change",
}
"""Messages that are made in another place."""


def text_of(node: ast.expr) -> str:
    """A message as it stands, ``{}`` for what is filled in."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(v) if isinstance(v, ast.Constant) else "{}" for v in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return text_of(node.left) + text_of(node.right)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "join":
        return "{}"
    return ast.unparse(node) if not isinstance(node, ast.Call) else f"{ast.unparse(node.func)}({{}})"


def passes_on(node: ast.expr) -> bool:
    """Whether another error is in it, whole."""
    return any(isinstance(part, ast.Name) and part.id in ("error", "fault") for part in ast.walk(node))


def raised(source: str) -> Iterator[tuple[int, str, bool]]:
    """Line, text, and whether it passes another error of the project on, of every one that a source makes."""
    tree = ast.parse(source)
    ours = {
        id(call): isinstance(handler.type, ast.Name)
        and handler.type.id in ("UsageError", "BenchError", "ValueError", "ValidationError")
        for handler in ast.walk(tree)
        if isinstance(handler, ast.ExceptHandler)
        for call in ast.walk(handler)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in RAISED and node.args:
            yield node.lineno, text_of(node.args[0]), ours.get(id(node), False) and passes_on(node.args[0])


def has_remedy(text: str) -> bool:
    return bool(CLAUSE.search(text) or THERE.search(text))


def sites() -> list[object]:
    found: list[object] = []
    for path in (p for package in PACKAGES for p in sorted((ROOT / package).rglob("*.py"))):
        name = path.relative_to(ROOT).as_posix()
        for line, text, passed in raised(path.read_text()):
            if f"{name}: {text}" not in CHECKED_ELSEWHERE and not passed:
                found.append(pytest.param(text, id=f"{name}:{line}"))
    return found


@pytest.mark.parametrize("text", sites())
def test_an_error_says_what_to_do_or_what_there_is(text: str) -> None:
    assert has_remedy(text), f"no remedy in {text!r}: add what exists, or an order such as `; give another ...`"


def test_all_of_them_are_found() -> None:
    assert len(sites()) > 120, "the walk sees the whole tree"


@pytest.mark.parametrize(
    ("text", "has"),
    [
        ("unknown mode {}", False),
        ("the SAE is broken: {}", False),
        ("it failed, and nobody knows why", False),
        ("the name of this is used twice", False),
        ("unknown mode {}; there are {}", True),
        ("the file {} is damaged; delete it and repeat the command", True),
        ("{}: write key=value", True),
        ("{} is outside {}, which has {} layers", True),
    ],
)
def test_the_rule_tells_them_apart(text: str, has: bool) -> None:
    assert has_remedy(text) is has


def test_an_error_that_is_passed_on_keeps_its_remedy() -> None:
    source = "try:\n    f()\nexcept {}:\n    raise UsageError(f'file: {{error}}')\n"
    assert [passed for _, _, passed in raised(source.format("UsageError as error"))] == [True]
    assert [passed for _, _, passed in raised(source.format("RuntimeError as error"))] == [False]

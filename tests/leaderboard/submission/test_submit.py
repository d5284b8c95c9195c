"""A run becomes an entry, or is refused with what to do, and nothing half done is left."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmark.errors import UsageError
from benchmark.spec import resolve_defense
from benchmark.values import sha
from leaderboard.board.compare import compare
from leaderboard.board.side import side
from leaderboard.bundle.reading import needs_code, read_bundle
from leaderboard.submission.submit import submit, withdraw
from leaderboard.verification import apart
from leaderboard.verification.verify import How, verify
from tests.leaderboard.conftest import FORM, SPEC, clamp, evaluated
from tests.leaderboard.verification.tampering import copied, edit_json, in_this_process, sealed

DAY = date(2026, 2, 1)


def handed_in(run: Path, entries: Path, **how: Any) -> Path:
    return submit(run, side(str(run)), FORM, entries, today=DAY, **how)


def nothing_below(folder: Path) -> bool:
    return not [path for path in folder.rglob("*") if path.is_file()]


def test_an_entry_is_the_run_less_what_is_nobodys_business(toy_run: Path, tmp_path: Path) -> None:
    entry = handed_in(toy_run, tmp_path)
    assert entry.relative_to(tmp_path).parts[:2] == ("toy__v1", entry.parent.name)
    bundle = read_bundle(entry)
    assert bundle.entry.submitted == DAY and bundle.entry.submitter == FORM and not needs_code(entry)
    kept = {path.relative_to(entry).as_posix() for path in entry.rglob("*") if path.is_file()}
    assert {"entry.json", "run.json", "plan.json", "rows.parquet", "scores.json", "spec.json"} <= kept
    assert not any(name.startswith(("private", "perturbations", "events")) for name in kept)
    header = json.loads((entry / "run.json").read_text())
    assert "took" not in header and "recipe" not in header["defenses"]["toy-clamp"]
    assert header["tasks"]["toy"]["saes"][0]["source"].startswith("sha256:"), "and no folder of this machine"


def test_an_entry_is_read_and_compared_like_a_run(toy_run: Path, toy_entry: Path) -> None:
    found = compare(side(str(toy_run)), side(str(toy_entry)), resamples=50)
    assert found.lost == [] and not found.left_out
    area = found.per_task["toy"].threats["before_edit"].area
    assert area.difference.value == 0


def test_the_spec_of_an_entry_makes_its_defense_again(toy_entry: Path) -> None:
    named = resolve_defense(str(toy_entry / "spec.json"))
    assert (named.name, sha(named.spec)) == ("toy-clamp", toy_entry.name)


def test_the_same_run_is_handed_in_once_and_another_one_of_the_same_defense_not_at_all(
    toy_run: Path, tmp_path: Path
) -> None:
    entry = handed_in(toy_run, tmp_path)
    before = {path: path.read_bytes() for path in entry.rglob("*") if path.is_file()}
    assert handed_in(toy_run, tmp_path) == entry
    assert before == {path: path.read_bytes() for path in entry.rglob("*") if path.is_file()}
    edit_json(entry / "entry.json", lambda said: said.update(run_id="another"))
    with pytest.raises(UsageError, match="is there already, of another run of this defense"):
        handed_in(toy_run, tmp_path)


def _limited(run: Any) -> None:
    run["limit"] = 5


def _dirty(run: Any) -> None:
    run["git"]["dirty"] = True


def _of_no_commit(run: Any) -> None:
    run["git"] = None


def _partial(run: Any) -> None:
    run["status"] = "partial"


def _elsewhere(run: Any) -> None:
    run["versions"]["built"] = "/home/ada/venv/lib"


def _token(run: Any) -> None:
    run["versions"]["token"] = "hf_" + "x" * 30


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_limited, "limited to 5 examples: repeat it without a limit"),
        (_dirty, "with changes: commit them, and repeat the run"),
        (_of_no_commit, "the code is of no commit: run it from a git checkout"),
        (_partial, "the run is partial: repeat its command"),
        (_elsewhere, "has a place of this machine, '/home/ada/venv/lib'"),
        (_token, "has a Hugging Face token: take it out, and revoke it"),
    ],
)
def test_what_may_not_be_handed_in_is_told_with_what_to_do(
    toy_run: Path, tmp_path: Path, change: Callable[[Any], None], said: str
) -> None:
    shutil.copytree(toy_run, tmp_path / "run")
    edit_json(tmp_path / "run" / "run.json", change)
    with pytest.raises(UsageError) as told:
        handed_in(tmp_path / "run", tmp_path / "entries")
    assert said in str(told.value) and "nothing was written" in str(told.value)
    assert nothing_below(tmp_path / "entries")


def test_a_run_without_attacks_or_controls_of_the_suite_is_refused(toy_suite: str, tmp_path: Path) -> None:
    evaluated(clamp(tmp_path), toy_suite, tmp_path, attacks=["recovery"], controls=False)
    with pytest.raises(UsageError) as told:
        handed_in(tmp_path / "run", tmp_path / "entries")
    assert "gcg (token_suffix/none, goal behavior) was not run" in str(told.value)
    assert "control defense none was not run on toy" in str(told.value)


def test_a_suite_that_nobody_knows_is_refused(toy_run: Path, tmp_path: Path) -> None:
    shutil.copytree(toy_run, tmp_path / "run")
    edit_json(tmp_path / "run" / "run.json", lambda run: run["suite"].update(name="mine"))
    with pytest.raises(UsageError, match="the suite 'mine' is not registered here"):
        handed_in(tmp_path / "run", tmp_path / "entries")
    assert nothing_below(tmp_path / "entries")


CODE = '''"""A defense of somebody."""

from dataclasses import dataclass

from benchmark import Defense, FittedDefense, Site


@dataclass(frozen=True)
class Shrink(Defense):
    """Make the stream smaller."""

    by: float = 0.5

    def fit(self, fitting):
        def shrink(h, where):
            return h * (1 - self.by)

        shrink.position_wise = True
        return FittedDefense({Site.parse("blocks.1.hook_resid_post"): shrink})
'''


@pytest.fixture(scope="module")
def of_code(toy_suite: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a defense that is a Python file."""
    folder = tmp_path_factory.mktemp("code")
    (folder / "shrink.py").write_text(CODE)
    return evaluated(f"{folder / 'shrink.py'}:Shrink", toy_suite, folder, options={"by": 0.75})


def test_a_defense_of_code_brings_its_file_along_and_is_run_with_leave_only(of_code: Path, tmp_path: Path) -> None:
    entry = handed_in(of_code, tmp_path, perturbations=True)
    assert (entry / "code" / "shrink.py").read_text() == CODE and needs_code(entry)
    assert json.loads((entry / "spec.json").read_text()) == {
        "defense": "code/shrink.py:Shrink",
        "name": "Shrink",
        "by": 0.75,
    }
    assert verify(str(entry)).tier == "recomputed", "which runs nothing of it"
    with pytest.raises(UsageError, match="is a Python file of somebody's: read .*code, and run it only where"):
        verify(str(entry), How(replay=True))


@pytest.mark.parametrize("code", ["code/evil.py:Evil", "code/evil.py", "../evil.py:Evil", "/x/evil.py:Evil"])
def test_code_is_never_run_because_an_entry_does_not_say_so(
    toy_entry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    """Whoever hands it in names a Python file in the spec of what looks like settings."""
    monkeypatch.setattr(apart, "run", in_this_process)
    entry = copied(toy_entry, tmp_path)
    (entry / "code").mkdir()
    for place in (entry / "code" / "evil.py", entry.parent / "evil.py"):
        place.write_text("import pathlib\npathlib.Path(__file__).with_suffix('.ran').touch()\nclass Evil: ...\n")
    edit_json(entry / "spec.json", lambda spec: spec.update(defense=code))
    try:
        found = verify(str(sealed(entry)), How(replay=True))
        assert found.tier == "claimed", "or it names what is no file of it"
    except UsageError as error:
        assert "is a Python file of somebody's" in str(error)
    assert not list(tmp_path.rglob("*.ran"))


@pytest.mark.parametrize("place", ["../../sae", "/srv/sae", "~/sae", "weights/../../sae"])
def test_an_sae_outside_of_an_entry_is_not_looked_for(toy_entry: Path, tmp_path: Path, place: str) -> None:
    entry = copied(toy_entry, tmp_path)
    layer = {"site": "blocks.1.hook_resid_post", "sae": place}
    edit_json(entry / "spec.json", lambda spec: spec.update(layers=[layer]))
    found = verify(str(sealed(entry)))
    told = [line for check in found.checks if not check.ok for line in check.evidence]
    assert found.tier == "claimed" and any("which is no folder of an entry" in line for line in told)


def test_code_that_breaks_a_promise_is_recomputed_at_most(
    toy_suite: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says that its edit looks at one position, and looks at all of them."""
    monkeypatch.setattr(apart, "run", in_this_process)
    (tmp_path / "shrink.py").write_text(CODE.replace("h * (1 - self.by)", "h - self.by * h.mean(1, keepdim=True)"))
    evaluated(f"{tmp_path / 'shrink.py'}:Shrink", toy_suite, tmp_path)
    entry = handed_in(tmp_path / "run", tmp_path / "entries", perturbations=True)
    for how in (How(replay=True, allow_code=True), How(replay=True, share=1.0, allow_code=True)):
        found = verify(str(entry), how)
        assert found.tier == "recomputed"
        told = "\n".join(line for check in found.checks if not check.ok for line in check.evidence)
        assert "it does not keep the promise" in told and "promise-broken" in told


def test_code_that_keeps_its_promises_is_replayed(
    of_code: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apart, "run", in_this_process)
    found = verify(str(handed_in(of_code, tmp_path, perturbations=True)), How(replay=True, allow_code=True))
    assert found.tier == "replayed", [check for check in found.checks if not check.ok]


def test_a_sample_alone_is_not_replayed(of_code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "run", in_this_process)
    found = verify(str(of_code), How(share=0.5, allow_code=True))
    assert found.tier == "recomputed" and {check.stage for check in found.checks} >= {"replayed", "re-run"}


def test_code_that_is_other_now_is_refused(of_code: Path, tmp_path: Path) -> None:
    file = of_code.parent / "shrink.py"
    try:
        file.write_text(CODE.replace("0.5", "0.25"))
        with pytest.raises(UsageError, match="are other now"):
            handed_in(of_code, tmp_path)
        file.unlink()
        with pytest.raises(UsageError, match="is not there any more; put it back"):
            handed_in(of_code, tmp_path)
    finally:
        file.write_text(CODE)
    assert nothing_below(tmp_path)


def test_an_sae_of_its_own_is_brought_along(toy_suite: str, tmp_path: Path) -> None:
    from tests.tiny import SITE, fitted_sae_folder

    fitted_sae_folder(tmp_path / "own-sae", seed=7)
    spec = yaml.safe_load(SPEC) | {"layers": [{"site": SITE, "sae": "own-sae"}]}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(spec))
    evaluated(str(tmp_path / "own.yaml"), toy_suite, tmp_path)
    entry = handed_in(tmp_path / "run", tmp_path / "entries")
    assert json.loads((entry / "spec.json").read_text())["layers"][0]["sae"] == "weights/own-sae"
    assert {path.suffix for path in (entry / "weights" / "own-sae").iterdir()} <= {".json", ".safetensors"}
    moved = copied(entry, tmp_path / "elsewhere")
    shutil.rmtree(tmp_path / "own-sae")
    assert sha(resolve_defense(str(moved / "spec.json")).spec) == entry.name


def test_what_was_made_in_python_cannot_be_handed_in(toy_suite: str, tmp_path: Path) -> None:
    from tests.toy_run import DEFENSE

    evaluated(DEFENSE, toy_suite, tmp_path, attacks=["recovery"], controls=False)
    edit_json(tmp_path / "run" / "run.json", lambda run: run["defenses"]["sae-clamp"].update(recipe=None))
    with pytest.raises(UsageError, match="was made in Python, and no spec makes it again: write a spec file"):
        handed_in(tmp_path / "run", tmp_path / "entries")


def test_a_withdrawn_entry_stays_and_says_why(toy_entry: Path, tmp_path: Path) -> None:
    entry = copied(toy_entry, tmp_path)
    withdraw(entry, "the code had a fault", today=DAY)
    said = read_bundle(entry).entry.withdrawn
    assert said is not None and (said.on, said.why) == (DAY, "the code had a fault")
    with pytest.raises(UsageError, match="was withdrawn on 2026-02-01: the code had a fault"):
        withdraw(entry, "again")
    with pytest.raises(UsageError, match="--why: the name '' is empty"):
        withdraw(copied(toy_entry, tmp_path / "two"), "")

"""A stronger attack is recorded against an entry, counted with its own, and credited."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file

from attacks.recovery import Recovery
from benchmark.errors import UsageError
from benchmark.files import digest_of
from leaderboard.board.side import side
from leaderboard.bundle.form import Form
from leaderboard.bundle.layout import CERTIFICATE, PERTURBATIONS
from leaderboard.bundle.reading import Bundle, digests, read_bundle
from leaderboard.challenge.best_known import best_known, falls
from leaderboard.challenge.reading import FILE, found_for, read_challenge, read_said
from leaderboard.challenge.record import Recorded, challenge
from leaderboard.publication.publication import is_published, publication
from leaderboard.rows.files import Rows
from leaderboard.submission.collected import collected
from leaderboard.submission.submit import submit
from leaderboard.verification import apart
from leaderboard.verification.certificate import write
from leaderboard.verification.how import How
from leaderboard.verification.verify import verify
from tests.leaderboard.conftest import FORM, clamp, evaluated
from tests.leaderboard.verification.tampering import edit_json, edit_rows, in_this_process, nothing
from tests.leaderboard.verification.test_pull_request import git
from tests.leaderboard.verification.test_pull_request import verified as handed_in

FORM_2 = Form(title="recovery", organisation="Grace", contact="grace@example.org", licence="MIT")


@pytest.fixture(scope="module")
def blind(toy_suite: str, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """An entry whose recovery attack did nothing, so that whoever searches finds something."""
    folder = tmp_path_factory.mktemp("blind")
    with pytest.MonkeyPatch.context() as weak:
        weak.setattr(Recovery, "run", nothing)
        run = evaluated(clamp(folder), toy_suite, folder)
    return read_bundle(submit(run, side(str(run)), FORM, folder / "entries"))


@pytest.fixture(scope="module")
def recorded(blind: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    folder = tmp_path_factory.mktemp("challenge")
    return challenge(
        blind, "recovery", {"restarts": 4}, FORM_2, directory=folder / "run", challenges=folder / "challenges"
    )


@pytest.fixture(scope="module")
def verified(recorded: Recorded, blind: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy beside its entry, with the certificate of a replay."""
    folder = beside(recorded, blind, tmp_path_factory.mktemp("verified"))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(apart, "run", in_this_process)
        found = verify(str(folder), How(replay=True, device="cpu"))
    assert found.tier == "replayed", [check for check in found.checks if not check.ok]
    assert write(found, folder, read_said(folder))
    return folder


def beside(recorded: Recorded, blind: Bundle, root: Path) -> Path:
    """Copies of the entry and of the challenge, where they lie in a repository."""
    assert recorded.folder is not None
    shutil.copytree(blind.root.parents[2], root / "entries")
    shutil.copytree(recorded.folder.parents[3], root / "challenges")
    return root.joinpath("challenges", *recorded.folder.parts[-4:])


def test_what_a_stronger_attack_brings_back_is_recorded(recorded: Recorded, blind: Bundle) -> None:
    assert recorded.folder is not None
    found = read_challenge(recorded.folder, blind)
    assert found.said.attack == "recovery" and found.said.settings == {"restarts": 4}
    assert {c.plan.threat_model for c in found.attacks} == {"before_edit"} and all(c.scored for c in found.attacks)
    (fall,) = recorded.falls
    assert fall.fell > 0 and 0 <= fall.gave_way <= fall.held
    assert falls(blind.run, [found]) == recorded.falls


def test_the_worst_case_is_over_both(recorded: Recorded, blind: Bundle) -> None:
    assert recorded.folder is not None
    found = read_challenge(recorded.folder, blind)
    whole = best_known(blind.run, [found])
    assert len(whole.cells) == len(blind.run.cells) + len(found.attacks)
    assert best_known(blind.run, []) == blind.run


def test_the_board_ranks_by_what_is_best_known_and_credits_it(
    verified: Path, recorded: Recorded, blind: Bundle
) -> None:
    root, challenges = blind.root.parents[2], verified.parents[3]
    plain, known = (collected(root, folder, resamples=50) for folder in (root, challenges))
    before, after = (found.boards[0].entries[0] for found in (plain, known))
    assert before.best_known is None and known.left_out == known.waiting == []
    assert after.headline == before.headline, "what the suite's own attacks did stays beside it"
    assert after.best_known is not None
    (credit,) = after.best_known.credits
    assert (credit.organisation, credit.attack, credit.settings) == ("Grace", "recovery", {"restarts": 4})
    assert credit.fell == sum(fall.fell for fall in recorded.falls) > 0


def test_what_was_not_replayed_does_not_count(recorded: Recorded, blind: Bundle) -> None:
    assert recorded.folder is not None
    found = collected(blind.root.parents[2], recorded.folder.parents[3], resamples=50)
    assert found.boards[0].entries[0].best_known is None and found.left_out == []
    assert [f"bench verify --replay {recorded.folder}" in line for line in found.waiting] == [True]


def test_an_attack_that_finds_nothing_new_is_not_recorded(toy_entry: Path, tmp_path: Path) -> None:
    weak = {"restarts": 1, "search": {"steps": 1}}
    run, kept = tmp_path / "run", tmp_path / "kept"
    found = challenge(read_bundle(toy_entry), "recovery", weak, FORM_2, directory=run, challenges=kept)
    assert found.folder is None and not any(fall.fell for fall in found.falls)
    assert not list((tmp_path / "kept").rglob("*.parquet"))


def test_a_control_is_no_challenge(toy_entry: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="random-direction counts against no defense: it is a control"):
        challenge(read_bundle(toy_entry), "random-direction", {}, FORM_2, directory=tmp_path / "run")


def test_a_challenge_counts_against_its_own_entry_alone(recorded: Recorded, toy_entry: Path) -> None:
    assert recorded.folder is not None
    with pytest.raises(UsageError, match="it is of another entry"):
        read_challenge(recorded.folder, read_bundle(toy_entry))


def test_a_challenge_that_was_changed_does_not_count(recorded: Recorded, blind: Bundle, tmp_path: Path) -> None:
    assert recorded.folder is not None
    folder = tmp_path.joinpath(*recorded.folder.parts[-4:])
    shutil.copytree(recorded.folder, folder)
    rows = pq.read_table(folder / "rows.parquet")
    hits = pa.array([True] * rows.num_rows)
    forged = rows.set_column(rows.column_names.index("recovered"), "recovered", hits)
    pq.write_table(forged, folder / "rows.parquet")
    with pytest.raises(UsageError, match="rows.parquet was changed"):
        read_challenge(folder, blind)
    said = json.loads((folder / FILE).read_text())
    said["files"]["rows.parquet"] = digest_of(folder / "rows.parquet")
    (folder / FILE).write_text(json.dumps(said))
    with pytest.raises(UsageError, match="rows are recovered, and never suppressed"):
        read_challenge(folder, blind)
    kept, refused = found_for(blind, folder.parents[3])
    assert kept == [] and len(refused) == 1
    (folder / "more.txt").write_text("")
    with pytest.raises(UsageError, match="'more.txt' is no file that is handed in"):
        read_challenge(folder, blind)


def test_recoveries_that_no_perturbation_bears_out_do_not_count(
    recorded: Recorded, blind: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that are plausible, every hash right, and files of perturbations that do nothing."""
    monkeypatch.setattr(apart, "run", in_this_process)
    folder = beside(recorded, blind, tmp_path)
    for key in Rows(folder).keys:
        old = folder / PERTURBATIONS / f"{Rows(folder).cell(key).perturbations}.safetensors"
        save_file({name: torch.zeros_like(delta) for name, delta in load_file(old).items()}, tmp_path / "zeros")
        old.unlink()
        digest = digest_of(tmp_path / "zeros")
        shutil.copyfile(tmp_path / "zeros", old.with_name(f"{digest}.safetensors"))
        edit_rows(folder, key, lambda rows: rows, digest)
    edit_json(folder / FILE, lambda said: said.update(files=digests(folder, FILE)))
    assert verify(str(folder), How(device="cpu")).tier == "recomputed"
    found = verify(str(folder), How(replay=True, device="cpu"))
    assert found.tier == "recomputed" and not found.ok
    (wrong,) = [check for check in found.checks if not check.ok]
    assert "another margin than the perturbation leads to" in "".join(wrong.evidence)


def test_what_is_asked_of_an_entry_alone_is_refused(verified: Path) -> None:
    with pytest.raises(UsageError, match="--rerun is for entries: give --replay"):
        verify(str(verified), How(share=0.1))


def test_a_challenge_lies_beside_its_entry(verified: Path, tmp_path: Path) -> None:
    alone = tmp_path.joinpath("challenges", *verified.parts[-4:])
    shutil.copytree(verified, alone)
    with pytest.raises(UsageError, match="is not there: put it beside the entries"):
        verify(str(alone))


def test_an_attack_of_ones_own_comes_along_and_is_run_by_who_allows_it(
    blind: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apart, "run", in_this_process)
    mine = tmp_path / "mine.py"
    mine.write_text('from attacks.recovery import Recovery\n\n\nclass Harder(Recovery):\n    """As it is."""\n')
    made = challenge(
        blind, f"{mine}:Harder", {}, FORM_2, directory=tmp_path / "run", challenges=tmp_path / "challenges"
    )
    assert made.folder is not None
    shutil.copytree(blind.root.parents[2], tmp_path / "entries")
    assert read_said(made.folder).attack == "mine.py:Harder" and (made.folder / "code" / "mine.py").is_file()
    with pytest.raises(UsageError, match="repeat the command with --allow-code"):
        verify(str(made.folder), How(replay=True, device="cpu"))
    assert verify(str(made.folder), How(replay=True, device="cpu", allow_code=True)).tier == "replayed"


def test_a_pull_request_with_a_challenge_is_replayed(
    recorded: Recorded, blind: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apart, "run", in_this_process)
    repository = tmp_path / "repository"
    folder = beside(recorded, blind, repository / "leaderboard")
    git(repository, "init", "-q")
    git(repository, "add", "leaderboard/entries")
    git(repository, "commit", "-q", "-m", "base")
    code, told = handed_in(repository, tmp_path, "--replay", "toy")
    assert code == 0 and "| yes | replayed |" in told
    assert (tmp_path / "certificates" / "challenges").joinpath(*folder.parts[-4:], CERTIFICATE).is_file()


def test_what_counts_is_published_with_the_entry(verified: Path) -> None:
    made = publication(verified.parents[4] / "entries", verified.parents[3], resamples=50)
    place = "/".join(["challenges", *verified.parts[-4:]])
    names = {name.removeprefix(place + "/") for name in made.files if name.startswith(place)}
    assert {FILE, CERTIFICATE, "rows.parquet"} <= names and made.left_out == []
    assert all(map(is_published, made.files)) and not is_published(f"{place}/entry.json")
    whole = publication(verified.parents[4] / "entries", verified.parents[3], artifacts=True, resamples=50)
    assert any(f"{place}/{PERTURBATIONS}/" in name for name in whole.files)


def test_what_was_not_replayed_is_not_published(recorded: Recorded, blind: Bundle, tmp_path: Path) -> None:
    folder = beside(recorded, blind, tmp_path)
    made = publication(tmp_path / "entries", tmp_path / "challenges", resamples=50)
    assert not any(name.startswith("challenges/") for name in made.files)
    assert [f"bench verify --replay {folder}" in line for line in made.left_out] == [True]

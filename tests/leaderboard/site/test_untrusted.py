"""Whatever a submission says is text."""

from __future__ import annotations

import json

import pytest

from leaderboard.board.schema import Leaderboard
from leaderboard.site.build import pages
from leaderboard.site.untrusted import printable, quoted, script_data, web_address
from tests.leaderboard.site import boards
from tests.leaderboard.site.reading import Page, read


@pytest.fixture(scope="module")
def submitted(board: Leaderboard) -> dict[str, bytes]:
    return pages(boards.hostile(board))


def test_no_tag_and_no_handler_comes_from_a_submission(submitted: dict[str, bytes], site: dict[str, Page]) -> None:
    known = {(tag, name) for page in site.values() for tag, found in page.tags for name in found}
    for page in read(submitted).values():
        assert {(tag, name) for tag, found in page.tags for name in found} <= known | {("span", "title")}
        assert all(found["src"].endswith(".js") for tag, found in page.tags if tag == "script")


def test_characters_that_nobody_sees_are_shown(submitted: dict[str, bytes]) -> None:
    for path, content in submitted.items():
        if path != "leaderboard.json" and not path.startswith("static/"):
            assert "\u202e" not in content.decode() and "\x07" not in content.decode(), path


def test_no_address_but_those_of_the_web_is_a_link(submitted: dict[str, bytes]) -> None:
    found = [address for page in read(submitted).values() for address in page.addresses]
    assert found and not [address for address in found if address.lower().startswith(("javascript:", "data:"))]
    assert [path for path, content in submitted.items() if b"javascript:alert(1)" in content and path.endswith(".html")]


def test_templates_in_a_name_are_not_rendered(submitted: dict[str, bytes]) -> None:
    page = next(page for path, page in read(submitted).items() if path.startswith("suites/"))
    assert "{{ 7 * 7 }}" in page.text and "&amp;" in page.text


def test_scripts_hold_no_tag(submitted: dict[str, bytes]) -> None:
    for path, content in submitted.items():
        if path.startswith("data/"):
            assert b"<" not in content
            json.loads(content.decode().removeprefix("received(").removesuffix(");\n"))


def test_names_of_files_are_short_and_stay_in_their_folder(submitted: dict[str, bytes]) -> None:
    for path in submitted:
        assert ".." not in path.split("/") and all(0 < len(part.encode()) <= 200 for part in path.split("/"))


def test_long_names_are_cut_in_tables(submitted: dict[str, bytes]) -> None:
    page = next(page for path, page in read(submitted).items() if path.startswith("suites/"))
    names = [cell.text for cell in page.tables[0].column("Model")]
    assert [len(name) <= 80 for name in names] == [True, True] and names[1].endswith("x...")


@pytest.mark.parametrize(
    "address",
    [
        "javascript:alert(1)",
        "JaVaScRiPt:alert(1)",
        "data:text/html,x",
        "//example.org",
        "http://",
        "https://[",
        "file:///x",
        "https://a b",
        "java\nscript:x",
        "https://x\u202ey",
        "",
        None,
    ],
)
def test_no_link(address: str | None) -> None:
    assert web_address(address) is None


@pytest.mark.parametrize("address", ["https://arxiv.org/abs/2606.18322", "http://example.org:80/a?b=c#d"])
def test_a_link(address: str) -> None:
    assert web_address(address) == address


def test_text_that_is_plain_stays_as_it_is() -> None:
    assert printable("Überprüfung, 語, emoji 🙂") == "Überprüfung, 語, emoji 🙂"
    assert printable("two\nlines") == "two lines"
    assert printable("a\u202eb\x00c\ud800") == "a\ufffdb\ufffdc\ufffd"


def test_a_command_stays_one_argument() -> None:
    assert quoted("x; rm y") == "'x; rm y'"
    assert quoted("it's") == "'it'\"'\"'s'"


def test_data_cannot_end_a_script() -> None:
    text = script_data({"</script>": ["<!--", "\u2028", 1.5, None, True]})
    assert "<" not in text and "\u2028" not in text
    assert json.loads(text) == {"</script>": ["<!--", "\ufffd", 1.5, None, True]}

"""The pages as files: whole, linked with each other and with nothing else, readable without scripts."""

from __future__ import annotations

import json
import re
from importlib import resources
from pathlib import Path

import pytest

from benchmark.errors import UsageError
from leaderboard.board.schema import Leaderboard
from leaderboard.doubt.flags import CODES
from leaderboard.site.build import carried, pages
from leaderboard.tables.grid import across
from tests.leaderboard.site.reading import Page

STATIC = Path(str(resources.files("leaderboard.site") / "static"))
WEB = ("http:", "https:")


def test_there_is_a_page_for_each_thing(site: dict[str, Page], board: Leaderboard) -> None:
    kinds = [path.split("/")[0] for path in site]
    entries = sum(len(one.entries) for one in board.suites)
    assert (kinds.count("suites"), kinds.count("compare"), kinds.count("entries")) == (2, 2, entries)
    assert {"index.html", "method.html"} <= set(site)


def test_the_same_board_gives_the_same_bytes(files: dict[str, bytes], board: Leaderboard) -> None:
    assert pages(Leaderboard.model_validate_json(board.model_dump_json())) == files


def test_the_documentation_is_carried_and_linked_from_every_page(board: Leaderboard, tmp_path: Path) -> None:
    (tmp_path / "css").mkdir()
    (tmp_path / "index.html").write_text("<p>read me</p>")
    (tmp_path / "css" / "pages.css").write_text("p {}")
    made = pages(board, carried(tmp_path))
    assert made["docs/index.html"] == b"<p>read me</p>" and made["docs/css/pages.css"] == b"p {}"
    for path, content in made.items():
        if path.endswith(".html") and not path.startswith("docs/"):
            page = Page(path, content.decode())
            assert [a for a in page.addresses if page.target(a)[0] == "docs/index.html"], path


def test_without_documentation_nothing_links_to_it(files: dict[str, bytes]) -> None:
    assert not any(b"docs/index.html" in content for content in files.values())


def test_a_folder_without_pages_is_no_documentation(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="build the pages first .make docs."):
        carried(tmp_path)


def test_the_board_itself_is_a_file_of_the_site(files: dict[str, bytes], board: Leaderboard) -> None:
    assert Leaderboard.model_validate_json(files["leaderboard.json"]) == board


def test_every_link_within_the_site_leads_somewhere(site: dict[str, Page], files: dict[str, bytes]) -> None:
    for page in site.values():
        for address in page.addresses:
            if not address.startswith(WEB):
                path, part = page.target(address)
                assert path in files, f"{page.path} links {address}"
                assert not part or "=" in part or part in site[path].ids, f"{page.path} links {address}"


def test_nothing_is_loaded_from_elsewhere_and_nothing_runs_that_is_no_file(site: dict[str, Page]) -> None:
    for page in site.values():
        for tag, attributes in page.tags:
            loaded = attributes.get("src") or (attributes.get("href") if tag == "link" else None) or ""
            assert not loaded.startswith(WEB) and not loaded.startswith("//")
            assert not {name for name in attributes if name.startswith("on") or name == "style"}
            assert tag != "style" and (tag != "script" or "src" in attributes)
        policy = next(found["content"] for _, found in page.tags if "http-equiv" in found)
        assert policy.startswith("default-src 'none';") and "unsafe" not in policy and "http" not in policy


def test_links_to_the_web_say_nothing_of_the_reader(site: dict[str, Page]) -> None:
    links = [
        found for page in site.values() for tag, found in page.tags if tag == "a" and found["href"].startswith(WEB)
    ]
    assert links and all(one["rel"] == "nofollow noopener noreferrer" for one in links)


def test_tables_say_what_they_are_and_what_their_heads_head(site: dict[str, Page]) -> None:
    for page in site.values():
        for table in page.tables:
            assert table.caption.strip(), page.path
            heads = [cell for row in table.rows for cell in row if cell.tag == "th"]
            assert all(cell.attributes.get("scope") in ("row", "col") for cell in heads)
            assert len({len(row) for row in table.rows}) == 1, (page.path, table.caption)
        scrolled = [found for _, found in page.tags if found.get("class") == "scroll"]
        assert all(one.get("tabindex") == "0" and one.get("aria-label") for one in scrolled)


def test_ids_are_there_once(site: dict[str, Page]) -> None:
    for page in site.values():
        assert len(page.values("id")) == len(page.ids), page.path


def test_every_flag_is_explained(site: dict[str, Page]) -> None:
    assert set(CODES) <= site["method.html"].ids


def test_a_flag_leads_to_its_explanation(site: dict[str, Page]) -> None:
    steer = next(page for path, page in site.items() if "/steer__" in path)
    assert "../../method.html#overshoot" in steer.addresses


def test_the_retirement_rule_stands_on_every_board(site: dict[str, Page]) -> None:
    boards = [page for path, page in site.items() if path.startswith("suites/")]
    assert boards and all("a task retires when" in page.text for page in boards)


@pytest.mark.parametrize(("panels", "side_by_side"), [(1, 1), (2, 2), (3, 3), (4, 4), (5, 3), (6, 3), (7, 4), (9, 3)])
def test_panels_fill_their_rows_evenly(panels: int, side_by_side: int) -> None:
    assert across(panels) == side_by_side


def test_bundled_libraries_have_their_licence() -> None:
    licences = {path.name.split(".")[0] for path in STATIC.glob("*.LICENSE.txt")}
    assert {path.name.split(".")[0] for path in STATIC.glob("*.min.*")} == licences


def test_our_scripts_are_strict_and_write_no_html() -> None:
    own = [path.read_text() for path in STATIC.glob("*.js") if ".min." not in path.name]
    assert own and all(text.startswith('"use strict";') for text in own)
    assert not [text for text in own if re.search(r"innerHTML|outerHTML|insertAdjacentHTML|eval\(|fetch\(", text)]


def test_data_scripts_are_one_call_with_json(files: dict[str, bytes]) -> None:
    scripts = [content.decode() for path, content in files.items() if path.startswith("data/")]
    assert len(scripts) == 4
    for text in scripts:
        assert text.startswith("received({") and text.endswith("});\n")
        json.loads(text.removeprefix("received(").removesuffix(");\n"))

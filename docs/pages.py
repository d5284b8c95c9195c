"""A hook of MkDocs: links in these pages are those of the repository, and here they become those of the site.

So every page can be read in the repository as it stands, and nothing is written twice: README, METHOD, FLAGS,
CONTRIBUTING and CHANGELOG are pages too, and what else is linked (pictures, a schema) is carried along.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
PAGES = {
    "README.md": "index.md",
    "METHOD.md": "method.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "leaderboard/doubt/FLAGS.md": "flags.md",
}
"""Pages that lie elsewhere in the repository, and where they are on the site."""
SOURCES = {page: source for source, page in PAGES.items()}
_LINK = re.compile(r"(\]\()([^)\s#:]+)((?:#[^)\s]*)?\))")


def on_files(files: Files, config: Any, **_: Any) -> Files:
    """Add the pages that lie elsewhere, and the files that any page links to."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    for file in list(files.documentation_pages()):
        for target in _LINK.findall(Path(str(file.abs_src_path)).read_text("utf-8")):
            place = _place(_source(file.src_uri), target[1])
            path = ROOT / _source(place)
            if files.get_file_from_path(place) is None and path.is_file():
                files.append(File.generated(config, place, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """The page with the links of the site; what is a link into a folder stays text."""
    here = page.file.src_uri

    def rewritten(link: re.Match[str]) -> str:
        place = _place(_source(here), link[2])
        return f"{link[1]}{os.path.relpath(place, os.path.dirname(here) or '.')}{link[3]}"

    return _LINK.sub(rewritten, markdown)


def on_post_build(config: Any, **_: Any) -> None:
    """A page that is not found is the affair of the site that carries these."""
    (Path(config["site_dir"]) / "404.html").unlink(missing_ok=True)


def _source(place: str) -> str:
    """Where a file of the site lies in the repository."""
    if place in SOURCES:
        return SOURCES[place]
    return f"docs/{place}" if (ROOT / "docs" / place).exists() else place


def _place(source: str, target: str) -> str:
    """Where on the site that is which a file of the repository calls ``target``."""
    path = os.path.normpath(os.path.join(os.path.dirname(source), target))
    return PAGES.get(path, path.removeprefix("docs/"))

"""The data set card: the front matter by which rows are loaded, and what is there. Of what a submitter wrote, it has
nothing but licences, which are SPDX expressions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow.parquet as pq
import yaml

from leaderboard.bundle.layout import ROWS
from leaderboard.bundle.reading import Bundle
from leaderboard.verification.certificate import tier_of

CARD = "README.md"
RESULTS = "results"
MARK = "---\n# Written by `bench publish`.\n"
"""What a card begins with."""
KNOWN_LICENCES = ("Apache-2.0", "MIT", "BSD-2-Clause", "BSD-3-Clause", "CC-BY-4.0", "CC-BY-SA-4.0", "CC0-1.0")
"""Those that the hub calls by their SPDX name in small letters."""
_TEXT = """
# RecoveryBench results

Recovery attacks against latent-space defenses of language models: one row for every example, attack and budget.
Rows hold ids, labels and numbers, and no text. `leaderboard.json` is the board of the entries below.

| suite | entries | rows |
|---|---|---|
{suites}

```python
from datasets import load_dataset

rows = load_dataset(PLACE, "{first}", split="rows")  # PLACE: this repository's name, or a folder with its files
```

An entry is a folder `results/<suite>__v<version>/<org>__<defense>/<spec_sha>/`; `entry.json` says who handed it in and
has the hash of every file. Every score follows from the rows: `bench verify FOLDER` makes it again. Code, weights and
perturbations that `entry.json` lists and that are not here were not published. Withdrawn entries stay, and say why.
`challenges/` has, at the same place, the rows of stronger attacks that count against an entry.

| entry | licence | checked | withdrawn |
|---|---|---|---|
{entries}
"""


def card(bundles: Mapping[str, Bundle]) -> bytes:
    """``README.md``.

    Args:
        bundles: entries by their place in the publication.
    """
    suites: dict[str, list[Bundle]] = {}
    for where, bundle in sorted(bundles.items()):
        suites.setdefault(where.split("/")[1], []).append(bundle)
    front = yaml.safe_dump(_front(list(suites), list(bundles.values())), sort_keys=False)
    text = _TEXT.format(
        first=next(iter(suites)),
        suites="\n".join(f"| {name} | {len(found)} | {_rows(found)} |" for name, found in suites.items()),
        entries="\n".join(_line(where, bundle) for where, bundle in sorted(bundles.items())),
    )
    return f"{MARK}{front}---\n{text}".encode()


def _front(suites: list[str], bundles: list[Bundle]) -> dict[str, Any]:
    """A configuration a suite: rows of different suites do not compare."""
    return {
        **_licence({bundle.entry.submitter.licence for bundle in bundles}),
        "pretty_name": "RecoveryBench results",
        "tags": ["recoverybench", "benchmark", "interpretability", "sparse-autoencoders", "robustness"],
        "configs": [
            {"config_name": name, "data_files": [{"split": "rows", "path": f"{RESULTS}/{name}/**/{ROWS}"}]}
            for name in suites
        ],
    }


def _licence(said: set[str]) -> dict[str, str]:
    """Of the whole, where all entries have one that the hub knows."""
    one = said.pop() if len(said) == 1 else ""
    if one in KNOWN_LICENCES:
        return {"license": one.lower()}
    return {"license": "other", "license_name": "by-entry", "license_link": CARD}


def _line(where: str, bundle: Bundle) -> str:
    said = bundle.entry
    withdrawn = said.withdrawn.on.isoformat() if said.withdrawn else ""
    return f"| {where.partition('/')[2]} | {said.submitter.licence} | {tier_of(bundle.root, said)} | {withdrawn} |"


def _rows(bundles: list[Bundle]) -> int:
    return sum(pq.read_metadata(bundle.root / ROWS).num_rows for bundle in bundles)

"""What lies where in an entry, and how large it may be.

entry.json            who handed it in, and the SHA-256 of every other file
run.json, plan.json   what was run: of a run directory, less what is of the machine and of other defenses
rows.parquet          all rows
fits/                 what fitting found, by task and defense
scores.json           what the board says of it; everybody can make it again of the rows
spec.json             the defense as data: `bench evaluate --defense spec.json`
code/, weights/       its Python file, if it needs one; SAEs of its own
perturbations/        by content, if they are shared: what each recovery wrote
certificate.json      what a maintainer has checked; made anew by `bench verify`
"""

from __future__ import annotations

import re

from benchmark.files import file_name

ENTRY = "entry.json"
RUN = "run.json"
PLAN = "plan.json"
ROWS = "rows.parquet"
SCORES = "scores.json"
SPEC = "spec.json"
FITS = "fits"
CODE = "code"
WEIGHTS = "weights"
PERTURBATIONS = "perturbations"
CERTIFICATE = "certificate.json"

REQUIRED = (RUN, PLAN, ROWS, SCORES, SPEC)
"""Beside ``entry.json``."""
MOST_FILES = 2000
MOST_BYTES = 8_000_000_000
"""Of an entry; the perturbations of a large model are most of it."""
_NAME = r"[A-Za-z0-9_@+-][A-Za-z0-9_.@+-]{0,150}"
_ALLOWED = re.compile(
    rf"run\.json|plan\.json|rows\.parquet|scores\.json|spec\.json|{FITS}/{_NAME}\.json|{CODE}/{_NAME}\.py"
    rf"|{WEIGHTS}/{_NAME}/{_NAME}\.(safetensors|json)|{PERTURBATIONS}/[0-9a-f]{{64}}\.safetensors"
)


def allowed(name: str) -> bool:
    """Whether an entry may have a file of this name, relative to it, with ``/`` between folders."""
    return _ALLOWED.fullmatch(name) is not None


def place(suite: str, version: str, organisation: str, defense: str, spec_sha: str) -> tuple[str, str, str]:
    """Folders within each other: ``<suite>__v<version>``, ``<org>__<defense>``, ``<spec_sha>``."""
    owner = re.sub(r"[\s_]+", "-", organisation.strip().lower())
    return f"{suite}__v{version}", file_name(owner, defense), spec_sha

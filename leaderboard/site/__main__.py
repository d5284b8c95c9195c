"""``python -m leaderboard.site LEADERBOARD.json FOLDER``."""

import sys
from pathlib import Path

from leaderboard.board.schema import Leaderboard
from leaderboard.site.build import build

build(Leaderboard.model_validate_json(Path(sys.argv[1]).read_bytes()), Path(sys.argv[2]))

"""What the words of the tables mean, the threat models of a run among them."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table

from leaderboard.board.schema import Threat
from leaderboard.rows.manifest import Unit
from leaderboard.scores.threats import with_role

BUDGETS: dict[Unit, tuple[str, str]] = {
    "residual": ("eps", "norm of the perturbation, as a share of the stream's norm at the site"),
    "embedding": ("eps", "norm of the perturbation, as a share of the embeddings' norm"),
    "tokens": ("tokens", "number of tokens that are written"),
}
WORDS = {
    "eps, tokens": "below them: share of the suppressed examples that came back, with its 95 % interval over clusters",
    "sel": "the share that came back at a smaller eps than a wrong target on the undefended model",
    "steered": "share of the suppressed examples on which a wrong target is in reach, defended and without the defense",
    "drift": "median move of the protected features at the first success: absolute, relative to the defended ones",
    "react": "mean share of the protected latents that are switched on again",
    "delta": "median eps of the smallest rescaling that is enough; where not measured, of the first success",
    "degen.": "examples driven to degenerate output instead, at the largest budget: count, share of the suppressed",
    "rec, det, und": "recovered, detected of those, and recovered undetected (of the suppressed, with interval)",
    "RS(0)": "share of the eligible examples that are suppressed when nobody attacks",
    "AURC": "area under the share still suppressed, over log eps: 1 nothing comes back, 0 no defense",
}


def legend(threats: Mapping[str, Threat]) -> Table:
    """One line a word."""
    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(style="dim")
    for word, meaning in (*_budgets(threats), *WORDS.items(), *_scores(threats).items()):
        table.add_row(word, meaning)
    return table


def _budgets(threats: Mapping[str, Threat]) -> list[tuple[str, str]]:
    found = {unit: [name for name, threat in threats.items() if threat.unit == unit] for unit in BUDGETS}
    return [(word, f"{', '.join(found[unit])}: {meaning}") for unit, (word, meaning) in BUDGETS.items() if found[unit]]


def _scores(threats: Mapping[str, Threat]) -> dict[str, str]:
    primary, baseline, diagnostic = (
        ", ".join(with_role(threats, role)) or "none" for role in ("primary", "baseline", "diagnostic")
    )
    return {
        "WRS": f"mean over tasks of the smallest AURC of the primary threat models ({primary}) and the baselines "
        f"({baseline}); the diagnostic ones ({diagnostic}) are shown only",
        "gap": "baseline less primary AURC: above 0, judging by the baselines alone flatters",
        "eps50": "eps at which half of the suppressed examples are back (primary, the worst task)",
    }

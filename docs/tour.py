# %% [markdown]
# A tour in cells: from `evaluate()` to a plot of your own. Run it whole (`python docs/tour.py`) or cell by cell in an
# editor that knows `# %%`. It needs `pip install 'recoverybench[plots]' pandas`, and less than a minute. The run is
# a small one, so that its numbers show how things are done and nothing else.

# %% A run: one defense, one task, one attack, a few examples of the suite `smoke`
import tempfile
from pathlib import Path

from benchmark import evaluate

folder = Path(tempfile.mkdtemp(prefix="tour-"))
result = evaluate(
    "sae-clamp",
    suite="smoke",
    tasks=["ioi"],
    attacks=["recovery"],
    options={"count": 12, "rate_ratio": 1.25, "strength": 1.0},  # given, and not calibrated, to be quick
    controls=False,
    output_dir=folder / "run",
)
print(result.status, result.directory)

# %% Its rows: one an example, attack and budget; docs/columns.md says what each column means
rows = result.to_pandas()
print(f"{len(rows)} rows of {len(rows.columns)} columns")
print(rows[rows.suppressed][["example_id", "attack", "threat_model", "budget_eps", "outcome", "drift_abs"]].head())

# %% Shares by hand: of the suppressed examples, how many came back at each budget
asked = rows[(rows.attack == "recovery") & (rows.goal == "behavior") & rows.suppressed & ~rows.sanity]
shares = asked.groupby(["threat_model", "budget_eps"]).recovered.mean().unstack(0)
print(shares.round(2))

# %% The same with scores and intervals, without a model: a run directory is read, and scored like an entry
from leaderboard.board.aggregate import suite_board
from leaderboard.rows.run import read_run

board = suite_board([read_run(result.directory)], resamples=200)
entry = next(one for one in board.entries if one.defense.name == "sae-clamp")
print(entry.defense.name, "RS(0)", entry.headline.rs0.value, "verdict", entry.verdict.status)
print("\n".join(entry.verdict.reasons))

# %% A table of one's own: how much holds at each budget, with its interval
import pandas as pd

held = pd.DataFrame(
    (name, eps, point.value, point.interval.low, point.interval.high)
    for name, curve in entry.per_task["ioi"].curves.items()
    for eps, point in zip(curve.budgets, curve.raw.rs, strict=True)
    if point.interval is not None
)
held.columns = ["curve", "eps", "held", "low", "high"]
print(held.round(2).to_string(index=False))

# %% And a plot of one's own
import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt

figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
for name in ("before_edit", "after_edit"):
    mine = held[held.curve == name]
    axes.plot(mine.eps, mine.held, marker="o", label=name)
    axes.fill_between(mine.eps, mine.low, mine.high, alpha=0.2)
axes.set(xscale="log", xlabel="budget, eps", ylabel="suppressed and not brought back", ylim=(0, 1))
axes.legend(frameon=False)
figure.savefig(folder / "held.png", dpi=150)
print(folder / "held.png")

"""The attacker appends free embedding vectors to the prompt; the defense is live at every position."""

from __future__ import annotations

from benchmark.contracts.task import Task
from benchmark.measure.group import Group
from benchmark.model.pack import Pack
from benchmark.model.passes import Writes
from benchmark.registry import register_threat
from benchmark.threats.vectors import VectorThreat


@register_threat("soft_suffix")
class SoftSuffix(VectorThreat):
    """Free vectors behind the prompt (in a chat: before the assistant's header), near to copies of its last token."""

    unit = "embedding"
    role = "baseline"

    def applies(self, task: Task, defended: Group | None = None) -> str | None:
        if task.readout.reached_by_suffix:
            return None
        return "the prompt's own positions are read: a suffix has no place among them"

    def access(self, group: Group, pack: Pack) -> tuple[Pack, Writes]:
        tokens = group.suffix_tokens
        return pack.with_suffix(tokens), Writes((0,), pack.suffix_at, tokens, after=False)

    def norm(self, group: Group, writes: Writes) -> float:
        return group.scale.embedding_unit(writes.width)

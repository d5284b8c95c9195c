"""The attacker types tokens behind the prompt: judged from their text, as the tokenizer reads it, the defense live.

A budget of n means at most n tokens. So lengths ascend, an example whose shorter suffix was measured to succeed is not
attacked again, and a longer suffix replaces a shorter one only where it does better.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from benchmark.contracts.attack import Attack, Terms
from benchmark.contracts.row import Cost
from benchmark.contracts.task import Task
from benchmark.contracts.threat import Threat
from benchmark.measure.aim import Aim
from benchmark.measure.group import Group
from benchmark.measure.outcome import Attacked, Found, flags, margins
from benchmark.measure.remeasure import Measured, Size, remeasure
from benchmark.model.edits import is_special
from benchmark.model.lexicon import Lexicon
from benchmark.model.pack import Pack, make_packs, part_of
from benchmark.model.passes import Writes
from benchmark.model.streams import ROWS
from benchmark.model.typing_back import Typist, untypable
from benchmark.registry import register_threat
from benchmark.search.constraint import Free
from benchmark.search.pack_size import PackSize
from benchmark.search.token_problem import TokenProblem


@register_threat("token_suffix")
class TokenSuffix(Threat):
    """At most so many typed tokens behind the prompt (in a chat: before the assistant's header)."""

    unit = "tokens"
    role = "baseline"

    def applies(self, task: Task, defended: Group | None = None) -> str | None:
        if not task.readout.reached_by_suffix:
            return "the prompt's own positions are read: a suffix has no place among them"
        if defended is None:
            return None
        return untypable(defended.subject, make_packs(defended.subject, defended.task, defended.attacked, ROWS))

    def check(self, budgets: Sequence[float]) -> None:
        if any(b < 1 or b != int(b) for b in budgets) or list(budgets) != sorted(set(budgets)):
            raise ValueError(f"budgets of {self.name} must be whole numbers of tokens, at least 1, ascending")

    @property
    def ceilings(self) -> Sequence[float]:
        return (1.0, 2.0, 4.0, 8.0, 16.0)

    def access(self, group: Group, pack: Pack) -> tuple[Pack, Writes]:
        """To a search the tokens are vectors too; as many as a soft suffix has."""
        tokens = group.suffix_tokens
        return pack.with_suffix(tokens), Writes((0,), pack.suffix_at, tokens, after=False)

    def problem(
        self, group: Group, terms: Terms, budgets: Sequence[float], pack: Pack, pack_size: PackSize
    ) -> TokenProblem:
        """At the largest number of tokens."""
        search = _Search(group, terms, pack_size, Lexicon(group.subject))
        nothing = [torch.zeros(0, dtype=torch.long)] * len(pack)
        return search.problem(_aim(group, terms, pack), Typist(group.subject, pack), nothing, int(max(budgets)))

    def attack(
        self,
        group: Group,
        attack: Attack,
        budgets: Sequence[float],
        seed: int,
        packs: Sequence[Pack],
        pack_size: PackSize,
    ) -> list[Found]:
        return [self._attack(group, attack, budgets, seed, pack, pack_size) for pack in packs]

    def _attack(
        self, group: Group, attack: Attack, budgets: Sequence[float], seed: int, pack: Pack, pack_size: PackSize
    ) -> Found:
        search = _Search(group, attack.terms(seed), pack_size, Lexicon(group.subject))
        best: list[_Best | None] = [None] * len(pack)
        levels: list[list[_Best]] = []
        for length in map(int, budgets):
            open_ = [i for i, found in enumerate(best) if found is None or not found.attacked.measured.recovered]
            shorter = [best[i].tokens if best[i] else torch.zeros(0, dtype=torch.long) for i in open_]  # pyright: ignore
            now = search.at(attack, part_of(pack, torch.tensor(open_)), shorter, length) if open_ else []
            fresh = dict(zip(open_, now, strict=True))
            levels.append([_better(found, fresh.get(i), length) for i, found in enumerate(best)])
            best = [*levels[-1]]
        return Found(
            [[found.attacked for found in known] for known in zip(*levels, strict=True)],
            torch.stack([_filled(level, int(max(budgets))) for level in levels], 1),
        )

    def replay(
        self, group: Group, attack: Attack, pack: Pack, proposals: Tensor, where: Any, pack_size: PackSize
    ) -> list[list[Measured | None]]:
        terms = attack.terms(0)  # no random number is drawn
        search, target = _Search(group, terms, pack_size, Lexicon(group.subject)), _aim(group, terms, pack)
        lengths = (proposals >= 0).sum(2)
        found: list[list[Measured | None]] = [[None] * proposals.shape[1] for _ in range(len(pack))]
        for level in range(proposals.shape[1]):
            for length in sorted(set(lengths[:, level].tolist())):
                index = torch.nonzero(lengths[:, level] == length).flatten()
                part, tokens = part_of(pack, index), proposals[index, level, :length].to(pack.ids.device)
                some = target._replace(plain=part, pack=part, criteria=target.criteria.rows(index.to(pack.ids.device)))
                measured = search.typed(some, Typist(group.subject, part), tokens, length)
                for i, one in zip(index.tolist(), measured, strict=True):
                    found[i][level] = one
        return found


class _Best(NamedTuple):
    """The best that is known for an example."""

    attacked: Attacked
    tokens: Tensor
    """The suffix that was meant, (n,) on the CPU."""


def _filled(level: Sequence[_Best], widest: int) -> Tensor:
    """The suffixes of a level (examples, n), filled up with -1."""
    return torch.stack([torch.nn.functional.pad(f.tokens, (0, widest - len(f.tokens)), value=-1) for f in level])


def _better(before: _Best | None, now: _Best | None, length: int) -> _Best:
    """Success first, then the margin; what it cost is what was spent at this length."""
    if before is None or (now is not None and _rank(now) >= _rank(before)):
        assert now is not None, "what nothing is known of is attacked"
        return now
    nothing = Cost(steps=0, forwards=0, backwards=0, seconds=0.0)
    cost, raised = (nothing, before.attacked.flags) if now is None else (now.attacked.cost, now.attacked.flags)
    return before._replace(attacked=before.attacked._replace(budget=float(length), cost=cost, flags=raised))


def _joined(first: _Best, second: _Best) -> _Best:
    """The better of two searches for suffixes of one length, at the cost of both."""
    one, other = first.attacked.cost, second.attacked.cost
    cost = Cost(
        steps=one.steps + other.steps,
        forwards=one.forwards + other.forwards,
        backwards=one.backwards + other.backwards,
        seconds=one.seconds + other.seconds,
    )
    better = second if _rank(second) > _rank(first) else first
    return better._replace(attacked=better.attacked._replace(cost=cost))


def _rank(found: _Best) -> tuple[bool, float]:
    return found.attacked.measured.recovered, found.attacked.measured.margin


def _aim(group: Group, terms: Terms, pack: Pack) -> Aim:
    nothing = Writes((0,), min(pack.suffix_at, pack.readout), 0, after=False)  # the text itself is another one
    return Aim(pack, pack, nothing, Free(), 1.0, group.criteria(pack, terms.goal))


@dataclass(frozen=True)
class _Search:
    """Attacks examples with suffixes of one length."""

    group: Group
    terms: Terms
    pack_size: PackSize
    lexicon: Lexicon

    def at(self, attack: Attack, pack: Pack, shorter: Sequence[Tensor], length: int) -> list[_Best]:
        """The best suffix of ``length`` tokens for every example, ``shorter`` being the best known so far.

        A search ends at the first suffix that reaches the goal. Where the text that is typed does not, it is asked once
        more, with other random numbers.
        """
        found, reached = self._searched(attack, pack, shorter, length)
        lost = [i for i, hit in enumerate(reached) if hit and not found[i].attacked.measured.recovered]
        if lost and attack.searches:
            other = replace(self, terms=self.terms._replace(key=f"{self.terms.key}|again"))
            again, _ = other._searched(attack, part_of(pack, torch.tensor(lost)), [shorter[i] for i in lost], length)
            for i, one in zip(lost, again, strict=True):
                found[i] = _joined(found[i], one)
        return found

    def _searched(
        self, attack: Attack, pack: Pack, shorter: Sequence[Tensor], length: int
    ) -> tuple[list[_Best], list[bool]]:
        """What a search found for every example, and whether it saw its goal reached."""
        started = time.perf_counter()
        target, typist = _aim(self.group, self.terms, pack), Typist(self.group.subject, pack)
        problem = self.problem(target, typist, shorter, length)
        attempt = attack.run(problem)
        best, reached = _champions(problem, attempt.proposal)
        rows = self.typed(target, typist, attempt.proposal[best], length)
        seconds = (time.perf_counter() - started) / len(rows)
        found = []
        for i, (row, champion) in enumerate(zip(rows, best.tolist(), strict=True)):
            blind, settled = bool(problem.blind[champion]), bool(attempt.converged[champion])
            place = self.group.place[pack.examples[i].id]
            shown = margins(self.group, place, row.margin, self.terms.goal)
            doubts = {"zero-gradient": blind, "not-converged": not settled}
            raised = flags(row, shown, float(length), bool(reached[i]), doubts)
            found.append(Attacked(row, float(length), _cost(problem, i, seconds), raised))
        suffixes = attempt.proposal[best].cpu()
        return [_Best(row, own) for row, own in zip(found, suffixes, strict=True)], reached.tolist()

    def problem(self, target: Aim, typist: Typist, shorter: Sequence[Tensor], length: int) -> TokenProblem:
        """The search for ``length`` tokens behind every example."""
        pack = target.plain.with_suffix(length)
        run = self.group.run(pack, Writes((0,), pack.suffix_at, length, after=False))
        return TokenProblem(
            run,
            pack,
            self.group.task,
            target.criteria,
            lexicon=self.lexicon,
            typist=typist,
            begin=pad_sequence(list(shorter), batch_first=True, padding_value=self.lexicon.neutral),
            length=length,
            restarts=self.terms.restarts,
            keys=[f"{self.terms.key}|{e.id}" for e in pack.examples],
            pack_size=self.pack_size,
        )

    def typed(self, target: Aim, typist: Typist, tokens: Tensor, length: int) -> list[Measured]:
        """What suffixes (examples, n) do, judged as the prompts that the tokenizer reads."""
        plain, rows = target.plain, dict[int, Measured]()
        read = typist.prompts(tokens, plain.everyone)
        extra = [len(prompt) - plain.readout - 1 for prompt in read]
        # what takes more tokens than the budget allows is not typed at all
        read = [p if e <= length else tuple(own) for p, e, own in zip(read, extra, plain.prompt.tolist(), strict=True)]
        for size in sorted({len(prompt) for prompt in read}):
            index = torch.tensor([i for i, prompt in enumerate(read) if len(prompt) == size])
            prompts = torch.tensor([read[i] for i in index.tolist()], device=plain.ids.device)
            some = part_of(plain, index)
            typed = some.retyped(prompts, is_special(self.group.subject, prompts))
            criteria = target.criteria.rows(index.to(plain.ids.device))
            none = torch.zeros(len(index), 1, 0, self.group.subject.d_model, device=plain.ids.device)
            part = target._replace(plain=some, pack=typed, criteria=criteria)
            used = float(size - plain.readout - 1)
            measured = remeasure(self.group, part, none, 1, self.pack_size)
            rows |= {
                i: m._replace(size=Size(used, used, (used,))) for i, m in zip(index.tolist(), measured, strict=True)
            }
        return [rows[i] for i in range(len(plain))]


def _cost(problem: TokenProblem, example: int, seconds: float) -> Cost:
    """What an example cost over all its restarts, with one more forward for the clean re-measurement."""
    own = problem.example == example
    backwards, forwards = int(problem.backwards[own].sum()), int(problem.forwards[own].sum()) + 1
    return Cost(steps=backwards, forwards=forwards, backwards=backwards, seconds=seconds)


def _champions(problem: TokenProblem, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """(examples,) each: the row of the best restart, and whether it reached the goal; what is not read as it was meant
    comes last."""
    examples, restarts = problem.grid
    objective, reached = problem.evaluate(tokens)
    sound = problem.faithful(tokens)
    top = torch.finfo(objective.dtype).max
    score = torch.where(reached, top, objective).masked_fill(~sound, -top)
    best = score.view(examples, restarts).argmax(1) + restarts * torch.arange(examples, device=score.device)
    return best, (reached & sound)[best]

"""Every attack that searches can be run harder, which leaves all else as it is."""

from __future__ import annotations

import pytest

from benchmark.contracts.attack import Attack
from benchmark.registry import ATTACKS
from benchmark.spec import resolve_attack, settings

SEARCHING = [name for name in ATTACKS.names() if name != "paper-recovery" and resolve_attack(name).searches]


def flat(values: dict, prefix: str = "") -> dict[str, object]:
    inner = {k: v for k, v in values.items() if isinstance(v, dict)}
    plain = {f"{prefix}{k}": v for k, v in values.items() if k not in inner}
    return plain | {k: v for name, part in inner.items() for k, v in flat(part, f"{prefix}{name}.").items()}


@pytest.mark.parametrize("name", SEARCHING)
def test_a_harder_attack_has_more_restarts_and_steps_and_the_same_rest(name: str) -> None:
    attack: Attack = resolve_attack(name)
    before, after = flat(settings(attack)), flat(settings(attack.harder(3)))
    changed = {key for key in before if before[key] != after[key]}
    more = {"restarts", *(key for key in before if key.split(".")[-1] == "steps")}
    assert changed == more and len(more) == 2
    assert all(after[key] == 3 * before[key] for key in more)  # type: ignore[operator]
    assert type(attack.harder(3)) is type(attack) and attack.harder(1) == attack

"""Sites as a user wrote them."""

from __future__ import annotations

from collections.abc import Sequence

from benchmark.contracts.defense import Fitting
from benchmark.errors import UsageError
from benchmark.sites import Site


def parse_site(text: str) -> Site:
    """A site as a user wrote it.

    Raises:
        UsageError: not a site of the residual stream.
    """
    try:
        return Site.parse(text)
    except ValueError as error:
        raise UsageError(str(error)) from error


def check_sites(names: Sequence[str]) -> None:
    """Whether all names are sites, or they are ``all``.

    Raises:
        UsageError: one is none, or is there twice.
    """
    if list(names) == ["all"]:
        return
    for name in names:
        parse_site(name)
    if len(set(names)) < len(names):
        raise UsageError(f"sites {', '.join(names)}: one is there twice; leave it out")


def named_sites(fitting: Fitting, names: Sequence[str]) -> list[Site]:
    """Sites by their names; ``all`` is every boundary between layers, the model's ends included.

    Raises:
        UsageError: a name that is no site, or a site that the model does not have.
    """
    if list(names) == ["all"]:
        last = fitting.subject.n_layers - 1
        return [*(Site(layer) for layer in range(last + 1)), Site(last, "resid_post")]
    return [fitting.subject.check(parse_site(name)) for name in names]

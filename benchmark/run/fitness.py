"""Whether a suite and a model go together, looked at before anything is measured: sites, SAEs, and every prompt."""

from __future__ import annotations

from collections.abc import Mapping

from benchmark.contracts.example import SPLITS
from benchmark.errors import UsageError
from benchmark.model.pack import encode
from benchmark.model.subject import Subject
from benchmark.run.task_view import TaskView
from benchmark.sae.dictionary import open_dictionary
from benchmark.sites import Site
from benchmark.suite import Suite


def check_fitness(subject: Subject, suite: Suite, tasks: Mapping[str, TaskView]) -> None:
    """Whether the model has every site, the SAEs are of it, and it can read every example.

    Raises:
        UsageError: what does not fit.
    """
    for name, task in tasks.items():
        try:
            _check_task(subject, Site.parse(suite.tasks[name].site), task)
        except UsageError as error:
            raise UsageError(f"task {name}: {error}") from error
    for site, sources in suite.saes.items():
        for source in sources:
            open_dictionary(subject, Site.parse(site), source)


def _check_task(subject: Subject, site: Site, task: TaskView) -> None:
    subject.check(site)
    if task.readout.reads_at is not None:
        subject.check(task.readout.reads_at)
    longest = getattr(subject.model.config.get_text_config(), "max_position_embeddings", None)
    for split in SPLITS:
        for member in encode(subject, task, [*task.examples(split), *task.retain(split)]):
            length = len(member.encoded.tokens)
            if longest is not None and length > longest:
                raise UsageError(
                    f"{member.example.id} is {length} tokens long, and {subject.name} reads {longest}; shorten it, or "
                    "leave it out"
                )

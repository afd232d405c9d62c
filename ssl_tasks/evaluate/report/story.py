"""Story: everything that the report tells, as plain data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from schemas.artifacts import Checkpoint, Dataset
from schemas.job import Job
from schemas.stages import Evaluate
from ssl_tasks.evaluate.findings import Plate
from ssl_tasks.evaluate.leaks import Leak
from ssl_tasks.evaluate.lineage import Link
from ssl_tasks.evaluate.metrics import METRICS, ORDER
from ssl_tasks.evaluate.report import words
from ssl_tasks.evaluate.report.palette import Style, styles
from ssl_tasks.evaluate.results import Role, Row, names


@dataclass(frozen=True)
class Story:
    """An evaluation that is done.

    Attributes:
        roles: of each model and baseline.
        students: what each is worth, see `ssl_tasks.evaluate.students`.
        results: what `results.json` holds.
        models: the checkpoints, by reference.
        links: the chain of artifacts behind it.
        leaks: of each model, whether it was trained on images like those it is judged on.
        plates: the pictures that protocols made.
    """

    job: Job
    stage: Evaluate
    roles: dict[str, Role]
    rows: Sequence[Row]
    students: Sequence[Mapping[str, Any]]
    results: Mapping[str, Any]
    models: Mapping[str, Checkpoint]
    links: Sequence[Link]
    leaks: Mapping[str, Leak]
    plates: Sequence[Plate] = ()

    @property
    def titles(self) -> dict[str, str]:
        """Of each measure of quality that the tables show, by its name, in the order of the protocols."""
        protocols = names(self.stage.protocols)
        of = {name: words.title(name, p) for name, p in zip(protocols, self.stage.protocols, strict=True)}
        shown = [row for row in self.rows if METRICS[row.metric].shown]
        shown.sort(key=lambda row: (protocols.index(row.protocol), ORDER.index(row.metric)))
        return {row.measure: words.column(of[row.protocol], row.metric) for row in shown}

    @property
    def metrics(self) -> dict[str, str]:
        """Of each measure what it is."""
        return {row.measure: row.metric for row in self.rows}

    @property
    def styles(self) -> dict[str, Style]:
        """Of each model and baseline, in their order."""
        return styles(self.roles, self.stage.compare)

    @property
    def short(self) -> dict[str, str]:
        """The name of each model and baseline in a figure."""
        return {name: words.short(name, list(self.models)) for name in self.roles}

    @property
    def curated(self) -> list[Dataset]:
        """The curated data sets in the chain, the one nearest to the images first."""
        return [link.artifact for link in reversed(self.links) if link.kind == "curate" and isinstance(link.artifact, Dataset)]

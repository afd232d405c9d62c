"""Story: everything that the report tells, as plain data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from schemas.artifacts import Checkpoint, Dataset
from schemas.job import Job
from schemas.stages import Evaluate
from ssl_tasks.evaluate import words
from ssl_tasks.evaluate.leaks import Leak
from ssl_tasks.evaluate.lineage import Link
from ssl_tasks.evaluate.palette import Style, styles
from ssl_tasks.evaluate.results import Role, Row, names


@dataclass(frozen=True)
class Story:
    """An evaluation that is done.

    Attributes:
        results: what `results.json` holds.
        models: the checkpoints, by reference.
        links: the chain of artifacts behind it.
        leaks: of each model, whether it was trained on images like those it is judged on.
    """

    job: Job
    stage: Evaluate
    rows: Sequence[Row]
    deltas: Sequence[Mapping[str, Any]]
    results: Mapping[str, Any]
    models: Mapping[str, Checkpoint]
    links: Sequence[Link]
    leaks: Mapping[str, Leak]

    @property
    def roles(self) -> dict[str, Role]:
        """Of each model and baseline, in the order of the rows."""
        return {row.model: row.role for row in self.rows}

    @property
    def titles(self) -> dict[str, str]:
        """Of each protocol, by its name."""
        return {name: words.title(name, p) for name, p in zip(names(self.stage.protocols), self.stage.protocols, strict=True)}

    @property
    def styles(self) -> dict[str, Style]:
        """Of each model and baseline, in the order of the rows."""
        return styles(self.roles, self.stage.compare)

    @property
    def short(self) -> dict[str, str]:
        """The name of each model and baseline in a figure."""
        return {name: words.short(name, list(self.models)) for name in self.roles}

    @property
    def curated(self) -> list[Dataset]:
        """The curated data sets in the chain, the one nearest to the images first."""
        return [link.artifact for link in reversed(self.links) if link.kind == "curate" and isinstance(link.artifact, Dataset)]

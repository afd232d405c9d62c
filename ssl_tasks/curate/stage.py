"""The curate stage: the steps in order, what each decided, and the manifest and reports that come of it."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from schemas.artifacts import Artifact, Dataset, read
from schemas.curation import Balance, Deduplicate, ExactDuplicates, Integrity, Step
from schemas.errors import UserError
from schemas.job import Job
from schemas.stages import Curate
from ssl_tasks import artifacts
from ssl_tasks.curate.balance import balance
from ssl_tasks.curate.decisions import Decisions
from ssl_tasks.curate.deduplicate import deduplicate
from ssl_tasks.curate.embed import Embeddings
from ssl_tasks.curate.exact_duplicates import digests, exact_duplicates
from ssl_tasks.curate.integrity import integrity
from ssl_tasks.data import manifest
from ssl_tasks.tracking import Tracker

QUARANTINE = "quarantine.csv"
REPORT = "report.json"
EXAMPLES = 12


def curate(job: Job, tracker: Tracker) -> dict[str, Artifact]:
    """Apply the steps to the kept train images; other splits pass untouched, but what cannot be read there is quarantined too.

    Besides the manifest the artifact holds `quarantine.csv` (uri and reason of what `integrity` removed) and `report.json`
    (counts and examples of each step).

    Raises:
        UserError: where a step leaves no train image, or an image cannot be decoded.
    """
    assert isinstance(job.stage, Curate)
    dataset = read(job.folder(job.inputs[job.stage.dataset]))
    assert isinstance(dataset, Dataset)
    table, embeddings = manifest.read(dataset), Embeddings(job)
    metrics: dict[str, float] = {}
    report: list[dict[str, Any]] = []
    for number, step in enumerate(job.stage.steps):
        tracker.progress(number, len(job.stage.steps), {})
        name = f"{number + 1}_{step.kind}"
        rows = considered(table, step)
        decisions = decide(step, table, rows, embeddings, job, seed=job.stage.seed * 1000 + number)
        table = applied(table, rows, step.kind, decisions)
        left = len(manifest.kept(table))
        counts = {"considered": len(rows), "removed": len(decisions.removed), "kept": left, **decisions.metrics}
        metrics |= {f"curate/{name}/{key}": float(value) for key, value in counts.items()}
        report.append({"step": name, **counts, "notes": decisions.notes, "reasons": reasons(decisions), "examples": examples(decisions)})
        tracker.note(f"{name}: {len(decisions.removed):,} of {len(rows):,} removed")
        for note in decisions.notes:
            tracker.note(f"{name}: {note}")
        tracker.metrics({k: v for k, v in metrics.items() if k.startswith(f"curate/{name}/")}, number)
        if not left:
            raise UserError(f"stages.{job.name}.steps.{number}: {step.kind} leaves no train image of {len(rows)}; loosen the step, or look at the images")
    tracker.progress(len(job.stage.steps), len(job.stage.steps), {})
    folder = artifacts.draft(job)
    manifest.write(table, folder)
    (folder / REPORT).write_text(json.dumps({"steps": report}, indent=1))
    write_quarantine(table, folder / QUARANTINE)
    return {"": artifacts.seal(job, folder, rows=len(table), kept=len(manifest.kept(table)), metrics=metrics)}


def considered(table: pa.Table, step: Step) -> pa.Table:
    """The rows that a step decides on: kept train images; for `integrity` those of every split."""
    return table.filter(manifest.column(table, "kept")) if isinstance(step, Integrity) else manifest.kept(table)


def decide(step: Step, table: pa.Table, rows: pa.Table, embeddings: Embeddings, job: Job, seed: int) -> Decisions:
    """What a step decides on `rows`; `table` is the whole manifest."""
    ids = rows["id"].to_pylist()
    match step:
        case Integrity():
            return integrity(rows, step, job.workspace)
        case ExactDuplicates():
            others = table.filter(manifest.column(table, "kept") & (manifest.column(table, "split") != "train"))
            return exact_duplicates(ids, digests(rows, job.workspace), digests(others, job.workspace))
        case Deduplicate():
            areas = [(w or 0) * (h or 0) for w, h in zip(rows["width"].to_pylist(), rows["height"].to_pylist(), strict=True)]
            return deduplicate(ids, areas, embeddings.of(rows, step.embedding), step)
        case Balance():
            return balance(ids, embeddings.of(rows, step.embedding), step, seed)


def applied(table: pa.Table, rows: pa.Table, kind: str, decisions: Decisions) -> pa.Table:
    """The manifest with a step's decisions written into it."""
    columns = {name: table[name].to_pylist() for name in ("kept", "why", "duplicate_of", "cluster")}
    for removed in decisions.removed:
        columns["kept"][removed.id] = False
        columns["why"][removed.id] = f"{kind}: {removed.reason}"
        columns["duplicate_of"][removed.id] = removed.duplicate_of
    if decisions.clusters is not None:
        for id_, cluster in zip(rows["id"].to_pylist(), np.asarray(decisions.clusters).tolist(), strict=True):
            columns["cluster"][id_] = cluster
    return manifest.replace(table, **columns)


def reasons(decisions: Decisions) -> dict[str, int]:
    """How many rows were removed for each reason; the clusters of `balance` count as one."""
    found: dict[str, int] = {}
    for removed in decisions.removed:
        reason = removed.reason if decisions.clusters is None else "cluster is full"
        found[reason] = found.get(reason, 0) + 1
    return dict(sorted(found.items()))


def examples(decisions: Decisions) -> list[dict[str, Any]]:
    """The first few removed rows, for a reader to look at."""
    return [removed._asdict() for removed in decisions.removed[:EXAMPLES]]


def write_quarantine(table: pa.Table, path: Path) -> None:
    """List what integrity steps removed, here or in an earlier curation."""
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(("uri", "reason"))
        for uri, why in zip(table["uri"].to_pylist(), table["why"].to_pylist(), strict=True):
            if why.startswith("integrity: "):
                rows.writerow((uri, why.removeprefix("integrity: ")))

"""The curate stage: the steps in order, what each decided, and the manifest and reports that come of it."""

import csv
import json
from functools import partial
from pathlib import Path
from typing import Any, assert_never

import numpy as np
import pyarrow as pa

from schemas import curation as steps
from schemas.artifacts import Artifact, Dataset, read
from schemas.errors import UserError
from schemas.job import Job
from schemas.stages import Curate
from ssl_tasks import artifacts
from ssl_tasks.curate import report as page
from ssl_tasks.curate import shards
from ssl_tasks.curate.decisions import NOBODY, Decisions
from ssl_tasks.curate.pool import Pool
from ssl_tasks.data import leaks, manifest
from ssl_tasks.tracking import Tracker

QUARANTINE = "quarantine.csv"
REPORT = "report.json"
EXAMPLES = 12


def curate(job: Job, tracker: Tracker, mapper: shards.Mapper = shards.threads) -> dict[str, Artifact]:
    """Apply the steps to the kept train images; other splits pass untouched, but what cannot be read there is quarantined too.

    Besides the manifest the artifact holds `quarantine.csv` (uri and reason of what `integrity` removed) and `report.json`
    (counts and examples of each step), and for a person `report.html` with its `figures/`.

    Raises:
        UserError: where a step leaves no train image, or an image cannot be decoded.
    """
    assert isinstance(job.stage, Curate)
    dataset = read(job.folder(job.inputs[job.stage.dataset]))
    assert isinstance(dataset, Dataset)
    table, folder = manifest.read(dataset), artifacts.draft(job)
    leaks.carry(dataset, folder)
    before, removed_by = table, np.full(len(table), page.STAYS, np.int16)
    pool = Pool(job, table, table, "", 0, folder, mapper, lambda _done, _of: None)
    metrics: dict[str, float] = {}
    report: list[dict[str, Any]] = []
    taken, count = len(manifest.steps(table)), len(job.stage.steps)
    for number, step in enumerate(job.stage.steps):
        name = f"{taken + number + 1}_{step.kind}"
        pool.step, pool.table, pool.rows, pool.seed = name, table, considered(table, step), job.stage.seed * 1000 + number
        pool.__dict__.pop("ids", None)
        pool.progress = partial(_progress, tracker, number, count)
        pool.progress(0, 1)
        decisions = decide(step, pool)
        table = applied(pool, step.kind, decisions)
        removed_by[pool.ids[decisions.removed]] = number
        left, removed = len(manifest.kept(table)), int(decisions.removed.sum())
        counts = {"considered": len(pool.rows), "removed": removed, "kept": left, **decisions.metrics}
        metrics |= {f"curate/{name}/{key}": float(value) for key, value in counts.items()}
        report.append(
            {"step": name, **counts, "notes": decisions.notes, "reasons": reasons(decisions), "examples": examples(pool, decisions), **decisions.report}
        )
        tracker.note(f"{name}: {removed:,} of {len(pool.rows):,} removed")
        for note in decisions.notes:
            tracker.note(f"{name}: {note}")
        tracker.metrics({k: v for k, v in metrics.items() if k.startswith(f"curate/{name}/")}, number)
        if not left:
            raise UserError(f"stages.{job.name}.steps.{number}: {step.kind} leaves no train image of {len(pool.rows)}; loosen the step, or look at the images")
    page.write(folder, page.Story(pool, before, table, report, removed_by))
    tracker.progress(count, count, {})
    manifest.write(table, folder)
    (folder / REPORT).write_text(json.dumps({"steps": report}, indent=1))
    write_quarantine(table, folder / QUARANTINE)
    return {"": artifacts.seal(job, folder, rows=len(table), kept=len(manifest.kept(table)), metrics=metrics)}


def _progress(tracker: Tracker, step: int, steps: int, done: int, of: int) -> None:
    tracker.progress(step * of + done, steps * of, {})


def considered(table: pa.Table, step: steps.Step) -> pa.Table:
    """The rows that a step decides on: kept train images; for `integrity` those of every split."""
    return table.filter(manifest.column(table, "kept")) if isinstance(step, steps.Integrity) else manifest.kept(table)


def decide(step: steps.Step, pool: Pool) -> Decisions:
    """What a step decides on the rows of the pool."""
    match step:
        case steps.Integrity():
            from ssl_tasks.curate.integrity import integrity

            return integrity(pool, step)
        case steps.ExactDuplicates():
            from ssl_tasks.curate.exact_duplicates import exact_duplicates

            return exact_duplicates(pool, step)
        case steps.PerceptualDuplicates():
            from ssl_tasks.curate.perceptual_duplicates import perceptual_duplicates

            return perceptual_duplicates(pool, step)
        case steps.Embed():
            pool.measured = step.embedding
            made = pool.embeddings()
            return Decisions(np.zeros(len(made), bool), metrics={"dim": made.shape[1]})
        case steps.Deduplicate():
            from ssl_tasks.curate.deduplicate import deduplicate

            return deduplicate(pool, step)
        case steps.Leakage():
            from ssl_tasks.curate.leakage import leakage

            return leakage(pool, step)
        case steps.Retrieve():
            from ssl_tasks.curate.retrieve import retrieve

            return retrieve(pool, step)
        case steps.Cluster():
            from ssl_tasks.curate.cluster import cluster

            return cluster(pool, step)
        case steps.Balance():
            from ssl_tasks.curate.balance import balance

            return balance(pool, step)
        case steps.Typical():
            from ssl_tasks.curate.typical import typical

            return typical(pool, step)
        case steps.Diverse():
            from ssl_tasks.curate.diverse import diverse

            return diverse(pool, step)
        case steps.Filter():
            from ssl_tasks.curate.filter import filter_rows

            return filter_rows(pool, step)
        case steps.Split():
            from ssl_tasks.curate.split import split

            return split(pool, step)
        case _:
            assert_never(step)


def applied(pool: Pool, kind: str, decisions: Decisions) -> pa.Table:
    """The manifest with a step's decisions written into it."""
    table, ids = pool.table, pool.ids
    gone = np.flatnonzero(decisions.removed)
    columns: dict[str, Any] = {name: table[name].to_pylist() for name in ("why", "duplicate_of", *decisions.facts)}
    kept = manifest.column(table, "kept").copy()
    kept[ids[gone]] = False
    for row in gone.tolist():
        columns["why"][ids[row]] = f"{kind}: {decisions.reason(row)}"
        if decisions.duplicate_of is not None and decisions.duplicate_of[row] != NOBODY:
            columns["duplicate_of"][ids[row]] = int(decisions.duplicate_of[row])
    for name, values in decisions.facts.items():
        for id_, value in zip(ids.tolist(), values.tolist(), strict=True):
            columns[name][id_] = value
    if decisions.splits is not None:
        columns["split"] = table["split"].to_pylist()
        for id_, split in zip(ids.tolist(), decisions.splits, strict=True):
            columns["split"][id_] = split
    where = pa.array(np.arange(len(table)))
    places = pa.compute.index_in(where, value_set=pa.array(ids))
    said = {name: pa.array(values).take(places) for name, values in {"kept": ~decisions.removed, **decisions.said}.items()}
    return manifest.annotate(manifest.replace(table, kept=kept, **columns), pool.step, said)


def reasons(decisions: Decisions) -> dict[str, int]:
    """How many rows were removed for each reason."""
    gone = np.flatnonzero(decisions.removed)
    found, counts = np.unique(np.array([decisions.reason(int(row)) for row in gone], str), return_counts=True)
    return dict(zip(found.tolist(), counts.tolist(), strict=True))


def examples(pool: Pool, decisions: Decisions) -> list[dict[str, Any]]:
    """The first few removed rows, for a reader to look at."""
    shown = np.flatnonzero(decisions.removed)[:EXAMPLES].tolist()
    of = [NOBODY] * len(shown) if decisions.duplicate_of is None else decisions.duplicate_of[shown].tolist()
    each = zip(shown, of, strict=True)
    return [{"id": int(pool.ids[row]), "reason": decisions.reason(row), "duplicate_of": None if kept == NOBODY else kept} for row, kept in each]


def write_quarantine(table: pa.Table, path: Path) -> None:
    """List what integrity steps removed, here or in an earlier curation."""
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(("uri", "reason"))
        for uri, why in zip(table["uri"].to_pylist(), table["why"].to_pylist(), strict=True):
            if why.startswith("integrity: "):
                rows.writerow((uri, why.removeprefix("integrity: ")))

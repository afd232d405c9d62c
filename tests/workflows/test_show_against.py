"""`sslflow show --against`: which images two datasets do not share, and why."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from image_stories import lines, row, workspace

from ssl_tasks.data import manifest
from ssl_tasks.data.changes import changes
from ssl_tasks.data.provenance import Listing
from workflows.engine import explain_images as images
from workflows.engine import ledger

__all__ = ["workspace"]


def test_two_datasets_of_different_runs_differ_in_images_and_config(workspace: Path) -> None:
    told = images.difference(workspace, "looser", "clean")
    assert told["kept"] == (3, 4)
    assert [(group["reason"], group["examples"]) for group in told["added"]] == [
        ("out before: deduplicate: near duplicate", ["pool/c.png"]),
        ("out before: integrity: truncated", ["pool/d.png"]),
    ]
    assert [(group["reason"], group["examples"]) for group in told["dropped"]] == [("balance: its cluster is full", ["pool/e.png"])]
    assert told["config"] == ["clean.steps.1.threshold: 0.97 -> 0.98"]
    older = sorted(run["id"] for run in ledger.runs(workspace))
    keys = {images.listing(workspace, f"{run}/clean").made[0].key for run in older}
    assert keys == {"looser", "clean"}
    assert lines(workspace, "looser", "--against", "clean")[:3] == [
        "clean looser against clean clean: 3 -> 4 images in",
        "added: 2",
        "  1  out before: deduplicate: near duplicate, pool/c.png",
    ]


def test_a_dataset_against_itself_holds_the_same_images(workspace: Path) -> None:
    assert lines(workspace, "clean", "--against", "clean") == ["clean clean against clean clean: 3 -> 3 images in, the same ones"]


def against(now: list[dict[str, Any]], before: list[dict[str, Any]], folder: Path) -> Iterator[tuple[str, str, list[str]]]:
    pair = []
    for name, rows in (("now", now), ("before", before)):
        pq.write_table(manifest.build(rows), folder / f"{name}.parquet")
        pair.append(Listing(name, folder / f"{name}.parquet"))
    found = changes(*pair)
    for field in ("added", "dropped", "changed", "renamed", "resplit"):
        yield from ((field, group.reason, group.examples) for group in getattr(found, field))


def test_new_gone_changed_moved_and_resplit_files_are_told_apart(tmp_path: Path) -> None:
    before = [row("a.png"), row("b.png"), row("c.png"), row("d.png"), row("e.png")]
    now = [row("a.png", sha256="f" * 64), row("x/b.png", sha256=before[1]["sha256"]), row("c.png", split="val"), row("e.png"), row("new.png")]
    assert list(against(now, before, tmp_path)) == [
        ("added", "new in the raw pool", ["pool/new.png"]),
        ("dropped", "no longer in the raw pool", ["pool/d.png"]),
        ("changed", "other bytes at the same uri", ["pool/a.png"]),
        ("renamed", "the same bytes at another uri", ["pool/x/b.png"]),
        ("resplit", "train -> val", ["pool/c.png"]),
    ]


def test_a_copy_of_a_renamed_file_is_new(tmp_path: Path) -> None:
    before = [row("a.png")]
    now = [row("x.png", sha256=before[0]["sha256"]), row("y.png", sha256=before[0]["sha256"])]
    assert list(against(now, before, tmp_path)) == [
        ("added", "new in the raw pool", ["pool/y.png"]),
        ("renamed", "the same bytes at another uri", ["pool/x.png"]),
    ]

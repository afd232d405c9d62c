"""Datasets whose story is written down here: what each curation step saw of each image, and how it ended."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from schemas.artifacts import Artifact, Dataset
from schemas.job import Job
from schemas.stages import Curate, Evaluate, Ingest, Pretrain, StageBase
from ssl_tasks import artifacts
from ssl_tasks.data import manifest
from workflows.engine import ledger
from workflows.engine.cli import app

STEPS: list[Any] = ["integrity", {"kind": "deduplicate", "threshold": 0.97}, "exact_duplicates", {"kind": "balance", "keep": 3}]
NAMES = ("1_integrity", "2_deduplicate", "3_exact_duplicates", "4_balance")


def row(name: str, **fields: Any) -> dict[str, Any]:
    return {"uri": f"pool/{name}", "sha256": name.encode().hex().ljust(64, "0"), "bytes": 1000, "width": 32, "height": 24, "mode": "RGB", "label": "cat",
            "split": "train", **fields}  # fmt: skip


POOL = [row("a.png"), row("b.png"), row("c.png"), row("d.png", width=None), row("e.png"), row("f.png"), row("g.png"), row("t.png", split="test")]
OUT = {
    1: ("deduplicate: near duplicate", 0),
    2: ("deduplicate: near duplicate", 1),
    3: ("integrity: truncated", None),
    0: ("balance: its cluster is full", None),
    6: ("exact_duplicates: equal pixels", 5),
}
"""b went for a, c for b; d is broken; then g went for f, and a, as its cluster was full. e, f and t are in."""


def curated_rows(out: dict[int, tuple[str, int | None]] = OUT) -> pa.Table:
    table = manifest.build(POOL)
    count = range(len(POOL))
    table = manifest.replace(
        table,
        kept=[i not in out for i in count],
        why=[out[i][0] if i in out else "" for i in count],
        duplicate_of=[out[i][1] if i in out else None for i in count],
        cluster=[0, None, None, None, 1, 0, None, None],
    )
    seen = [1.0, 0.991, 0.93, None, 1.0, 1.0, 1.0, None]
    for name in NAMES:
        noted = {"similarity": pa.array(seen)} if name == "2_deduplicate" else {}
        table = manifest.annotate(table, name, {"kept": pa.array([stayed(i, name, out) for i in count]), **noted})
    return table


def stayed(image: int, step: str, out: dict[int, tuple[str, int | None]]) -> bool | None:
    """Whether an image was still there after a step; None where it was not asked."""
    if POOL[image]["split"] != "train":
        return True if step == "1_integrity" else None
    went = next((i for i, name in enumerate(NAMES) if image in out and name.endswith(out[image][0].partition(":")[0])), len(NAMES))
    return None if went < NAMES.index(step) else went != NAMES.index(step)


def sealed(workspace: Path, name: str, stage: StageBase, inputs: dict[str, str], payload: dict[str, Any], key: str = "", **fields: Any) -> Artifact:
    job = Job(name=name, pipeline="test", stage=stage, key=key or name, inputs=inputs, outputs={"": key or name}, workspace=workspace, data_version="0f.dir")
    folder = artifacts.draft(job)
    for file, content in payload.items():
        if isinstance(content, pa.Table):
            pq.write_table(content, folder / file)
        else:
            (folder / file).write_text(json.dumps(content))
    return artifacts.seal(job, folder, **fields)


def dataset(workspace: Path, name: str, stage: StageBase, inputs: dict[str, str], table: pa.Table, key: str = "", **payload: Any) -> Dataset:
    files = {"manifest.parquet": table, **{file.replace("_", "."): content for file, content in payload.items()}}
    made = sealed(workspace, name, stage, inputs, files, key, rows=len(table), kept=len(manifest.kept(table)))
    assert isinstance(made, Dataset)
    return made


def curate(threshold: float = 0.97) -> Curate:
    return Curate.model_validate({"dataset": "raw", "steps": [STEPS[0], {"kind": "deduplicate", "threshold": threshold}, *STEPS[2:]]})


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """raw -> clean -> teacher -> report, where the report is on raw; and `looser`, a curation with another threshold."""
    folder = tmp_path_factory.mktemp("workspace")
    dataset(folder, "raw", Ingest.model_validate({"source": "digits"}), {}, manifest.build(POOL))
    leaks = pa.table(
        {
            **{"train_id": [4], "train_sha256": [POOL[4]["sha256"]], "set": ["raw"], "set_name": ["raw"], "split": ["test"]},
            **{"eval_id": [7], "eval_sha256": [POOL[7]["sha256"]], "similarity": [0.993], "dropped": [False]},
        }
    )
    dataset(folder, "clean", curate(), {"raw": "raw"}, curated_rows(), leaks_parquet=leaks)
    loose = {id_: told for id_, told in OUT.items() if id_ not in (2, 3)} | {4: ("balance: its cluster is full", None)}
    dataset(folder, "clean", curate(0.98), {"raw": "raw"}, curated_rows(loose), key="looser")
    encoder = {"name": "resnet18", "image_size": 32}
    teacher = Pretrain.model_validate({"dataset": "clean", "method": "simclr", "encoder": encoder})
    stated = {"encoder": encoder, "mean": [0.5], "std": [0.5], "dim": 512, "exported": "encoder"}
    sealed(folder, "teacher", teacher, {"clean": "clean"}, {}, **stated)
    report = Evaluate.model_validate({"dataset": "raw", "models": ["teacher"], "protocols": ["knn"]})
    sealed(folder, "report", report, {"raw": "raw", "teacher": "teacher"}, {})
    for key in ("looser", "clean"):
        run = ledger.Run(folder, "test")
        run.stage("clean", status="done", kind="curate", outputs={"": key})
        run.finish("done")
    return folder


def lines(workspace: Path, *arguments: str) -> list[str]:
    done = CliRunner().invoke(app, ["show", *arguments, "--workspace", str(workspace)], catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout.splitlines()

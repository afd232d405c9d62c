"""Curation on small worlds whose answer is known."""

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from schemas.artifacts import Checkpoint, Dataset, read
from schemas.encoders import Encoder
from schemas.errors import UserError
from schemas.job import Job
from schemas.stages import Curate, Ingest, Pretrain
from ssl_tasks import artifacts
from ssl_tasks.checkpoints import save_encoder
from ssl_tasks.curate import curate
from ssl_tasks.curate.balance import even_shares
from ssl_tasks.curate.deduplicate import component_of
from ssl_tasks.data import manifest
from ssl_tasks.ingest import ingest
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.tracking import JSONLines

STEPS: list[Any] = ["integrity", "exact_duplicates", {"kind": "deduplicate", "threshold": 0.98}, {"kind": "balance", "keep": 12, "clusters": 4}]
CURATE = """
import sys
from schemas.job import Job
from ssl_tasks.curate import curate
from ssl_tasks.tracking import JSONLines
job = Job.model_validate_json(sys.stdin.read())
curate(job, JSONLines(job.work / "events.jsonl"))
"""


def job_of(stage: Any, workspace: Path, key: str, inputs: dict[str, str] | None = None) -> Job:
    return Job(name=stage.kind, pipeline="test", stage=stage, key=key, inputs=inputs or {}, outputs={"": key}, workspace=workspace)


def events(job: Job) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (job.work / "events.jsonl").read_text().splitlines()]


def raw(workspace: Path, **source: Any) -> None:
    stage = Ingest.model_validate({"source": {"kind": "folder", "path": "pool", **source}})
    job = job_of(stage, workspace, "raw")
    ingest(job, JSONLines(job.work / "events.jsonl"))


def curated(workspace: Path, steps: list[Any], key: str = "clean", seed: int = 0, **inputs: str) -> tuple[Dataset, pa.Table, Job]:
    job = job_of(Curate.model_validate({"dataset": "raw", "steps": steps, "seed": seed}), workspace, key, {"raw": "raw", **inputs})
    dataset = curate(job, JSONLines(job.work / "events.jsonl"))[""]
    assert isinstance(dataset, Dataset)
    return dataset, manifest.read(dataset), job


def smooth(seed: int, size: int = 32) -> np.ndarray:
    """A picture that shrinks without losing what makes it unlike others."""
    grid = np.random.default_rng(seed).integers(0, 256, (6, 6), np.uint8)
    return np.asarray(Image.fromarray(grid).resize((size, size), Image.Resampling.BICUBIC))


def save(pixels: np.ndarray, path: Path, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """Train: 20 unlike pictures; 00 again as BMP and as RGB; 01 again twice as large and as JPEG; broken files. Test: 02 again."""
    pool = tmp_path / "pool"
    for i in range(20):
        save(smooth(i), pool / f"train/{i:02d}.png")
    save(smooth(0), pool / "train/a_copy.bmp")
    save(np.stack([smooth(0)] * 3, axis=-1), pool / "train/a_rgb.png")
    save(smooth(1, 64), pool / "train/b_large.png")
    save(smooth(1), pool / "train/b_small.jpg", quality=90)
    (pool / "train/empty.png").touch()
    save(smooth(30), pool / "test/0.png")
    save(smooth(2), pool / "test/1.png")
    save(smooth(2), pool / "test/2.png")
    (pool / "test/3.jpg").write_text("no image")
    raw(tmp_path, splits=True)
    return tmp_path


def why(table: pa.Table) -> dict[str, tuple[str, int | None]]:
    rows = zip(table["uri"].to_pylist(), table["why"].to_pylist(), table["duplicate_of"].to_pylist(), strict=True)
    return {Path(uri).relative_to("pool").as_posix(): (reason, of) for uri, reason, of in rows if reason}


def test_each_step_removes_what_it_should_and_says_why(workspace: Path) -> None:
    dataset, table, job = curated(workspace, STEPS)
    ids = {Path(uri).relative_to("pool").as_posix(): i for i, uri in enumerate(table["uri"].to_pylist())}
    decided = why(table)
    full = {uri for uri, (reason, _) in decided.items() if reason.startswith("balance: its cluster")}
    assert {uri: decision for uri, decision in decided.items() if uri not in full} == {
        "test/3.jpg": ("integrity: wrong type", None),
        "train/empty.png": ("integrity: empty", None),
        "train/a_copy.bmp": ("exact_duplicates: equal pixels", ids["train/00.png"]),
        "train/a_rgb.png": ("exact_duplicates: equal pixels", ids["train/00.png"]),
        "train/01.png": ("deduplicate: near duplicate", ids["train/b_large.png"]),
        "train/b_small.jpg": ("deduplicate: near duplicate", ids["train/b_large.png"]),
    }
    assert len(full) == 8
    assert (dataset.rows, dataset.kept) == (29, 12)
    assert [m for k, m in dataset.metrics.items() if k.endswith("/kept")] == [24, 22, 20, 12]
    assert [m for k, m in dataset.metrics.items() if k.endswith("/removed")] == [2, 2, 2, 8]
    assert manifest.kept(table, "test")["uri"].to_pylist() == ["pool/test/0.png", "pool/test/1.png", "pool/test/2.png"]
    logged = {k: v for event in events(job) if event["event"] == "metrics" for k, v in event["values"].items()}
    assert logged == dataset.metrics


def test_a_train_image_equal_to_a_test_image_is_counted_and_kept(workspace: Path) -> None:
    dataset, table, job = curated(workspace, ["integrity", "exact_duplicates"])
    assert dataset.metrics["curate/2_exact_duplicates/equal_to_other_split"] == 1
    assert "pool/train/02.png" in manifest.kept(table)["uri"].to_pylist()
    notes = [event["message"] for event in events(job) if event["event"] == "note"]
    assert "2_exact_duplicates: train images equal to an image of another split: 1" in notes


def test_the_payload_lists_the_quarantined_and_examples_of_each_step(workspace: Path) -> None:
    dataset, table, _ = curated(workspace, STEPS)
    with dataset.path("quarantine.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [["uri", "reason"], ["pool/test/3.jpg", "wrong type"], ["pool/train/empty.png", "empty"]]
    steps = json.loads(dataset.path("report.json").read_text())["steps"]
    assert [step["step"] for step in steps] == ["1_integrity", "2_exact_duplicates", "3_deduplicate", "4_balance"]
    assert steps[0]["reasons"] == {"empty": 1, "wrong type": 1}
    assert steps[3]["reasons"] == {"its cluster is full": 8}
    (kept,) = {example["duplicate_of"] for example in steps[2]["examples"]}
    assert table["uri"][kept].as_py() == "pool/train/b_large.png"


def test_every_row_that_balance_considered_has_its_cluster(workspace: Path) -> None:
    _, table, _ = curated(workspace, STEPS)
    considered = [not reason or reason.startswith("balance") for reason in table["why"].to_pylist()]
    expected = [c and split == "train" for c, split in zip(considered, table["split"].to_pylist(), strict=True)]
    assert [cluster is not None for cluster in table["cluster"].to_pylist()] == expected
    assert set(table["cluster"].drop_null().to_pylist()) <= set(range(4))


def test_another_process_with_another_number_of_threads_writes_the_same_bytes(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, _, _ = curated(workspace, STEPS, key="here", seed=3)
    job = job_of(Curate.model_validate({"dataset": "raw", "steps": STEPS, "seed": 3}), workspace, "there", {"raw": "raw"})
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    subprocess.run([sys.executable, "-c", CURATE], input=job.model_dump_json(), text=True, check=True)
    assert read(job.folder("there")).files == here.files
    other, _, _ = curated(workspace, STEPS, key="other", seed=4)
    assert other.files["manifest.parquet"] != here.files["manifest.parquet"]


def test_near_duplicates_are_found_by_the_features_of_a_checkpoint(workspace: Path) -> None:
    encoder = Encoder(name="resnet10t", image_size=32, channels=1)
    stage = Pretrain.model_validate({"dataset": "raw", "method": "simclr", "encoder": encoder})
    job = job_of(stage, workspace, "teacher", {"raw": "raw"})
    torch.manual_seed(0)
    folder, network = artifacts.draft(job), TimmEncoder(encoder)
    save_encoder(folder, network)
    stated = {"encoder": encoder.model_dump(mode="json"), "mean": [0.5], "std": [0.5], "dim": network.dim, "exported": "encoder"}
    assert isinstance(artifacts.seal(job, folder, **stated), Checkpoint)
    step = {"kind": "deduplicate", "threshold": 0.999999, "embedding": {"kind": "encoded", "checkpoint": "teacher"}}
    _, table, _ = curated(workspace, ["integrity", step], teacher="teacher")
    found = why(table)
    assert {"train/a_copy.bmp", "train/a_rgb.png"} <= {uri for uri, (reason, _) in found.items() if reason == "deduplicate: near duplicate"}
    assert "train/05.png" not in found


def test_a_step_that_leaves_no_train_image_is_a_user_error(workspace: Path) -> None:
    with pytest.raises(UserError, match=r"stages.curate.steps.0: integrity leaves no train image of 29"):
        curated(workspace, [{"kind": "integrity", "min_side": 65}])


def test_without_integrity_a_broken_image_is_a_user_error_that_advises_it(workspace: Path) -> None:
    with pytest.raises(UserError, match=r"empty.png cannot be decoded \(empty\): .*`integrity`"):
        curated(workspace, ["exact_duplicates"])


def test_components_equal_those_of_all_pairs_by_brute_force() -> None:
    random = np.random.default_rng(0)
    vectors = random.normal(size=(120, 6)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    joined = vectors.astype(np.float64) @ vectors.T.astype(np.float64) > 0.8
    label = np.arange(120)
    for _ in range(120):  # each takes the least label within reach, until nothing changes
        label = np.array([label[row].min() for row in joined])
    components, pairs = component_of(vectors, 0.8, neighbours=119)
    assert pairs == (joined.sum() - 120) // 2
    assert np.array_equal(components[:, None] == components, label[:, None] == label)
    assert len(set(label)) < 110


@pytest.mark.parametrize(
    ("sizes", "keep", "shares"),
    [
        ([10, 10, 10], 6, [2, 2, 2]),
        ([100, 5, 1], 20, [14, 5, 1]),
        ([3, 3], 6, [3, 3]),
        ([3, 3], 9, [3, 3]),
        ([0, 7, 2], 4, [0, 2, 2]),
    ],
)
def test_shares_are_as_even_as_the_sizes_allow(sizes: list[int], keep: int, shares: list[int]) -> None:
    assert even_shares(np.array(sizes), keep, np.random.default_rng(0)).tolist() == shares


def test_what_an_even_cap_leaves_over_goes_to_larger_clusters_by_chance() -> None:
    taken = [even_shares(np.array([9, 9, 9, 1]), 9, np.random.default_rng(seed)).tolist() for seed in range(20)]
    assert {tuple(t) for t in taken} == {(3, 3, 2, 1), (3, 2, 3, 1), (2, 3, 3, 1)}

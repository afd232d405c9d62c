"""Train images that are near duplicates of evaluation images."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_curate import curated, job_of, raw, save, smooth, why

from schemas.artifacts import Dataset, read
from schemas.errors import UserError
from schemas.job import Job
from schemas.stages import Curate, Ingest
from ssl_tasks.curate import curate
from ssl_tasks.data import leaks, manifest
from ssl_tasks.ingest import ingest
from ssl_tasks.tracking import JSONLines

STEP = {"kind": "leakage", "threshold": 0.98}


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """Train 00 to 09; test: 00 as it is, 01 twice, larger and as JPEG, and one of its own. Another dataset, `bench`: val 02, test 03, train 04."""
    for i in range(10):
        save(smooth(i), tmp_path / f"pool/train/{i:02d}.png")
    save(smooth(0), tmp_path / "pool/test/a.png")
    save(smooth(1, 48), tmp_path / "pool/test/b.png")
    save(smooth(1), tmp_path / "pool/test/c.jpg", quality=90)
    save(smooth(70), tmp_path / "pool/test/d.png")
    for split, seed in (("val", 2), ("test", 3), ("train", 4)):
        save(smooth(seed, 40), tmp_path / f"bench/{split}/{seed}.png")
    raw(tmp_path, splits=True)
    listed = Ingest.model_validate({"source": {"kind": "folder", "path": "bench", "splits": True}})
    job = job_of(listed, tmp_path, "bench")
    ingest(job, JSONLines(job.work / "events.jsonl"))
    return tmp_path


def pairs(dataset: Dataset, file: str = leaks.PAIRS) -> list[dict[str, object]]:
    return leaks.read(dataset, file).to_pylist()


def test_a_near_duplicate_of_the_own_test_split_is_dropped_and_both_are_named(workspace: Path) -> None:
    dataset, table, job = curated(workspace, [STEP])
    ids = {Path(uri).relative_to("pool").as_posix(): i for i, uri in enumerate(table["uri"].to_pylist())}
    gone = why(table)
    assert gone.keys() == {"train/00.png", "train/01.png"}
    assert gone["train/00.png"] == ("leakage: near duplicate of curate test", ids["test/a.png"])
    assert gone["train/01.png"][1] in (ids["test/b.png"], ids["test/c.jpg"])
    found = pairs(dataset)
    assert [(p["train_id"], p["eval_id"]) for p in found] == [
        (ids["train/00.png"], ids["test/a.png"]), (ids["train/01.png"], ids["test/b.png"]), (ids["train/01.png"], ids["test/c.jpg"]),
    ]  # fmt: skip
    for pair in found:
        assert (pair["set"], pair["set_name"], pair["split"], pair["dropped"]) == (job.outputs[""], "curate", "test", True)
        assert (pair["train_sha256"], pair["eval_sha256"]) == tuple(table["sha256"][pair[key]].as_py() for key in ("train_id", "eval_id"))
        assert 0.98 <= float(str(pair["similarity"])) <= 1
    assert manifest.kept(table, "test")["id"].to_pylist() == [ids[f"test/{name}"] for name in ("a.png", "b.png", "c.jpg", "d.png")]


def test_a_flagged_image_stays_and_the_pair_is_on_record(workspace: Path) -> None:
    dataset, table, _ = curated(workspace, [{**STEP, "action": "flag"}])
    assert why(table) == {}
    assert [pair["dropped"] for pair in pairs(dataset)] == [False] * 3
    assert dataset.metrics["curate/1_leakage/leaking"] == 2
    similarity = table["1_leakage.similarity"].to_pylist()
    assert [Path(uri).name for uri, value in zip(table["uri"].to_pylist(), similarity, strict=True) if value is not None] == ["00.png", "01.png"]


def test_other_datasets_are_compared_in_the_splits_named(workspace: Path) -> None:
    dataset, table, _ = curated(workspace, [{**STEP, "against": ["bench"]}], bench="bench")
    assert why(table).keys() == {f"train/0{i}.png" for i in range(4)}
    assert why(table)["train/03.png"] == ("leakage: near duplicate of bench test", None)
    assert {(p["set"], p["set_name"], p["split"]) for p in pairs(dataset)} == {
        ("clean", "curate", "test"),
        ("bench", "bench", "val"),
        ("bench", "bench", "test"),
    }
    (told,) = json.loads(dataset.path("report.json").read_text())["steps"]
    counts = [(s["set_name"], s["split"], s["images"], s["train_images"], s["evaluated_images"], s["pairs"]) for s in told["sets"]]
    assert counts == [("curate", "test", 4, 2, 3, 3), ("bench", "test", 1, 1, 1, 1), ("bench", "val", 1, 1, 1, 1)]
    assert dataset.metrics["curate/1_leakage/bench.val.pairs"] == 1
    assert "2 train images are near duplicates of 3 of the 4 of curate test" in told["notes"]
    _, table, _ = curated(workspace, [{**STEP, "against": ["bench"], "splits": ["train"]}], key="also", bench="bench")
    assert why(table).keys() == {f"train/0{i}.png" for i in (0, 1, 4)}


def test_leaks_are_those_of_brute_force(workspace: Path) -> None:
    dataset, table, _ = curated(workspace, [{**STEP, "threshold": 0.2, "action": "flag"}])
    from PIL import Image

    def vector(uri: str) -> np.ndarray:
        grey = np.asarray(Image.open(workspace / uri).convert("L").resize((16, 16), Image.Resampling.BILINEAR), np.float64).ravel()
        return (grey - grey.mean()) / np.linalg.norm(grey - grey.mean())

    train, test = manifest.kept(table), manifest.kept(table, "test")
    wanted = {
        (i, j)
        for i, a in zip(train["id"].to_pylist(), train["uri"].to_pylist(), strict=True)
        for j, b in zip(test["id"].to_pylist(), test["uri"].to_pylist(), strict=True)
        if vector(a) @ vector(b) >= 0.2
    }
    assert {(p["train_id"], p["eval_id"]) for p in pairs(dataset)} == wanted
    assert len(wanted) > 5


def test_what_was_compared_is_on_record_even_without_a_leak(workspace: Path) -> None:
    clean, table, _ = curated(workspace, [STEP], key="first")
    assert {row["eval_sha256"] for row in pairs(clean, leaks.CHECKED)} == set(manifest.kept(table, "test")["sha256"].to_pylist())
    assert {row["threshold"] for row in pairs(clean, leaks.CHECKED)} == {0.98}
    assert {json.loads(str(row["embedding"]))["kind"] for row in pairs(clean, leaks.CHECKED)} == {"pixels"}


def test_a_later_curation_carries_leaks_on_and_adds_its_own(workspace: Path) -> None:
    def again(steps: list[object], key: str, of: str) -> Dataset:
        stage = Curate.model_validate({"dataset": "before", "steps": steps})
        job = Job(name="later", pipeline="test", stage=stage, key=key, inputs={"before": of, "bench": "bench"}, outputs={"": key}, workspace=workspace)
        made = curate(job, JSONLines(job.work / "events.jsonl"))[""]
        assert isinstance(made, Dataset)
        return made

    first, _, _ = curated(workspace, [{**STEP, "action": "flag"}], key="first")
    second = again(["integrity"], "second", "first")
    assert [second.files[file] for file in leaks.SCHEMAS] == [first.files[file] for file in leaks.SCHEMAS]
    third = again([{**STEP, "against": ["bench"]}], "third", "second")
    assert pairs(third)[:3] == pairs(first)
    assert {(p["set_name"], p["dropped"]) for p in pairs(third)} == {("curate", False), ("later", True), ("bench", True)}


def test_nothing_to_compare_with_is_a_user_error(workspace: Path) -> None:
    with pytest.raises(UserError, match=r"^stages.curate.steps.0.against: 'bench' keeps no image in its splits dev: name in `splits`"):
        curated(workspace, [{**STEP, "against": ["bench"], "splits": ["dev"]}], key="dev", bench="bench")
    raw_alone = workspace / "alone"
    save(smooth(1), raw_alone / "pool/1.png")
    raw(raw_alone)
    with pytest.raises(UserError, match=r"^stages.curate.steps.0: there is nothing to compare with: the dataset has the split train alone"):
        curated(raw_alone, [STEP])


def test_a_damaged_record_is_a_user_error(workspace: Path) -> None:
    dataset, _, job = curated(workspace, [STEP])
    dataset.path(leaks.PAIRS).write_bytes(b"no parquet")
    with pytest.raises(UserError, match=r"leaks.parquet is damaged: run stage 'curate' again with `--force curate`"):
        leaks.read(dataset, leaks.PAIRS)
    pq.write_table(pa.table({"train_id": [1]}), dataset.path(leaks.PAIRS))
    again = read(job.folder(job.outputs[""]))
    assert isinstance(again, Dataset)
    with pytest.raises(UserError, match=r"leaks.parquet is damaged"):
        leaks.read(again, leaks.PAIRS)

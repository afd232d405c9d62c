"""A report over a model that was trained on near duplicates of what it is judged on says so."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluated import TRAIN, checkpoint, done, draw, encoder, evaluation, job
from PIL import Image

from schemas.artifacts import Artifact
from schemas.job import Job
from ssl_tasks.evaluate import alike, leaks
from ssl_tasks.evaluate.leaks import Leak


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train images are noisy shapes, 36 in all. Two test images of 12 came from them: one re-encoded, one copied byte by byte."""
    root = tmp_path_factory.mktemp("leaks")
    draw(root / "images")
    copied = np.asarray(Image.open(root / "images/train/bar/3.png"))
    Image.fromarray(np.clip(copied.astype(int) + 3, 0, 255).astype(np.uint8)).save(root / "images/test/bar/0.png")
    (root / "images/test/cross/1.png").write_bytes((root / "images/train/cross/5.png").read_bytes())
    return root


@pytest.fixture(scope="module")
def world(workspace: Path) -> dict[str, Artifact]:
    """Datasets `raw`, `flagged` and `dropped`; a model trained on each; and `heir`, distilled on `dropped` from the one on `raw`."""
    source = {"kind": "folder", "path": "images", "labels": True, "splits": True}
    made = {"raw": done(job(workspace, "raw", {"kind": "ingest", "source": source}, {}))[""]}
    for name, action in (("flagged", "flag"), ("dropped", "drop")):
        stage = {"kind": "curate", "dataset": "raw", "steps": [{"kind": "leakage", "threshold": 0.995, "action": action}]}
        made[name] = done(job(workspace, name, stage, {"raw": made["raw"].key}))[""]
    for number, name in enumerate(("raw", "flagged", "dropped")):
        stage = {"kind": "pretrain", "dataset": name, "method": "simclr", "encoder": encoder(8), "train": TRAIN}
        made[f"on_{name}"] = checkpoint(job(workspace, f"on_{name}", stage, {name: made[name].key}), "", encoder(8), number)
    stage = {"kind": "distill", "dataset": "dropped", "teacher": "on_raw", "method": "feature", "students": {"heir": encoder(4)}, "train": TRAIN}
    distill = job(workspace, "heir", stage, {"dropped": made["dropped"].key, "on_raw": made["on_raw"].key}, ("heir",))
    made["heir.heir"] = checkpoint(distill, "heir", encoder(4), 3)
    return made


def judged(workspace: Path, world: dict[str, Artifact], *models: str, on: str = "raw") -> tuple[dict[str, Any], str, Job]:
    """`leaks` in the results of an evaluation, and its page."""
    inputs = {name: world[name].key for name in (on, *models)}
    asked = evaluation(workspace, inputs, dataset=on, models=list(models), compare=[], baselines=[], protocols=[{"kind": "knn", "k": 3}])
    report = done(asked)[""]
    return json.loads(report.path("results.json").read_text())["leaks"], report.path("report.html").read_text(), asked


def test_each_model_is_told_by_what_it_was_trained_on(workspace: Path, world: dict[str, Artifact]) -> None:
    found, page, asked = judged(workspace, world, "on_raw", "on_flagged", "on_dropped", "heir.heir")
    counts = {name: (leak["train_images"], leak["evaluated_images"], leak["equal_files"], leak["unchecked"]) for name, leak in found.items()}
    assert counts == {"on_raw": (1, 1, 1, 12), "on_flagged": (2, 2, 1, 0), "on_dropped": (0, 0, 0, 0), "heir.heir": (1, 1, 1, 12)}
    assert found["heir.heir"]["datasets"] == ["dropped", "raw"]
    assert found["heir.heir"]["lax"] == ["raw"]
    lines = [
        "on_raw was trained on 1 byte-equal copy of 1 of the 12 images that it is tested on: its numbers are inflated.",
        "on_flagged was trained on 2 near duplicates of 2 of the 12 images that it is tested on: its numbers are inflated.",
        "heir.heir was trained on 1 byte-equal copy of 1 of the 12 images that it is tested on: its numbers are inflated.",
        "The labelled images of raw hold 1 near duplicates or copies of 1 of the 12 test images: all numbers here are inflated.",
        "on_raw: not checked for leaks; add the step `leakage` to what makes raw.",
        "heir.heir: not checked for leaks; add the step `leakage` to what makes raw.",
        "Checked for leaks: no near duplicate of a test image is among the train images of on_dropped.",
    ]
    assert [line for line in lines if line in page] == lines
    assert page.count('class="warning"') == 4
    notes = [json.loads(line).get("message", "") for line in (asked.work / "events.jsonl").read_text().splitlines()]
    assert [note for note in notes if "inflated" in note] == lines[:4]


def test_a_clean_model_has_no_warning(workspace: Path, world: dict[str, Artifact]) -> None:
    _, page, _ = judged(workspace, world, "on_dropped", on="dropped")
    assert 'class="warning"' not in page
    assert "Checked for leaks" in page


def test_labelled_images_that_leak_are_told_of_whatever_the_model_was_trained_on(workspace: Path, world: dict[str, Artifact]) -> None:
    _, page, _ = judged(workspace, world, "on_dropped", on="flagged")
    assert "The labelled images of flagged hold 2 near duplicates or copies of 2 of the 12 test images: all numbers here are inflated." in page
    assert page.count('class="warning"') == 1


def test_models_alike_share_a_line() -> None:
    leak = Leak(37, 30, 4, 0, 500, ("clean",), ())
    (line,) = leaks.warnings({"teacher": leak, "student": leak})
    assert line == "teacher and student were trained on 37 near duplicates of 30 of the 500 images that they are tested on: their numbers are inflated."
    assert leaks.remarks({"teacher": leak}) == []


def test_a_dataset_checked_in_part_is_said_to_be() -> None:
    leak = Leak(0, 0, 0, 200, 500, ("clean",), ("clean",))
    assert leaks.warnings({"teacher": leak}) == []
    assert leaks.remarks({"teacher": leak}) == ["teacher: 200 of the 500 test images not checked for leaks; add the step `leakage` to what makes clean."]


class TestNear:
    """A re-encoded copy that no step looked for."""

    def test_hashes_tell_what_records_do_not_where_they_are_asked_for(self, workspace: Path, world: dict[str, Artifact]) -> None:
        found, rows, page = self.judged(workspace, world, "near")
        assert {name: (leak["train_images"], leak["evaluated_images"], leak["by_hash"]) for name, leak in found.items()} == {"on_raw": (2, 2, 1)}
        assert found["on_raw"]["unchecked"] == 0
        assert "on_raw was trained on 2 near duplicates of 2 of the 12 images that it is tested on: its numbers are inflated." in page
        assert all(row["leaking"] for row in rows if row["model"] == "on_raw")
        recorded, _, _ = self.judged(workspace, world, "recorded")
        assert (recorded["on_raw"]["train_images"], recorded["on_raw"]["by_hash"]) == (1, 0)

    def test_baselines_are_never_said_to_leak(self, workspace: Path, world: dict[str, Artifact]) -> None:
        assert not any(row["leaking"] for row in self.judged(workspace, world, "near")[1] if row["model"] == "pixels")

    def test_of_a_set_too_large_some_are_looked_at_and_it_stays_unchecked(
        self, workspace: Path, world: dict[str, Artifact], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(alike, "MOST", 20)
        assert self.judged(workspace, world, "near")[0]["on_raw"]["unchecked"] == 12

    def test_bits_are_compared_all_with_all_and_equal_hashes_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(alike, "_BLOCK", 8)
        first = np.array([0b0, 0b111111, 0b0, 0xFF00], np.uint64)
        near, like = alike.alike(first, np.array([0b11111, 0xFF00FF0000], np.uint64), 5)
        assert near.tolist() == [True, True, True, False]
        assert like.tolist() == [True, False]

    @staticmethod
    def judged(workspace: Path, world: dict[str, Artifact], leakage: str) -> tuple[dict[str, Any], list[dict[str, Any]], str]:
        inputs = {name: world[name].key for name in ("raw", "on_raw")}
        fields: dict[str, Any] = {"models": ["on_raw"], "compare": [], "baselines": ["pixels"], "protocols": [{"kind": "knn", "k": 3}]}
        report = done(evaluation(workspace, inputs, dataset="raw", leakage=leakage, **fields))[""]
        found = json.loads(report.path("results.json").read_text())
        return found["leaks"], found["rows"], report.path("report.html").read_text()

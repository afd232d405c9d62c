"""What cannot be judged says so in a line, and all else is judged: features that are no numbers, a collapsed model, classes that a split lacks."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from evaluated import TRAIN, datasets, done, encoder, evaluation, job

from schemas.artifacts import Artifact
from schemas.encoders import Encoder
from schemas.job import Job
from schemas.protocols.frozen import KNN, Linear
from schemas.protocols.label_free import Rank
from ssl_tasks.artifacts import draft, seal
from ssl_tasks.checkpoints import save_encoder
from ssl_tasks.evaluate import features
from ssl_tasks.evaluate.frozen.knn import knn
from ssl_tasks.evaluate.protocols import lacking
from ssl_tasks.evaluate.split import Split, split
from ssl_tasks.nn.encoder import TimmEncoder


def model(workspace: Path, name: str, clean: Artifact, fill: float | None) -> str:
    """The key of a Checkpoint whose last block gives one value for every image, or of one as it is initialised."""
    stage = {"kind": "pretrain", "dataset": "clean", "method": "simclr", "encoder": encoder(8), "train": TRAIN}
    made: Job = job(workspace, name, stage, {"clean": clean.key})
    folder = draft(made)
    torch.manual_seed(0)
    network = TimmEncoder(Encoder(**encoder(8)))
    if fill is not None:
        for part in network.backbone.layer4.modules():
            if isinstance(part, torch.nn.BatchNorm2d):
                torch.nn.init.zeros_(part.weight)
                torch.nn.init.constant_(part.bias, fill)
    save_encoder(folder, network)
    fields = {"encoder": network.config.model_dump(mode="json"), "mean": [0.5], "std": [0.5], "dim": network.dim, "exported": "encoder"}
    return seal(made, folder, **fields).key


@pytest.mark.parametrize(("fill", "reason"), [(1.0, "the same for all images, the model has collapsed"), (float("nan"), "not finite")])
def test_a_broken_model_is_named_and_the_others_are_judged(tmp_path: Path, fill: float, reason: str) -> None:
    _, clean = datasets(tmp_path)
    inputs = {"clean": clean.key, "well": model(tmp_path, "well", clean, None), "broken": model(tmp_path, "broken", clean, fill)}
    asked = evaluation(tmp_path, inputs, models=["well", "broken"], protocols=[{"kind": "knn", "k": [1, 5]}, "rank", "cost"], compare=[], baselines=[])
    report = done(asked)[""]
    found = json.loads(report.path("results.json").read_text())
    assert {row["protocol"] for row in found["rows"] if row["model"] == "well"} == {"knn_k1", "knn_k5", "rank", "cost"}
    assert {row["protocol"] for row in found["rows"] if row["model"] == "broken"} == {"cost"}
    assert {name for name, why in found["skipped"].items() if reason in why["broken"]} == {"knn_k1", "knn_k5", "rank"}
    assert reason in report.path("report.html").read_text()


def test_differences_that_are_rounding_are_no_differences_and_small_ones_are() -> None:
    x = np.full((20_000, 3), 7.0, np.float32)
    assert "collapsed" in features.unfit(x)
    x[-1] = np.nextafter(np.float32(7), np.float32(8))
    assert "collapsed" in features.unfit(x)
    x[-1, 0] = 7.001
    assert features.unfit(x) == ""
    x[12_345, 1] = np.inf
    assert features.unfit(x) == features.NOT_FINITE
    assert "collapsed" in features.unfit(np.zeros((5, 2), np.float32))


def parts(train: list[str | None], test: list[str | None]) -> Split:
    rows = [(label, "train") for label in train] + [(label, "test") for label in test]
    columns = {"label": [label for label, _ in rows], "split": [part for _, part in rows]}
    return split(pa.table({"id": [str(i) for i in range(len(rows))], "kept": [True] * len(rows), **columns}))


def test_images_of_classes_that_the_train_images_lack_are_counted_wrong_and_named() -> None:
    found = parts(["a", "a", "b", "b"], ["a", "c", "c"])
    assert found.notes("shapes") == ["2 of the 3 test images of 'shapes' are of classes without a labelled train image (c): they count as wrong"]
    assert not lacking(KNN(), found, "shapes")
    x = np.eye(7, 3, dtype=np.float32) + 1
    assert knn(x[found.bank], found.labels[found.bank], x[found.queries], found.labels[found.queries], 1, 0.07)[1:].tolist() == [0, 0]
    assert parts(["a", "b"], ["a", "b", "b"]).notes("shapes") == []


def test_one_class_and_no_shared_class_are_lines_of_their_own() -> None:
    assert "all labelled train images of 'shapes' are 'a'" in lacking(Linear(), parts(["a", "a"], ["a", "b"]), "shapes")
    assert "no test image of 'shapes' is of a class of the train images" in lacking(KNN(), parts(["a", "b"], ["c", "c"]), "shapes")
    assert lacking(Rank(), parts(["a", "a"], ["c"]), "shapes") == ""

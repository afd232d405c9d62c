"""The labels that a classifier learns from: which share, which are held out, and which tell nothing."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from finetuned import DEEP, TRAIN, classification, config, random_checkpoint, tune
from test_distill import workspace
from test_finetune import LONG
from tiny_training import Recorder

from schemas.errors import UserError
from schemas.finetuning import Full, Unfreezing
from ssl_tasks import artifacts
from ssl_tasks.data import manifest
from ssl_tasks.finetune.labels import Labelled

__all__ = ["workspace"]


def test_the_best_weights_on_held_out_images_are_kept(workspace: Path) -> None:
    random_checkpoint(workspace, DEEP)
    tracker = Recorder()
    artifact = tune(workspace, config(Unfreezing(groups=2), train=LONG), tracker=tracker)
    accuracies = {step: values["monitor/held_out_accuracy"] for step, values in tracker.points if "monitor/held_out_accuracy" in values and step}
    best = max(accuracies.values())
    assert artifact.metrics["kept_held_out_accuracy"] == best
    assert artifact.metrics["kept_from_step"] == max(step for step, value in accuracies.items() if value == best)
    assert artifact.metrics["labelled_images"] == 58, "a tenth of 64 is held out"


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 1.0])
def test_a_share_of_the_labels_is_the_same_share_of_each_class_and_inside_every_larger_one(share: float) -> None:
    labels = [None, *["a"] * 200, *["b"] * 50, None, "c"]
    drawn = Labelled.of(labels, "data", share, seed=1)
    counts = np.bincount(drawn.numbers[drawn.rows], minlength=3)
    assert counts.tolist() == [max(1, round(share * count)) for count in (200, 50, 1)]
    assert set(drawn.rows) <= set(Labelled.of(labels, "data", min(1.0, 2 * share), seed=1).rows)
    assert drawn.classes == ["a", "b", "c"]
    assert drawn.known == 251
    if share < 1:
        assert set(drawn.rows) != set(Labelled.of(labels, "data", share, seed=2).rows)


def test_held_out_images_are_a_tenth_and_leave_every_class_one_to_learn_from() -> None:
    labels = ["a"] * 30 + ["b"] * 9 + ["c"]
    drawn = Labelled.of(labels, "data", 1.0, seed=1, holds_out=True)
    assert len(drawn.held_out) == 4
    assert not set(drawn.held_out) & set(drawn.rows)
    assert set(drawn.numbers[drawn.rows]) == {0, 1, 2}
    one_each = Labelled.of(["a", "b"], "data", 1.0, seed=1, holds_out=True)
    assert len(one_each.held_out) == 0
    assert str(one_each).endswith("no class has two, so that none chooses the best weights, and the last are kept")


def test_only_the_share_is_trained_on_and_it_is_told_how_many(workspace: Path) -> None:
    random_checkpoint(workspace)
    tracker = Recorder()
    artifact = tune(workspace, config(Full(), labels=0.1, train=TRAIN.model_copy(update={"batch_size": 4})), tracker=tracker)
    assert tracker.facts["images"] == 8
    assert "trains on 8 of 64 labelled images of 4 classes" in tracker.notes
    assert artifact.metrics["labelled_images"] == 8
    assert artifact.metrics["images_seen"] == 48, "six epochs of 8"


def test_smoothing_spreads_a_part_of_each_label_over_all_classes() -> None:
    method = classification(config(Full(), smoothing=0.2), DEEP)
    views, labels = [torch.randn(5, 1, 8, 8)], torch.tensor([0, 1, 2, 3, 0])
    loss = method(views, labels, 0.0)["cross_entropy"].item()
    logits = method.model(views[0]).detach().double().numpy()
    logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    wanted = 0.8 * np.eye(4)[labels.numpy()] + 0.2 / 4
    assert loss == pytest.approx(-(wanted * logs).sum(axis=1).mean(), rel=1e-5)


def relabel(workspace: Path, change: Any) -> None:
    """Replace the dataset `data` by one with other labels."""
    folder = workspace / ".sslflow/artifacts/data"
    table = manifest.replace(manifest.read(artifacts.read(folder)), label=[change(label) for label in _labels(folder)])
    artifact = folder / "artifact.json"
    text = artifact.read_text()
    manifest.write(table, folder)
    artifact.write_text(text)


def _labels(folder: Path) -> list[str]:
    labels: list[str] = manifest.column(manifest.read(artifacts.read(folder)), "label").tolist()
    return labels


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda _: None, "dataset 'data' has no labels, and a classifier learns from them"),
        (lambda _: "cat", "all labelled train images of dataset 'data' are 'cat': a classifier needs two classes"),
    ],
    ids=["none", "one class"],
)
def test_a_dataset_that_tells_no_classes_apart_is_refused(workspace: Path, change: Any, message: str) -> None:
    relabel(workspace, change)
    random_checkpoint(workspace)
    with pytest.raises(UserError, match=message):
        tune(workspace, config(Full()))

"""Accuracy, fidelity and calibration of classifiers: small worlds computed by hand, and whole evaluations."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from classified import classifier, family, judged
from evaluated import CLASSES, TRAIN, checkpoint, datasets, done, encoder, evaluation, job

from schemas.artifacts import Artifact
from schemas.errors import UserError
from ssl_tasks.data import manifest
from ssl_tasks.evaluate.classifiers.accuracy import accuracy
from ssl_tasks.evaluate.classifiers.calibration import COLDEST, HOTTEST, calibration_error, fitted_temperature, likelihood_loss
from ssl_tasks.evaluate.classifiers.fidelity import agreement, divergence
from ssl_tasks.evaluate.report import words
from ssl_tasks.evaluate.split import own_numbers, split

HEADS = ["accuracy", "fidelity", "calibration"]


def logits_of(probabilities: list[list[float]]) -> np.ndarray:
    """Logits of which a softmax makes these, less a number a row, as a head's may be off by any."""
    return np.log(np.array(probabilities)) - np.arange(len(probabilities))[:, None]


class TestAccuracy:
    def test_it_is_the_share_of_right_images(self) -> None:
        logits = np.array([[3.0, 1, 0], [0, 2, 1], [0, 1, 5], [2, 1, 0]])
        assert accuracy(logits, np.array([0, 1, 2, 1])).mean() == 0.75

    def test_an_image_of_an_unknown_class_counts_as_wrong(self) -> None:
        assert accuracy(np.array([[3.0, 1], [0, 2]]), np.array([0, -1])).mean() == 0.5

    def test_labels_are_put_in_the_classifiers_own_numbers(self) -> None:
        labels = np.array([0, 1, 2, -1])
        assert own_numbers(labels, ["arrow", "bar", "cross"], ["cross", "disc", "arrow"]).tolist() == [2, -1, 0, -1]


class TestFidelity:
    def test_agreement_asks_for_no_label(self) -> None:
        student = np.array([[1.0, 0], [0, 1], [0, 1], [1, 0]])
        teacher = np.array([[9.0, 0], [0, 2], [5, 1], [3, 0]])
        assert agreement(student, teacher).mean() == 0.75
        assert agreement(student, student).mean() == 1.0

    def test_divergence_is_the_mean_kl_of_the_student_from_the_teacher(self) -> None:
        teacher, student = [[0.5, 0.5], [0.9, 0.1]], [[0.25, 0.75], [0.9, 0.1]]
        by_hand = (0.5 * np.log(0.5 / 0.25) + 0.5 * np.log(0.5 / 0.75)) / 2
        assert divergence(logits_of(student), logits_of(teacher)) == pytest.approx(by_hand, rel=1e-12)
        assert divergence(logits_of(teacher), logits_of(student)) != pytest.approx(by_hand, rel=1e-3)
        assert divergence(logits_of(teacher), logits_of(teacher)) == pytest.approx(0, abs=1e-12)

    def test_logits_far_apart_do_not_overflow(self) -> None:
        assert divergence(np.array([[0.0, 1000.0]]), np.array([[1000.0, 0.0]])) == pytest.approx(1000)


class TestCalibration:
    def test_the_error_is_that_of_a_table_by_hand(self) -> None:
        # Two bins: (0, .5] holds one image of confidence .5, right; (.5, 1] three of .6, .8 and .9, of which one is right.
        logits = logits_of([[0.5, 0.3, 0.2], [0.6, 0.2, 0.2], [0.8, 0.1, 0.1], [0.9, 0.05, 0.05]])
        labels = np.array([0, 1, 0, 2])
        by_hand = 1 / 4 * abs(1 - 0.5) + 3 / 4 * abs(1 / 3 - (0.6 + 0.8 + 0.9) / 3)
        assert calibration_error(logits, labels, 2) == pytest.approx(by_hand, rel=1e-12)

    def test_it_is_that_of_the_papers_formula(self) -> None:
        generator = np.random.default_rng(0)
        logits, labels = generator.normal(0, 2, (400, 5)), generator.integers(0, 5, 400)
        probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
        total = 0.0
        for m in range(15):
            inside = (confidence > m / 15) & (confidence <= (m + 1) / 15)
            if inside.any():
                total += inside.sum() / 400 * abs(right[inside].mean() - confidence[inside].mean())
        assert calibration_error(logits, labels, 15) == pytest.approx(total, rel=1e-12)

    def test_certain_and_right_is_without_error_and_certain_and_wrong_is_all_error(self) -> None:
        certain = np.array([[800.0, 0.0]] * 3)
        assert calibration_error(certain, np.zeros(3, int), 15) == 0
        assert calibration_error(certain, np.ones(3, int), 15) == 1
        assert calibration_error(certain, np.full(3, -1), 15) == 1

    def test_the_likelihood_is_of_the_images_whose_class_is_known(self) -> None:
        logits = logits_of([[0.5, 0.5], [0.8, 0.2], [0.1, 0.9]])
        assert likelihood_loss(logits, np.array([0, 0, -1])) == pytest.approx(-(np.log(0.5) + np.log(0.8)) / 2, rel=1e-12)

    @pytest.mark.parametrize("true", [0.4, 1.0, 3.0])
    def test_the_fitted_temperature_is_the_one_that_spoiled_the_scores(self, true: float) -> None:
        # Labels as often as their probability says: the likeliest temperature of scores that are `true` times too large is `true`.
        probabilities = np.array([[0.5, 0.3, 0.2], [0.8, 0.1, 0.1]])
        labels = np.array([0] * 5 + [1] * 3 + [2] * 2 + [0] * 8 + [1, 2])
        logits = np.repeat(logits_of(probabilities.tolist()), 10, axis=0) * true
        assert fitted_temperature(logits, labels) == pytest.approx(true, rel=1e-4)
        assert calibration_error(logits, labels, 15, true) == pytest.approx(0, abs=1e-9)
        assert true == 1 or calibration_error(logits, labels, 15) > 0.02

    def test_without_a_mistake_to_learn_from_it_is_cold_and_without_a_success_as_hot_as_may_be(self) -> None:
        logits = np.array([[2.0, 0], [0, 2]])
        cold = fitted_temperature(logits, np.array([0, 1]))
        assert cold >= COLDEST
        assert likelihood_loss(logits, np.array([0, 1]), cold) == pytest.approx(0, abs=1e-12)
        assert fitted_temperature(logits, np.array([1, 0])) == pytest.approx(HOTTEST, rel=1e-2)


class TestHeldImages:
    """Which images a temperature is fitted to."""

    def table(self) -> manifest.pa.Table:
        splits = ["train"] * 20 + ["val"] * 3 + ["test"] * 4
        size = {"sha256": "0" * 64, "bytes": 1, "width": 8, "height": 8, "mode": "L"}
        return manifest.build([{"uri": f"{i}.png", "label": None if i == 20 else "ab"[i % 2], "split": s, **size} for i, s in enumerate(splits)])

    def test_they_are_those_of_the_val_split_where_there_is_one(self) -> None:
        parts = split(self.table(), val=True)
        assert parts.held_out
        assert parts.held.tolist() == [21, 22]  # one has no label
        assert "2 labelled images of the val split" in words.held(len(parts.held), parts.held_out)

    def test_without_a_val_split_they_are_a_tenth_of_each_class_of_the_train_images(self) -> None:
        parts = split(self.table(), seed=3)
        assert not parts.held_out
        assert sorted(parts.labels[parts.held].tolist()) == [0, 1]
        assert set(parts.held.tolist()) < set(parts.bank.tolist())
        assert "errs towards cold" in words.held(len(parts.held), parts.held_out)

    def test_which_they_are_changes_nothing_of_the_split(self) -> None:
        with_val, without = split(self.table(), val=True), split(self.table())
        assert with_val.id == without.id
        assert len(with_val.table) == len(without.table) + 3
        assert not set(with_val.held.tolist()) & {*with_val.queries.tolist(), *with_val.train.tolist()}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Artifact, dict[str, str]]:
    """A workspace, its curated images, and the keys of a family of classifiers."""
    workspace = tmp_path_factory.mktemp("classifiers")
    clean = datasets(workspace)[1]
    return workspace, clean, family(workspace, clean)


@pytest.fixture(autouse=True)
def without_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers alone: writing a page takes ten times as long as judging these models."""
    monkeypatch.setattr("ssl_tasks.evaluate.report.page.write", lambda *_: None)


def results(report: Artifact) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(report.path("results.json").read_text())
    return found


def test_every_classifier_is_judged_and_baselines_without_a_head_are_left_out(world: tuple[Path, Artifact, dict[str, str]]) -> None:
    workspace, _, inputs = world
    report = done(evaluation(workspace, inputs, **judged(), protocols=HEADS))[""]
    found = results(report)
    assert {row["model"] for row in found["rows"]} == set(judged()["models"])
    versions = {row["measure"]: row["version"] for row in found["rows"]}
    assert versions == {
        "accuracy": "accuracy@1", "fidelity/agreement": "fidelity@1", "fidelity/kl": "fidelity@1",
        **dict.fromkeys(("calibration/ece", "calibration/ece_scaled", "calibration/nll", "calibration/nll_scaled", "calibration/temperature"), "calibration@1"),
    }  # fmt: skip
    assert found["skipped"] == {"fidelity": {"teacher": "has no teacher among the models that is a classifier"}}
    metrics = report.metrics
    assert metrics["teacher/accuracy"] > 0.8
    assert metrics["students[seed=0].small/fidelity/agreement/distilled_minus_alone"] == pytest.approx(
        metrics["students[seed=0].small/fidelity/agreement"] - metrics["students[seed=0].small_alone/fidelity/agreement"]
    )
    temperature = next(row for row in found["rows"] if row["metric"] == "temperature")
    assert temperature["n"] == found["split"]["held"] == 3  # a tenth of the 11 labelled train images of each class
    assert found["split"]["held_out"] is False


def test_a_teacher_that_comes_after_its_student_says_the_same(world: tuple[Path, Artifact, dict[str, str]]) -> None:
    workspace, _, inputs = world
    asked = {"models": ["students[seed=0].small", "teacher"], "compare": [{"student": "students[seed=0].small", "teacher": "teacher"}]}
    last, first = (done(evaluation(workspace, inputs, **{**asked, "models": asked["models"][::step]}, protocols=["fidelity"]))[""].metrics for step in (1, -1))
    assert last == first != {}


def test_a_classifier_that_orders_its_classes_differently_is_understood(world: tuple[Path, Artifact, dict[str, str]]) -> None:
    workspace, clean, inputs = world
    stage = {"kind": "finetune", "dataset": "clean", "encoder": encoder(16), "train": TRAIN, "seed": 9}
    turned = classifier(job(workspace, "turned", stage, {"clean": clean.key}), "", encoder(16), 0, clean, classes=CLASSES[::-1])
    compare = [{"student": "turned", "teacher": "teacher"}]
    report = done(evaluation(workspace, inputs | {"turned": turned.key}, models=["teacher", "turned"], compare=compare, protocols=HEADS))[""]
    assert report.metrics["turned/accuracy"] == report.metrics["teacher/accuracy"]
    assert report.metrics["turned/fidelity/agreement"] == 1
    assert report.metrics["turned/fidelity/kl"] == pytest.approx(0, abs=1e-6)


def test_classes_that_it_does_not_know_count_against_it_and_others_are_told(world: tuple[Path, Artifact, dict[str, str]]) -> None:
    workspace, clean, inputs = world
    made = dict(inputs)
    for name, classes in (("partly", ("arrow", "bar")), ("elsewhere", ("disc", "ring"))):
        stage = {"kind": "finetune", "dataset": "clean", "encoder": encoder(16), "train": TRAIN, "seed": len(made)}
        made[name] = classifier(job(workspace, name, stage, {"clean": clean.key}), "", encoder(16), 0, clean, classes=classes).key
    compare = [{"student": "partly", "teacher": "teacher"}]
    asked = evaluation(workspace, made, models=["teacher", "partly", "elsewhere"], compare=compare, protocols=HEADS)
    report = done(asked)[""]
    assert 0 < report.metrics["partly/accuracy"] <= 2 / 3
    found = results(report)
    assert next(row["n"] for row in found["rows"] if row["measure"] == "calibration/nll" and row["model"] == "partly") == 8
    assert found["skipped"]["accuracy"] == {"elsewhere": "knows none of the test images' classes; it knows disc, ring"}
    assert found["skipped"]["fidelity"]["partly"] == "does not have its teacher's classes"
    assert "Not judged by accuracy: elsewhere, which knows none" in (asked.work / "events.jsonl").read_text()


def test_an_encoder_beside_classifiers_is_skipped_and_where_none_is_a_classifier_it_is_an_error(world: tuple[Path, Artifact, dict[str, str]]) -> None:
    workspace, clean, inputs = world
    stage = {"kind": "pretrain", "dataset": "clean", "method": "simclr", "encoder": encoder(8)}
    plain = checkpoint(job(workspace, "plain", stage, {"clean": clean.key}), "", encoder(8), 0)
    made = inputs | {"plain": plain.key}
    report = done(evaluation(workspace, made, models=["plain", "teacher"], compare=[], protocols=["accuracy"]))[""]
    assert set(report.metrics) == {"teacher/accuracy", "teacher/accuracy/low", "teacher/accuracy/high"}
    assert results(report)["skipped"] == {"accuracy": {"plain": "is no classifier"}}
    with pytest.raises(UserError, match=r"stages\.report\.protocols: accuracy, calibration judge classifiers, and no model is one; let a finetune stage"):
        done(evaluation(workspace, made, models=["plain"], compare=[], protocols=["accuracy", "calibration"]))

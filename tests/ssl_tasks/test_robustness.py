"""Robustness: the papers' formulas by hand, scikit-learn on the same scores, planted features, and what is wrong in a user's files."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from planted_features import by_class, judged, planted, values
from sklearn.covariance import EmpiricalCovariance
from sklearn.metrics import balanced_accuracy_score, roc_auc_score, roc_curve
from small_world import SmallWorld, protocol

from schemas.errors import UserError
from ssl_tasks.evaluate import probes
from ssl_tasks.evaluate.classifiers.calibration import binned, calibration_error
from ssl_tasks.evaluate.findings import Skipped
from ssl_tasks.evaluate.protocols import apply
from ssl_tasks.evaluate.robustness.groups import accuracies, read
from ssl_tasks.evaluate.robustness.out_of_distribution import accepted, mahalanobis, ranked
from ssl_tasks.evaluate.sampling import drawn
from ssl_tasks.evaluate.subject import Subject


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SmallWorld:
    return SmallWorld(tmp_path_factory.mktemp("robustness"))


def test_rows_are_drawn_in_their_order_and_all_where_they_are_few() -> None:
    rows = np.arange(100, 200)
    some = drawn(rows, 10, 3)
    assert len(set(some)) == 10
    assert (np.diff(some) > 0).all()
    assert np.array_equal(some, drawn(rows, 10, 3))
    assert not np.array_equal(some, drawn(rows, 10, 4))
    assert np.array_equal(drawn(rows, 100, 3), rows)


def test_nothing_is_lost_where_features_tell_the_class_in_both_places(world: SmallWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    planted(monkeypatch, by_class)
    assert judged(world, "shift") == {"accuracy": 1.0, "drop": 0.0}


def test_a_shift_that_turns_classes_into_each_other_loses_them(world: SmallWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    known = np.unique(world.subject("vit").world.parts.labels[world.subject("vit").world.parts.bank])

    def turned(subject: Subject) -> NDArray[np.float64]:
        found = by_class(subject)
        if subject.world.stage.dataset == "other":
            found[:, known] = found[:, np.roll(known, 1)]
        return found

    planted(monkeypatch, turned)
    assert judged(world, "shift") == {"accuracy": 0.0, "drop": 1.0}


def with_classes(subject: Subject, classes: list[str], labels: NDArray[np.int64] | None = None) -> None:
    """Give the other data set other names of classes, and labels."""
    there = subject.world.other("other")
    parts = replace(there.parts, classes=classes, labels=there.parts.labels if labels is None else labels)
    if labels is not None:
        parts = replace(parts, bank=parts.train[labels[parts.train] >= 0])
    subject.world._others["other"] = replace(there, parts=parts)


def test_only_shared_classes_count_and_are_chosen_between(world: SmallWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """There, half of the images look like a class that the other data set does not have; it cannot be named."""
    subject = world.subject("vit")
    names = list(subject.world.parts.classes)

    def confused(subject: Subject) -> NDArray[np.float64]:
        found = by_class(subject)
        if subject.world.stage.dataset == "other":
            found[:, 2] += 0.9
        return found

    planted(monkeypatch, confused)
    with_classes(subject, [*names[:2], *(f"new {name}" for name in names[2:])])
    numbers, _ = apply(protocol("shift", probe="linear"), subject)
    there = subject.world.other("other").parts
    assert numbers[0].values == [1.0]
    assert numbers[0].n == (there.labels[there.queries] < 2).sum()


def test_data_sets_without_shared_classes_are_a_line_with_both_names(world: SmallWorld) -> None:
    subject = world.subject("vit")
    with_classes(subject, [f"c{i}" for i in range(len(subject.world.parts.classes))])
    with pytest.raises(Skipped, match="'other' and 'raw' share 0 classes, and two are needed: one has c0, c1"):
        apply(protocol("shift"), subject)


def test_a_shift_to_images_without_labels_is_a_line(world: SmallWorld) -> None:
    subject = world.subject("vit")
    with_classes(subject, [], np.full(len(subject.world.other("other").table), -1))
    with pytest.raises(Skipped, match=r"shift\.dataset: 'other' has no labels; set `labels: true` on its source"):
        apply(protocol("shift"), subject)


@pytest.mark.parametrize("kind", ["shift", "out_of_distribution"])
def test_the_data_set_that_is_evaluated_is_no_other_one(world: SmallWorld, kind: str) -> None:
    with pytest.raises(Skipped, match=rf"{kind}\.dataset: 'raw' is the data set that is evaluated; name another one"):
        judged(world, kind, dataset="raw")


def test_class_accuracies_are_scikit_learns(world: SmallWorld) -> None:
    subject = world.subject("vit")
    found = values(apply(protocol("groups"), subject)[0])
    parts = subject.world.parts
    labels = parts.labels[parts.queries]
    said = probes.fit("knn", subject).predict(subject.features[parts.queries])
    assert found["accuracy"] == pytest.approx((said == labels).mean())
    assert found["mean_class"] == pytest.approx(balanced_accuracy_score(labels, said))
    assert found["worst_class"] == pytest.approx(min((said[labels == c] == c).mean() for c in np.unique(labels)))


def test_each_group_has_its_share_and_its_count() -> None:
    assert accuracies(np.array([1.0, 0, 1, 1, 0]), ["b", "a", "b", "a", "b"]) == {"a": (0.5, 2), "b": (2 / 3, 3)}


def test_the_worst_group_is_of_the_file_and_images_without_one_are_in_none(world: SmallWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = world.subject("vit")
    parts = subject.world.parts
    uris = subject.world.table["uri"].take(parts.queries).to_pylist()
    wrong = np.zeros(len(subject.world.table), bool)
    wrong[parts.queries[:3]] = True

    def spoilt(subject: Subject) -> NDArray[np.float64]:
        return np.where(wrong[:, None], np.roll(by_class(subject), 1, axis=1), by_class(subject))

    planted(monkeypatch, spoilt)
    groups = ["beach", "beach", "city", "beach", "city", "city", "beach"]
    lines = [f"{uri},{group}" for uri, group in zip(uris[:7], groups, strict=True)]
    (world.workspace / "groups.csv").write_text("\n".join(["uri,group", *lines, "elsewhere.png,city"]))
    numbers, plates = apply(protocol("groups", file="groups.csv"), subject)
    worst = next(number for number in numbers if number.metric == "worst_group")
    assert (worst.values, worst.n) == ([0.5], 4)
    assert "the lowest is beach, 50.0% of 4" in plates[0].caption


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("image,group\na.png,x\n", "has no column 'uri'; its first line must name `uri` and `group`"),
        ("", "has no column 'uri'"),
        ("uri,group\na.png,\n", "line 2: 'a.png' has no group"),
        ("uri,group\na.png\n", "line 2: 'a.png' has no group"),
        ("uri,group\na.png,x\nb.png,x\na.png,y\n", "line 4: 'a.png' is in 'y' here and in 'x' before"),
        ("uri,group\nz.png,x\n", "none of the 1 images that .* names is a test image of 'raw'; a `uri` is written as in its manifest, such as 'a.png'"),
    ],
)
def test_a_bad_file_of_groups_is_one_line_that_says_where(tmp_path: Path, text: str, line: str) -> None:
    (tmp_path / "groups.csv").write_text(text)
    with pytest.raises(UserError, match=line) as error:
        read(tmp_path / "groups.csv", ["a.png", "b.png"], "raw")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [None, b"uri,group\n\xff\xfe,x\n"])
def test_a_file_of_groups_that_is_missing_or_no_text_is_one_line(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "groups.csv").write_bytes(content)
    with pytest.raises(UserError, match=r"groups\.file: cannot read .*groups\.csv"):
        read(tmp_path / "groups.csv", ["a.png"], "raw")


def test_bins_hold_every_image_once_and_give_the_calibration_error() -> None:
    generator = np.random.default_rng(5)
    logits, labels = generator.normal(size=(300, 4)) * 2, generator.integers(0, 4, 300)
    odds = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    sure, right = odds.max(1), odds.argmax(1) == labels
    bins = binned(logits, labels, 10)
    error = 0.0
    for m in range(10):
        held = (sure > m / 10) & (sure <= (m + 1) / 10)
        assert bins.images[m] == held.sum()
        if held.any():
            assert bins.right[m] / bins.images[m] == pytest.approx(right[held].mean())
            assert bins.confidence[m] / bins.images[m] == pytest.approx(sure[held].mean())
            error += held.mean() * abs(right[held].mean() - sure[held].mean())
    assert calibration_error(logits, labels, 10) == pytest.approx(error, rel=1e-9)


def test_the_reliability_of_a_probe_is_that_of_its_probabilities(world: SmallWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "STRENGTHS", 3)
    subject = world.subject("vit")
    parts = subject.world.parts
    odds = probes.fit("linear", subject).scores(subject.features[parts.queries])
    expected = calibration_error(np.log(odds + 1e-300), parts.labels[parts.queries], 15)
    assert judged(world, "reliability", probe="linear")["ece"] == pytest.approx(expected, abs=1e-9)


def test_a_probe_that_knows_is_calibrated_and_one_that_is_sure_and_wrong_is_not(world: SmallWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    planted(monkeypatch, by_class)
    assert judged(world, "reliability", probe="knn")["ece"] < 0.1

    def swapped(subject: Subject) -> NDArray[np.float64]:
        found, queries = by_class(subject), subject.world.parts.queries
        found[queries] = np.roll(found[queries], 1, axis=1)
        return found

    planted(monkeypatch, swapped)
    assert judged(world, "reliability", probe="knn")["ece"] > 0.8


def test_the_reliability_of_the_own_head_is_the_calibration_protocols_error(world: SmallWorld) -> None:
    assert judged(world, "reliability", "classifier", probe="classifier")["ece"] == judged(world, "calibration", "classifier")["ece"]


@pytest.mark.parametrize("kind", ["groups", "reliability", "shift", "corruptions"])
def test_the_own_head_of_a_model_without_one_is_not_judged(world: SmallWorld, kind: str) -> None:
    with pytest.raises(Skipped, match="is no classifier"):
        judged(world, kind, probe="classifier")


def test_auroc_is_scikit_learns_ties_included() -> None:
    generator = np.random.default_rng(6)
    inside, outside = generator.normal(0.7, 1, 200).round(1), generator.normal(0, 1, 300).round(1)
    truth = np.repeat([1, 0], [200, 300])
    assert ranked(inside, outside).mean() == pytest.approx(roc_auc_score(truth, np.concatenate([inside, outside])), rel=1e-12)


def test_fpr95_is_that_of_the_curves_first_point_with_95_percent() -> None:
    generator = np.random.default_rng(7)
    inside, outside = generator.normal(1, 1, 211), generator.normal(0, 1, 307)
    false, true, _ = roc_curve(np.repeat([1, 0], [211, 307]), np.concatenate([inside, outside]), drop_intermediate=False)
    assert accepted(inside, outside).mean() == pytest.approx(false[true >= 0.95][0], abs=1e-12)


def test_mahalanobis_is_the_distance_to_the_nearest_mean_under_the_shared_covariance() -> None:
    generator = np.random.default_rng(8)
    labels = np.repeat([2, 5, 9], 40)
    x = generator.normal(size=(120, 4)) @ generator.normal(size=(4, 4)) + labels[:, None]
    queries = generator.normal(size=(7, 4)) * 3
    means = {c: x[labels == c].mean(0) for c in (2, 5, 9)}
    shared = EmpiricalCovariance(assume_centered=True).fit(np.concatenate([x[labels == c] - means[c] for c in means]))
    nearest = np.min([shared.mahalanobis(queries - mean) for mean in means.values()], axis=0)
    assert mahalanobis(x, labels, queries) == pytest.approx(-nearest, rel=1e-9)


def test_too_few_images_for_a_covariance_are_a_line() -> None:
    with pytest.raises(UserError, match="10 train images of 2 classes are too few for the covariance of 9 dimensions; take `score: knn`"):
        mahalanobis(np.random.default_rng(0).normal(size=(10, 9)), np.repeat([0, 1], 5), np.zeros((1, 9)))


@pytest.mark.parametrize("score", ["knn", "mahalanobis"])
def test_images_in_a_direction_of_their_own_are_told_from_those_that_belong(world: SmallWorld, monkeypatch: pytest.MonkeyPatch, score: str) -> None:
    def apart(subject: Subject) -> NDArray[np.float64]:
        direction = [0.0, 1.0] if subject.world.stage.dataset == "other" else [1.0, 0.0]
        return np.array(direction) + 0.1 * np.random.default_rng(1).normal(size=(len(subject.world.table), 2))

    planted(monkeypatch, apart)
    assert judged(world, "out_of_distribution", score=score) == {"auroc": 1.0, "fpr95": 0.0}


def test_images_of_the_same_kind_are_told_apart_by_chance(world: SmallWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = {"raw": 0, "other": 1}
    planted(monkeypatch, lambda s: np.random.default_rng(seeds[s.world.stage.dataset]).normal(size=(len(s.world.table), 3)))
    found = judged(world, "out_of_distribution")["auroc"]
    assert abs(found - 0.5) < 3 * math.sqrt(41 / (12 * 24 * 16))  # three standard errors of a rank sum


def test_a_neighbour_that_is_not_there_is_a_line(world: SmallWorld) -> None:
    with pytest.raises(Skipped, match="k is 1000, but only 36 train images are there; lower k"):
        judged(world, "out_of_distribution", k=1000)


def test_confidence_needs_a_head(world: SmallWorld) -> None:
    with pytest.raises(Skipped, match="is no classifier, whose confidence could be asked for"):
        judged(world, "out_of_distribution", score="confidence")
    assert 0 <= judged(world, "out_of_distribution", "classifier", score="confidence")["auroc"] <= 1

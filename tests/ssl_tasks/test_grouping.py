"""Clusters and copies: scores against scikit-learn and the reference's oracles, planted worlds, and who is a query and who a reference."""

from itertools import permutations
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics
from small_world import SmallWorld, protocol

from schemas.errors import UserError
from schemas.protocols.grouping import Clustering, CopyDetection
from ssl_tasks.data.edits import HELD_OUT
from ssl_tasks.data.images import from_array
from ssl_tasks.evaluate.findings import Number, Skipped
from ssl_tasks.evaluate.grouping import clustering, copy_detection
from ssl_tasks.evaluate.grouping.average_precision import average_precision
from ssl_tasks.evaluate.grouping.clustering import clusters, matched
from ssl_tasks.evaluate.grouping.copy_detection import divided, reciprocal_ranks
from ssl_tasks.evaluate.protocols import apply
from ssl_tasks.evaluate.subject import Subject


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SmallWorld:
    return SmallWorld(tmp_path_factory.mktemp("grouping"))


class TestClustering:
    def test_scores_are_the_oracles(self) -> None:
        """Nine images in three classes; two of the first lie in a cluster of their own."""
        of = np.array([1, 1, 0, 0, 0, 0, 2, 2, 2])
        labels = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2])
        assert (matched(of, labels) == labels).mean() == pytest.approx(0.888889, abs=1e-6)
        assert metrics.adjusted_rand_score(labels, of) == pytest.approx(0.642857, abs=1e-6)
        assert metrics.normalized_mutual_info_score(labels, of) == pytest.approx(0.786013, abs=1e-6)
        assert metrics.fowlkes_mallows_score(labels, of) == pytest.approx(0.737865, abs=1e-6)

    @pytest.mark.parametrize("count", [2, 3, 5])
    def test_accuracy_is_the_best_of_all_one_to_one_assignments(self, count: int) -> None:
        random = np.random.default_rng(count)
        labels, of = random.integers(3, size=40), random.integers(count, size=40)
        padded = range(max(3, count))
        best = max(np.mean([order[cluster] == label for cluster, label in zip(of, labels, strict=True)]) for order in permutations(padded))
        assert (matched(of, labels) == labels).mean() == pytest.approx(best)

    def test_a_cluster_left_over_has_no_class_and_its_images_are_wrong(self) -> None:
        labels = np.array([4, 4, 4, 7, 7, 7])
        assert matched(np.arange(6), labels).tolist().count(-1) == 4
        assert (matched(np.zeros(6, int), labels) == labels).mean() == 0.5

    def test_planted_clusters_are_found_whatever_the_length_of_their_features(self) -> None:
        random = np.random.default_rng(0)
        labels = np.repeat(np.arange(5), 30)
        features = (np.eye(5, 16)[labels] + 0.05 * random.normal(size=(150, 16))) * random.uniform(0.1, 10, (150, 1))
        for of in clusters(features, 5, restarts=3, draws=2, seed=0):
            assert (matched(of, labels) == labels).all()

    def test_numbers_are_means_over_images_and_over_draws(self, world: SmallWorld) -> None:
        found = {n.metric: n for n in _numbers(world.subject("vit"), "clustering", draws=4)}
        assert found.keys() == {"clustering_accuracy", "ari", "nmi", "fmi"}
        assert all(len(number.values) == 4 for number in found.values())
        items = found["clustering_accuracy"].items
        assert items is not None
        assert items.mean() == pytest.approx(np.mean(found["clustering_accuracy"].values))

    def test_more_clusters_than_images_are_a_line(self) -> None:
        with pytest.raises(UserError, match="clusters is 9, but only 4 test images are there; lower clusters"):
            clusters(np.ones((4, 2), np.float32), 9, 1, 1, 0)

    def test_its_words_name_its_settings(self) -> None:
        assert "12 clusters" in clustering.meaning(Clustering(clusters=12))
        assert "as many clusters as classes" in clustering.meaning(Clustering())


class TestCopies:
    def test_the_rank_of_the_only_answer_is_its_average_precision(self) -> None:
        random = np.random.default_rng(0)
        scores = -np.sort(-random.integers(0, 8, (60, 10)) / 8, axis=1)
        matches = np.arange(10) == random.integers(0, 14, (60, 1))  # of some queries it is none of the ten
        expected = [average_precision(s, m, 1) for s, m in zip(scores, matches, strict=True)]
        np.testing.assert_allclose(reciprocal_ranks(scores, matches), expected)
        assert 0 < (np.array(expected) == 0).sum() < 60

    def test_no_image_plays_two_parts(self, world: SmallWorld) -> None:
        whole = world.subject("vit").world
        parts = divided(_copies(originals=5, distractors=9), whole)
        rows = np.concatenate([parts.originals, parts.absent, parts.distractors, parts.background])
        assert len(np.unique(rows)) == len(rows)
        assert (len(parts.originals), len(parts.absent), len(parts.distractors)) == (5, 5, 9)
        assert set(parts.originals) | set(parts.absent) <= set(whole.parts.queries)
        assert set(parts.distractors) | set(parts.background) <= set(whole.parts.train)
        few = divided(_copies(), whole)
        assert (len(few.originals), len(few.distractors)) == (len(whole.parts.queries) // 2, len(whole.parts.train) // 2)

    def test_a_descriptor_that_no_edit_changes_finds_every_original(self, world: SmallWorld, monkeypatch: pytest.MonkeyPatch) -> None:
        found = _by_number(world, monkeypatch, lambda row, _: np.eye(200)[row])
        assert {metric: number.values for metric, number in found.items()} == {"map": [1], "micro_ap": [1], "recall_at_p90": [1]}

    def test_one_that_finds_nothing_has_nothing(self, world: SmallWorld, monkeypatch: pytest.MonkeyPatch) -> None:
        found = _by_number(world, monkeypatch, lambda row, edit: np.eye(200)[row] if edit is None else -np.eye(200)[row])
        assert [number.values for number in found.values()] == [[0], [0], [0]]

    def test_queries_without_an_answer_cost_micro_ap_and_not_map(self, world: SmallWorld, monkeypatch: pytest.MonkeyPatch) -> None:
        """Every copy is like a reference: of an absent image more so than of an original, so that all false pairs come first."""
        parts = divided(_copies(), world.subject("vit").world)

        def descriptor(row: int, edit: str | None) -> NDArray[np.float64]:
            if edit and row in parts.absent:
                return np.eye(200)[parts.distractors[0]]
            return np.eye(200)[row] + (0.5 * np.eye(200)[199] if edit else 0)

        found = _by_number(world, monkeypatch, descriptor)
        copies = len(parts.originals) * len(HELD_OUT)
        assert found["map"].values == [1]
        assert found["micro_ap"].values[0] == pytest.approx(np.mean(np.arange(1, copies + 1) / (np.arange(1, copies + 1) + copies)))
        assert found["recall_at_p90"].values == [0]

    def test_items_are_the_originals_each_with_the_mean_over_its_copies(self, world: SmallWorld, monkeypatch: pytest.MonkeyPatch) -> None:
        parts = divided(_copies(), world.subject("vit").world)
        lost = {parts.originals[0]: {"webp", "moved"}, parts.originals[3]: set(HELD_OUT)}
        found = _by_number(world, monkeypatch, lambda row, edit: np.eye(200)[row] * (-1 if edit in lost.get(row, set()) else 1))
        items = found["map"].items
        assert items is not None
        assert items[:4].tolist() == pytest.approx([1 - 2 / len(HELD_OUT), 1, 1, 0])
        assert found["micro_ap"].values[0] == pytest.approx(found["map"].values[0])  # what is missed costs both

    def test_normalised_scores_lift_copies_over_queries_that_are_like_everything(self, world: SmallWorld, monkeypatch: pytest.MonkeyPatch) -> None:
        parts = divided(_copies(), world.subject("vit").world)

        def descriptor(row: int, edit: str | None) -> NDArray[np.float64]:
            common = 1.0 if edit and row in parts.absent else 0.0
            return np.eye(200)[row] * (0 if common else 1) + common + (0 if edit else 0.2)

        plain, better = (_by_number(world, monkeypatch, descriptor, normalisation=on)["micro_ap"].values[0] for on in (False, True))
        assert plain < better == 1

    def test_whitening_judges_by_what_tells_train_images_apart(self, world: SmallWorld, monkeypatch: pytest.MonkeyPatch) -> None:
        """A direction of large variance hides one of small variance, by which alone copies are known."""

        def descriptor(row: int, edit: str | None) -> NDArray[np.float64]:
            random = np.random.default_rng([row, len(edit or "")])
            return np.r_[50 * random.normal(size=2), np.random.default_rng(row).normal(size=6)]

        plain, white = (_by_number(world, monkeypatch, descriptor, whitening=on)["map"].values[0] for on in (False, True))
        assert white > plain + 0.2

    def test_too_few_train_images_for_a_whitening_are_a_line(self, world: SmallWorld, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(UserError, match=r"200 dimensions cannot be whitened by .* train images that are no references; leave whitening out"):
            _by_number(world, monkeypatch, lambda row, _: np.eye(200)[row], whitening=True)

    def test_images_of_many_bands_are_a_line(self, world: SmallWorld, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(copy_detection, "read_listed", lambda *_: from_array(np.zeros((9, 9, 5), np.uint8)))
        with pytest.raises(Skipped, match=r"image .*png is neither grey nor RGB, so no copies of it can be made; leave it out"):
            apply(_copies(), world.subject("vit"))

    def test_an_image_that_is_not_edited_has_the_features_of_the_evaluation(self, world: SmallWorld, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(copy_detection, "HELD_OUT", {"jpeg": None})
        monkeypatch.setattr(copy_detection, "copy", lambda picture, *_: picture)
        for name in ("vit", "convnet", "pixels"):
            subject = world.subject(name)
            rows = subject.world.parts.queries
            made = np.concatenate(list(copy_detection.copies(subject, rows)))
            np.testing.assert_allclose(made, subject.features[rows], atol=1e-4)


def _copies(**settings: Any) -> CopyDetection:
    made = protocol("copy_detection", **settings)
    assert isinstance(made, CopyDetection)
    return made


def _numbers(subject: Subject, kind: str, **settings: Any) -> list[Number]:
    return apply(protocol(kind, **settings), subject)[0]


def _by_number(world: SmallWorld, monkeypatch: pytest.MonkeyPatch, descriptor: Any, **settings: Any) -> dict[str, Number]:
    """The numbers of a model that describes row `row` of the table, or its copy by an edit, by what a function gives."""
    subject = world.subject("vit")
    whole = np.array([descriptor(row, None) for row in range(len(subject.world.table))], np.float32)
    monkeypatch.setattr(Subject, "features", whole)
    monkeypatch.setattr(Subject, "dim", whole.shape[1])
    monkeypatch.setattr(
        copy_detection, "copies", lambda _, rows: iter([np.array([descriptor(int(row), edit) for row in rows for edit in HELD_OUT], np.float32)])
    )
    return {number.metric: number for number in copy_detection.judge(_copies(**settings), subject) if isinstance(number, Number)}

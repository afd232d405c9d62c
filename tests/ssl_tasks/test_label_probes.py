"""Probes with few labels, two layers or several k, and those that protocols share: against scikit-learn, and that no test label has a say."""

from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from small_world import SmallWorld, protocol

from schemas.errors import UserError
from schemas.protocols.frozen import MLPProbe
from schemas.stages import Evaluate
from ssl_tasks.evaluate.findings import Skipped
from ssl_tasks.evaluate.frozen import knn as judged_by_knn
from ssl_tasks.evaluate.frozen.knn import knn
from ssl_tasks.evaluate.frozen.low_label import draw, low_label
from ssl_tasks.evaluate.frozen.mlp_probe import scores, train
from ssl_tasks.evaluate.held_out import split
from ssl_tasks.evaluate.probes import Kind, Neighbours, among_top, fit
from ssl_tasks.evaluate.protocols import apply


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SmallWorld:
    return SmallWorld(tmp_path_factory.mktemp("probes"))


def blobs(seed: int, n: int, classes: int = 7, dim: int = 9, noise: float = 0.45) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    return (np.eye(dim)[labels] + generator.normal(0, noise, (n, dim))).astype(np.float32), labels


class TestKNN:
    @pytest.mark.parametrize("k", [1, 10, 50])
    def test_it_is_scikit_learns_under_the_same_weights(self, k: int) -> None:
        (bank, labels), (queries, wanted) = blobs(0, 210), blobs(1, 140)
        peer = KNeighborsClassifier(k, weights=lambda d: np.exp((1 - d) / 0.07), metric="cosine", algorithm="brute").fit(bank, labels)
        assert np.array_equal(knn(bank, labels, queries, wanted, k, 0.07), peer.predict(queries) == wanted)
        probe = Neighbours(bank, labels, 7, k, 0.07)
        np.testing.assert_allclose(probe.scores(queries), peer.predict_proba(queries), atol=1e-5)
        assert np.array_equal(probe.predict(queries), peer.predict(queries))

    def test_a_list_of_k_gives_a_row_each_from_one_search(self, world: SmallWorld, monkeypatch: pytest.MonkeyPatch) -> None:
        stage = world.evaluation([{"kind": "knn", "k": [1, 5, 10]}]).stage
        assert isinstance(stage, Evaluate)
        assert [p.k for p in stage.protocols] == [1, 5, 10]  # type: ignore[union-attr]
        subject, alone = world.subject("vit"), world.subject("vit")
        object.__setattr__(subject.world, "stage", stage)
        searches: list[int] = []
        found = judged_by_knn.neighbours

        def counted(*arguments: Any) -> Any:
            searches.append(arguments[2])
            return found(*arguments)

        monkeypatch.setattr(judged_by_knn, "neighbours", counted)
        together = [apply(p, subject)[0][0].values for p in stage.protocols]
        assert searches == [10]
        assert together == [apply(p, alone)[0][0].values for p in stage.protocols]


def test_top_5_is_counted_as_by_a_full_sort_and_names_no_class_without_a_vote() -> None:
    generator = np.random.default_rng(0)
    said, labels = generator.uniform(0.1, 1, (200, 12)), generator.integers(0, 12, 200)
    [number] = among_top(said, labels)
    assert number.values == [np.mean([label in np.argsort(-row)[:5] for row, label in zip(said, labels, strict=True)])]
    [voted] = among_top(np.eye(12)[:1], np.array([1]))
    assert voted.values == [0.0]
    assert not list(among_top(said[:, :5], labels % 5))


class TestLowLabel:
    def test_it_is_scikit_learns_regression_on_the_drawn_images_alone(self) -> None:
        (bank, labels), (queries, wanted) = blobs(0, 350), blobs(1, 140)
        drawn = draw(labels, 0.2, 3, 4)
        for rows, said in zip(drawn, low_label(bank, labels, queries, drawn, 3, 4, 7), strict=True):
            x, y = bank[rows].astype(np.float64), labels[rows]
            held, fitted = split(y, 4)
            tried = {c: LogisticRegression(C=c, tol=1e-8, max_iter=5000).fit(x[fitted], y[fitted]).score(x[held], y[held]) for c in (1e-6, 10**-0.5, 1e5)}
            peer = LogisticRegression(C=max(tried, key=tried.__getitem__), tol=1e-8, max_iter=5000).fit(x, y)
            assert (said.argmax(1) == peer.predict(queries)).mean() > 0.99
            assert (said.argmax(1) == wanted).mean() > 0.6

    def test_images_that_are_not_drawn_have_no_say(self) -> None:
        (bank, labels), (queries, _) = blobs(0, 210), blobs(1, 70)
        drawn = draw(labels, 0.1, 2, 0)
        others = np.setdiff1d(np.arange(210), np.concatenate(drawn))
        changed, lies = bank.copy(), labels.copy()
        changed[others], lies[others] = 9, 0
        for mine, theirs in zip(low_label(bank, labels, queries, drawn, 3, 0, 7), low_label(changed, lies, queries, drawn, 3, 0, 7), strict=True):
            np.testing.assert_array_equal(mine, theirs)

    def test_draws_take_a_share_of_each_class_and_a_small_share_is_within_a_large_one(self) -> None:
        labels = np.array([0] * 100 + [1] * 30 + [2] * 2)
        small, large = draw(labels, 0.01, 3, 5), draw(labels, 0.1, 3, 5)
        assert [np.bincount(labels[rows]).tolist() for rows in large] == [[10, 3, 1]] * 3
        assert [np.bincount(labels[rows]).tolist() for rows in small] == [[1, 1, 1]] * 3
        assert all(set(less) <= set(more) for less, more in zip(small, large, strict=True))
        assert len({tuple(rows) for rows in large}) == 3
        assert np.array_equal(large[0], draw(labels, 0.1, 1, 5)[0])

    def test_one_image_a_class_is_enough(self) -> None:
        (bank, labels), (queries, wanted) = blobs(0, 70, noise=0.1), blobs(1, 70, noise=0.1)
        [said] = low_label(bank, labels, queries, draw(labels, 0.01, 1, 0), 3, 0, 7)
        assert (said.argmax(1) == wanted).mean() == 1


class TestMLPProbe:
    SETTINGS = MLPProbe(learning_rates=[0.01], epochs=60, patience=15, batch_size=64)

    def test_two_layers_solve_what_one_cannot(self) -> None:
        generator = np.random.default_rng(0)
        x = generator.uniform(-1, 1, (900, 2)).astype(np.float32) * [1, 1000]
        y = ((x[:, 0] > 0) ^ (x[:, 1] > 0)).astype(np.int64)
        assert LogisticRegression().fit(x[:600], y[:600]).score(x[600:], y[600:]) < 0.7
        best = train(
            x[:500].astype(np.float32), y[:500], x[500:600].astype(np.float32), y[500:600], 2, 0.01, self.SETTINGS.model_copy(update={"width": 16.0}), 0, "cpu"
        )
        assert (scores(best.head, x[600:].astype(np.float32), "cpu").argmax(1) == y[600:]).mean() > 0.9

    def test_it_stops_early_and_keeps_the_best_epoch(self) -> None:
        (x, y), (held, wanted) = blobs(0, 140, noise=1.0), blobs(1, 70, noise=1.0)
        short = self.SETTINGS.model_copy(update={"patience": 3})
        best = train(x, y, held, wanted, 7, 0.03, short, 0, "cpu")
        assert best.epoch < 57
        assert best.score[0] == (scores(best.head, held, "cpu").argmax(1) == wanted).mean()
        stopped = train(x, y, held, wanted, 7, 0.03, short.model_copy(update={"epochs": best.epoch}), 0, "cpu")
        np.testing.assert_array_equal(scores(stopped.head, held, "cpu"), scores(best.head, held, "cpu"))

    def test_a_rate_that_diverges_is_not_chosen(self) -> None:
        (x, y), (held, wanted) = blobs(0, 140), blobs(1, 70)
        wild, sane = (train(x, y, held, wanted, 7, rate, self.SETTINGS, 0, "cpu") for rate in (1e30, 0.01))
        assert sane.score > wild.score


@pytest.mark.parametrize("kind", ["low_label", "mlp_probe", "knn", "linear"])
def test_no_test_label_has_a_say(world: SmallWorld, kind: str) -> None:
    shares, first = [], world.subject("vit").world.parts
    for number in np.unique(first.labels[first.bank]):
        subject = world.subject("vit")
        subject.world.parts.labels[subject.world.parts.queries] = number
        shares.append(np.mean(apply(protocol(kind), subject)[0][0].values))
    assert sum(shares) == pytest.approx(1)


class TestShared:
    @pytest.mark.parametrize("kind", ["linear", "knn", "classifier"])
    def test_scores_are_shares_and_predictions_their_largest(self, world: SmallWorld, kind: Kind) -> None:
        subject = world.subject("classifier")
        probe, parts = fit(kind, subject), subject.world.parts
        said = probe.scores(subject.features[parts.queries])
        assert said.shape == (len(parts.queries), len(parts.classes))
        np.testing.assert_allclose(said.sum(1), 1)
        assert np.array_equal(probe.predict(subject.features[parts.queries]), said.argmax(1))
        assert fit(kind, subject) is probe

    def test_a_head_whose_classes_are_others_maps_those_that_it_shares(self, world: SmallWorld) -> None:
        subject = world.subject("classifier")
        whole, parts, x = fit("classifier", subject), subject.world.parts, subject.features
        classifier = subject.classifier
        assert classifier
        mapped = world.subject("classifier")
        mapped.__dict__["classifier"] = type(classifier)(classifier.encoder, classifier.head, ["nothing", *classifier.classes[1:]])
        probe = fit("classifier", mapped)
        lost = parts.classes.index(classifier.classes[0])
        expected = whole.scores(x)
        expected[:, lost] = 0
        np.testing.assert_allclose(probe.scores(x), expected)
        assert np.array_equal(probe.predict(x), np.where(whole.predict(x) == lost, -1, whole.predict(x)))

    def test_an_encoder_is_no_classifier(self, world: SmallWorld) -> None:
        with pytest.raises(Skipped, match="is no classifier"):
            fit("classifier", world.subject("vit"))


def test_more_neighbours_than_images_leaves_out_that_row_alone(world: SmallWorld) -> None:
    subject = world.subject("vit")
    object.__setattr__(subject.world, "stage", world.evaluation([{"kind": "knn", "k": [5, 1000]}]).stage)
    few, many = subject.world.stage.protocols
    assert apply(few, subject)[0]
    with pytest.raises(Skipped, match=r"k is 1000, but only \d+ labelled train images"):
        apply(many, subject)


def test_features_of_one_class_say_so() -> None:
    with pytest.raises(UserError, match="all of one class"):
        low_label(np.eye(4), np.zeros(4, int), np.eye(4), [np.arange(4)], 3, 0, 1)

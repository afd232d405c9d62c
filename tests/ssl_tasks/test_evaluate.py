"""How frozen features are judged: known answers of every protocol, and a whole evaluation on real images."""

import json
from pathlib import Path

import numpy as np
import pytest
from evaluated import PROTOCOLS, checkpoint, datasets, done, encoder, evaluation, job, models

from schemas.artifacts import Artifact, Checkpoint, read
from schemas.errors import UserError
from schemas.protocols.frozen import KNN
from schemas.stages import Comparison
from ssl_tasks.evaluate import results
from ssl_tasks.evaluate.frozen.few_shot import draw, few_shot
from ssl_tasks.evaluate.frozen.knn import knn, vote
from ssl_tasks.evaluate.frozen.linear import linear
from ssl_tasks.evaluate.held_out import split
from ssl_tasks.evaluate.label_free.rank import rank
from ssl_tasks.evaluate.neighbours import neighbours
from ssl_tasks.evaluate.results import Row


def blobs(seed: int, n: int = 90, classes: int = 3, dim: int = 8, noise: float = 0.05) -> tuple[np.ndarray, np.ndarray]:
    """Points around `classes` orthogonal directions, and which direction each is of."""
    generator = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    return (np.eye(dim)[labels] + generator.normal(0, noise, (n, dim))).astype(np.float32), labels


def half(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return values[:60], values[60:]


class TestKNN:
    @pytest.mark.parametrize(("temperature", "winner"), [(0.07, 0), (1.0, 1)])
    def test_a_cold_vote_follows_the_nearest_and_a_warm_one_the_majority(self, temperature: float, winner: int) -> None:
        # exp(.9 / .07) = 383518 against 1884; at T = 1 it is 2.46 against 3.22.
        assert vote(np.array([[0.9, 0.5, 0.45]]), np.array([[0, 1, 1]]), temperature).tolist() == [winner]

    def test_a_tiny_temperature_does_not_overflow(self) -> None:
        assert vote(np.array([[0.9, 0.8999]]), np.array([[1, 0]]), 1e-6).tolist() == [1]

    def test_neighbours_are_those_of_a_full_sort_by_cosine(self) -> None:
        generator = np.random.default_rng(0)
        bank, queries = generator.normal(size=(50, 6)), generator.normal(size=(2100, 6))
        cosine = (queries / np.linalg.norm(queries, axis=1, keepdims=True)) @ (bank / np.linalg.norm(bank, axis=1, keepdims=True)).T
        similarities, nearest = neighbours(bank, queries, 4)
        np.testing.assert_allclose(similarities, -np.sort(-cosine, axis=1)[:, :4], atol=1e-6)
        np.testing.assert_allclose(np.take_along_axis(cosine, nearest, 1), similarities, atol=1e-6)

    def test_the_order_of_the_bank_and_the_length_of_a_feature_do_not_matter(self) -> None:
        x, y = blobs(0, noise=0.5)
        (bank, queries), (bank_labels, query_labels) = half(x), half(y)
        shuffled = np.random.default_rng(1).permutation(60)
        lengths = np.random.default_rng(2).uniform(0.5, 9, (60, 1)).astype(np.float32)
        straight = knn(bank, bank_labels, queries, query_labels, 7, 0.07)
        assert np.array_equal(straight, knn((bank * lengths)[shuffled], bank_labels[shuffled], queries, query_labels, 7, 0.07))

    def test_more_neighbours_than_images_is_an_error_that_names_both(self) -> None:
        x, y = blobs(0, n=6)
        with pytest.raises(UserError, match=r"k is 20, but only 6 labelled train images"):
            knn(x, y, x, y, 20, 0.07)


class TestFewShot:
    def test_draws_hang_on_the_labels_and_the_seed_alone(self) -> None:
        labels = np.arange(40) % 4
        first, again, other = (draw(labels, 3, 5, seed) for seed in (7, 7, 8))
        assert np.array_equal(first, again)
        assert not np.array_equal(first, other)
        assert all(np.bincount(labels[rows]).tolist() == [3] * 4 and len(set(rows)) == 12 for rows in first)
        assert len({tuple(rows) for rows in first}) == 5

    def test_separate_classes_are_found_from_one_example(self) -> None:
        x, y = blobs(0)
        (bank, queries), (bank_labels, query_labels) = half(x), half(y)
        assert few_shot(bank, bank_labels, queries, query_labels, 1, 4, 0).mean(1).tolist() == [1.0] * 4

    def test_noise_gives_chance_and_a_spread(self) -> None:
        generator = np.random.default_rng(0)
        bank, queries, labels = generator.normal(size=(300, 8)), generator.normal(size=(300, 8)), np.arange(300) % 3
        scores = few_shot(bank, labels, queries, labels, 5, 20, 0).mean(1)
        assert abs(np.mean(scores) - 1 / 3) < 0.05
        assert 0 < np.std(scores) < 0.1

    def test_a_class_with_fewer_images_than_shots_is_an_error(self) -> None:
        with pytest.raises(UserError, match="shots is 3, but class 1 has only 2"):
            draw(np.array([0, 0, 0, 1, 1]), 3, 2, 0)


class TestLinear:
    def test_a_linear_world_is_solved_where_neighbours_are_misled(self) -> None:
        generator = np.random.default_rng(0)
        x = generator.normal(size=(1000, 6)) * [1, *[5] * 5]
        y = (x[:, 0] > 0).astype(int)
        world = (x[:800], y[:800], x[800:], y[800:])
        assert linear(*world, strengths=6, seed=0).mean() > 0.95
        assert knn(*world, 5, 0.07).mean() < 0.7

    def test_it_sees_no_query_labels(self) -> None:
        x, y = blobs(3, noise=0.6)
        (bank, queries), (bank_labels, query_labels) = half(x), half(y)
        for judge in (
            lambda labels: linear(bank, bank_labels, queries, labels, 4, 0),
            lambda labels: knn(bank, bank_labels, queries, labels, 5, 0.07),
            lambda labels: few_shot(bank, bank_labels, queries, labels, 2, 1, 0)[0],
        ):
            # One fixed prediction a query: scored against each constant label, the shares of the classes add up to all queries.
            assert sum(judge(np.full_like(query_labels, c)).mean() for c in range(3)) == pytest.approx(1)

    def test_a_tenth_of_each_class_is_held_out_and_no_class_is_lost(self) -> None:
        labels = np.array([0] * 50 + [1] * 20 + [2])
        held, fitted = split(labels, seed=0)
        assert np.bincount(labels[held], minlength=3).tolist() == [5, 2, 0]
        assert sorted([*held, *fitted]) == list(range(71))

    def test_one_class_is_an_error(self) -> None:
        with pytest.raises(UserError, match="all of one class"):
            linear(np.eye(4), np.zeros(4, int), np.eye(4), np.zeros(4, int), 3, 0)


class TestRank:
    @pytest.mark.parametrize(
        ("features", "expected"),
        [
            (np.linalg.qr(np.random.default_rng(0).normal(size=(256, 32)))[0], 32.0003),
            (np.outer(np.arange(1.0, 257), np.ones(32)), 1.00005),
            (np.diag([1.0, 1, 0, 0]), 2.0000063),
            (np.diag([2.0, 1, 1]), 2.8284273),
        ],
    )
    def test_known_spectra(self, features: np.ndarray, expected: float) -> None:
        assert rank(features, 25_600, 0) == pytest.approx(expected, rel=2e-5)

    def test_the_order_of_the_features_does_not_matter(self) -> None:
        x = np.random.default_rng(0).normal(size=(40, 8))
        assert rank(x[::-1], 40, 0) == pytest.approx(rank(x, 40, 0), rel=1e-9)

    def test_a_sample_has_the_asked_size(self) -> None:
        assert rank(np.random.default_rng(0).normal(size=(500, 64)), 5, 0) <= 5.001


class TestRows:
    def row(self, model: str, values: list[float], protocol: str = "knn") -> Row:
        return Row(model, "student", protocol, "knn@1", "accuracy", values, 100, 10, 8, "id")

    def test_deltas_are_paired_draw_by_draw(self) -> None:
        rows = [self.row("s", [0.9, 0.8]), self.row("t", [1.0, 0.9]), self.row("a", [0.5, 0.8])]
        (entry,) = results.deltas(rows, [Comparison(student="s", teacher="t", alone="a")])
        assert entry["distilled_minus_teacher"] == pytest.approx(-0.1)
        assert entry["distilled_minus_teacher_spread"] == pytest.approx(0)
        assert entry["distilled_minus_alone"] == pytest.approx(0.2)
        assert entry["distilled_minus_alone_spread"] == pytest.approx(np.std([0.4, 0.0], ddof=1))

    def test_metrics_are_flat_and_name_both_deltas(self) -> None:
        rows = [self.row("s", [0.9, 0.8]), self.row("t", [1.0]), self.row("a", [0.5])]
        entry = {"student": "s", "measure": "knn", "distilled_minus_alone": 0.35, "distilled_minus_teacher": -0.15}
        metrics = results.flat(rows, [entry])
        assert metrics["s/knn"] == pytest.approx(0.85)
        assert metrics["t/knn"] == 1.0
        assert metrics["s/knn/distilled_minus_alone"] == 0.35
        assert {"s/knn/spread", "s/knn/distilled_minus_teacher"} < metrics.keys()

    def test_a_protocol_that_comes_twice_is_named_by_what_differs(self) -> None:
        assert results.names([KNN(k=5), KNN(k=20)]) == ["knn_k5", "knn_k20"]
        assert results.names([KNN()]) == ["knn"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str], Artifact]:
    """A workspace, the keys of its artifacts, and the report on them."""
    workspace = tmp_path_factory.mktemp("evaluate")
    inputs = models(workspace, datasets(workspace)[1])
    return workspace, inputs, done(evaluation(workspace, inputs))[""]


def test_every_model_and_baseline_meets_every_protocol_on_one_split(world: tuple[Path, dict[str, str], Artifact]) -> None:
    found = json.loads(world[2].path("results.json").read_text())
    roles = {row["model"]: row["role"] for row in found["rows"]}
    assert roles == {
        "teacher": "teacher", "students.small": "student", "students.vit": "student", "small_alone": "alone", "vit_alone": "alone", "pixels": "pixels",
        "random init (teacher)": "random", "random init (students.small)": "random", "random init (students.vit)": "random",
    }  # fmt: skip
    assert len(found["rows"]) == len(roles) * len(PROTOCOLS)
    assert {row["split"] for row in found["rows"]} == {found["split"]["id"]}
    assert (found["split"]["bank"], found["split"]["queries"], found["split"]["classes"]) == (33, 12, 3)  # 3 duplicates went
    assert {row["version"] for row in found["rows"]} == {"knn@1", "few_shot@1", "linear@1", "rank@1"}
    assert all((row["spread"] is not None) == (row["protocol"] == "few_shot") for row in found["rows"])
    assert found["budget"]["teacher"] == found["budget"]["students.small"] == {"epochs": 2.0, "images_seen": 48.0, "seconds": 3.5}
    assert found["seed"] == 7
    assert found["data_version"] == world[2].data_version != ""
    teacher = next(row for row in found["rows"] if row["model"] == "teacher")
    model = read(world[0] / ".sslflow/artifacts" / world[1]["teacher"])
    assert isinstance(model, Checkpoint)
    assert teacher["dim"] == model.dim


def test_deltas_and_metrics_are_those_of_the_rows(world: tuple[Path, dict[str, str], Artifact]) -> None:
    found = json.loads(world[2].path("results.json").read_text())
    value = {(row["model"], row["protocol"]): row["value"] for row in found["rows"]}
    assert len(found["deltas"]) == 2 * len(PROTOCOLS)
    for entry in found["deltas"]:
        own = value[entry["student"], entry["protocol"]]
        assert entry["distilled_minus_alone"] == pytest.approx(own - value[entry["alone"], entry["protocol"]])
        assert entry["distilled_minus_teacher"] == pytest.approx(own - value[entry["teacher"], entry["protocol"]])
    assert world[2].metrics["teacher/knn"] == value["teacher", "knn"]


def test_the_same_evaluation_gives_the_same_numbers(world: tuple[Path, dict[str, str], Artifact]) -> None:
    workspace, inputs, report = world
    again = evaluation(workspace, inputs, compare=[], models=["teacher"], baselines=["pixels"])
    for name, value in done(again)[""].metrics.items():
        assert report.metrics[name] == value


def test_images_beyond_the_budget_are_decoded_from_their_files_to_the_same_numbers(world: tuple[Path, dict[str, str], Artifact], tmp_path: Path) -> None:
    inputs = models(tmp_path, datasets(tmp_path)[1])
    large = evaluation(tmp_path, inputs, resources={"store": 0})
    assert done(large)[""].metrics == world[2].metrics
    assert not list(large.cache.glob("store-*"))


def test_progress_and_metrics_are_told_while_it_runs(world: tuple[Path, dict[str, str], Artifact]) -> None:
    workspace, inputs, _ = world
    events = [json.loads(line) for line in (evaluation(workspace, inputs).work / "events.jsonl").read_text().splitlines()]
    progress = [e["step"] for e in events if e["event"] == "progress"]
    assert progress == list(range(1, 9 * (1 + len(PROTOCOLS)) + 1))
    assert sum(e["event"] == "metrics" for e in events) == 9 * len(PROTOCOLS)


def test_without_labels_only_rank_is_left_and_says_so(tmp_path: Path) -> None:
    clean = datasets(tmp_path, labels=False)[1]
    stage = {"kind": "pretrain", "dataset": "clean", "method": "simclr", "encoder": encoder(8)}
    teacher = checkpoint(job(tmp_path, "teacher", stage, {"clean": clean.key}), "", encoder(8), 0)
    inputs = {"clean": clean.key, "teacher": teacher.key}
    with pytest.raises(UserError, match=r"stages\.report\.protocols: knn, few_shot, linear need labels.*labels: true.*rank"):
        done(evaluation(tmp_path, inputs, models=["teacher"], compare=[], protocols=["knn", "few_shot", "linear"]))
    report = done(evaluation(tmp_path, inputs, models=["teacher"], compare=[]))[""]
    assert set(json.loads(report.path("results.json").read_text())["skipped"]) == {"knn", "few_shot", "linear"}
    assert set(report.metrics) == {"teacher/rank", "pixels/rank", "random init (teacher)/rank"}
    assert "no labels" in report.path("report.html").read_text()


def test_an_altered_model_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    clean = datasets(tmp_path)[1]
    inputs = models(tmp_path, clean)
    weights = tmp_path / ".sslflow/artifacts" / inputs["teacher"] / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"model\.safetensors was cut short"):
        done(evaluation(tmp_path, inputs))

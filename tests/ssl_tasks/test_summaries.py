"""What an evaluation says as a whole: means over seeds, what is within noise, repeats, and which weights numbers are of."""

import json
from typing import Any

import numpy as np
import pytest
from evaluated import done
from scipy import stats
from small_world import SmallWorld, protocol

from schemas.artifacts import Artifact, read
from schemas.protocols import ProtocolSpec
from schemas.stages import Evaluate
from ssl_tasks.evaluate.comparing import mcnemar
from ssl_tasks.evaluate.findings import Number, Skipped
from ssl_tasks.evaluate.judging import SETTLED, under
from ssl_tasks.evaluate.lineage import last_or_best
from ssl_tasks.evaluate.protocols import apply
from ssl_tasks.evaluate.results import Row
from ssl_tasks.evaluate.summaries import differences, flat, summaries


def row(model: str, value: float, items: np.ndarray | None = None, metric: str = "accuracy") -> Row:
    return Row(model, "pretrained", "p", "p@1", metric, [value], 100, 10, 8, "id", items)


def right(count: int, n: int = 100) -> np.ndarray:
    return (np.arange(n) < count).astype(float)


class TestSeeds:
    VALUES = (0.71, 0.74, 0.69)

    def rows(self) -> list[Row]:
        return [row("pretrained", 0.5), *(row(f"teacher[seed={i}]", v) for i, v in enumerate(self.VALUES))]

    def test_a_model_under_several_seeds_has_mean_deviation_and_interval_over_them(self) -> None:
        (entry,) = summaries(self.rows())
        assert (entry["name"], entry["seeds"], entry["models"]) == ("teacher", 3, ["teacher[seed=0]", "teacher[seed=1]", "teacher[seed=2]"])
        found = entry["measures"]["p"]
        assert found["mean"] == pytest.approx(np.mean(self.VALUES))
        assert found["std"] == pytest.approx(np.std(self.VALUES, ddof=1))
        expected = stats.t.interval(0.95, 2, np.mean(self.VALUES), stats.sem(self.VALUES))
        assert (found["low"], found["high"]) == pytest.approx(expected)
        assert flat([entry])["teacher/p/std"] == found["std"]

    def test_a_model_with_one_seed_has_none(self) -> None:
        assert summaries([row("teacher[seed=0]", 0.7), row("other", 0.6)]) == []

    def test_models_are_compared_with_all_of_their_seeds(self) -> None:
        (found,) = differences(self.rows())
        assert (found["best"], found["model"]) == ("teacher", "pretrained")
        assert found["p"] == pytest.approx(stats.ttest_1samp(self.VALUES, 0.5).pvalue)
        assert not found["within_noise"]


class TestDifferences:
    def test_the_best_is_held_against_every_other_by_the_same_items(self) -> None:
        found = differences([row("a", 0.9, right(90)), row("b", 0.88, right(88)), row("c", 0.5, right(50))])
        assert [(each["best"], each["model"], each["within_noise"]) for each in found] == [("a", "b", True), ("a", "c", False)]
        assert [each["p"] for each in found] == [mcnemar(2, 0), mcnemar(40, 0)]
        assert found[0]["p_holm"] == mcnemar(2, 0)
        assert found[1]["p_holm"] == 2 * mcnemar(40, 0)

    def test_no_difference_is_larger_than_there_can_be(self) -> None:
        (found,) = differences([row("pixels", 0.99), *(row(f"a[seed={i}]", v) for i, v in enumerate((0.32, 0.27, 0.02)))])
        assert found["high"] == 1.0
        assert found["low"] > 0

    def test_where_less_is_better_the_least_is_best(self) -> None:
        items = np.random.default_rng(0).random(50)
        (found,) = differences([row("a", 0.9, items + 0.5, "rmse"), row("b", 0.4, items, "rmse")])
        assert found["best"] == "b"
        assert found["mean"] == pytest.approx(-0.5)

    def test_nothing_is_said_where_neither_direction_is_better_or_nothing_can_be_told(self) -> None:
        assert differences([row("a", 9.0, metric="effective_rank"), row("b", 3.0, metric="effective_rank")]) == []
        assert differences([row("a", 0.9, metric="nmi"), row("b", 0.3, metric="nmi")]) == []


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SmallWorld:
    return SmallWorld(tmp_path_factory.mktemp("summaries"))


@pytest.fixture(scope="module")
def report(world: SmallWorld) -> Artifact:
    asked = [{"kind": "knn", "k": 5}, {"kind": "few_shot", "shots": 1, "draws": 3}, {"kind": "rank", "samples": 20}]
    return done(world.evaluation(asked, baselines=["pixels"], models=["vit", "convnet"], repeats=3))[""]


def found(report: Artifact) -> dict[str, Any]:
    stated: dict[str, Any] = json.loads(report.path("results.json").read_text())
    return stated


def test_repeats_are_of_protocols_that_draw_and_others_are_judged_once(report: Artifact) -> None:
    results = found(report)
    assert {(row["protocol"], len(row["values"])) for row in results["rows"]} == {("knn", 1), ("few_shot", 9), ("rank", 3)}
    assert results["repeats"] == {"count": 3, "seeds": [7, 8, 9], "protocols": ["few_shot", "rank"]}
    rank = next(row for row in results["rows"] if row["protocol"] == "rank")
    assert rank["spread"] > 0
    assert rank["over"] == "draws"


def test_each_repeat_is_what_its_seed_alone_gives(world: SmallWorld, report: Artifact) -> None:
    rows = {row["protocol"]: row for row in found(report)["rows"] if row["model"] == "vit"}
    for place, seed in enumerate((7, 8, 9)):
        subject = world.subject("vit", seed=seed)
        (draws,) = (n for n in apply(protocol("few_shot"), subject)[0] if isinstance(n, Number))
        assert rows["few_shot"]["values"][3 * place : 3 * place + 3] == pytest.approx(draws.values)
        (rank,) = (n for n in apply(protocol("rank", samples=20), subject)[0] if isinstance(n, Number))
        assert rows["rank"]["values"][place] == pytest.approx(rank.values[0])
    kept = np.load(report.path("items.npz"))["vit/few_shot"]
    assert kept.mean() == pytest.approx(rows["few_shot"]["value"])


@pytest.mark.parametrize("spec", sorted(SETTLED, key=lambda spec: spec.version), ids=lambda spec: spec.version)
def test_what_is_judged_once_gives_the_same_under_every_seed(world: SmallWorld, spec: type[ProtocolSpec]) -> None:
    kind = spec.model_fields["kind"].default
    if kind == "cost":
        pytest.skip("times are of the machine")
    subject, each = world.subject("classifier"), []
    for seed in (7, 8):
        try:
            with under(subject, seed, {}):
                each.append(apply(protocol(kind), subject)[0])
        except Skipped as reason:
            each.append([str(reason)])  # type: ignore[list-item]  # then the reasons are compared
    assert each[0] == each[1]


def test_every_number_has_what_it_takes_to_read_it(report: Artifact) -> None:
    results = found(report)
    knn = [row for row in results["rows"] if row["protocol"] == "knn"]
    assert all(row["low"] <= row["value"] <= row["high"] and row["over"] == "images" and not row["leaking"] for row in knn)
    assert {each["measure"] for each in results["differences"]} == {"knn", "few_shot"}
    assert len(results["differences"]) == 4  # two of three models, under each
    assert "Holm" in results["tests"]
    assert results["checkpoints"] == {"vit": "last", "convnet": "last"}
    assert {"vit/knn/low", "vit/knn/high"} < report.metrics.keys()
    assert "pixels/knn/low" not in report.metrics


@pytest.mark.parametrize(
    ("metrics", "said"),
    [
        ({}, "last"),
        ({"fell_back_to_step": 120.0}, "fell back to step 120"),
        ({"ended_early_at_step": 80.0}, "last, ended early at step 80"),
        ({"kept_from_step": 40.0, "ended_early_at_step": 80.0}, "best on held-out images, of step 40"),
    ],
)
def test_which_weights_of_a_training_a_number_is_of_is_told(world: SmallWorld, metrics: dict[str, float], said: str) -> None:
    asked = world.evaluation(["rank"])
    assert isinstance(asked.stage, Evaluate)
    model = read(asked.folder(asked.inputs["vit"])).model_copy(update={"metrics": metrics})
    assert last_or_best(asked, model) == said  # type: ignore[arg-type]  # it is a Checkpoint

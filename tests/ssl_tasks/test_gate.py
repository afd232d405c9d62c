"""A regression gate: numbers that an evaluation must reach, and what becomes of the report when one is not."""

import json
from pathlib import Path

import numpy as np
import pytest
from evaluated import done
from small_world import SmallWorld

from schemas.errors import UserError
from schemas.stages import Evaluate
from ssl_tasks.evaluate.expecting import broken, held
from ssl_tasks.evaluate.results import Role, Row

ROLES: dict[str, Role] = {"t[seed=0]": "teacher", "t[seed=1]": "teacher", "s": "student", "s_alone": "alone", "pixels": "pixels"}


def rows() -> list[Row]:
    values = {"t[seed=0]": 0.9, "t[seed=1]": 0.8, "s": 0.7, "s_alone": 0.6, "pixels": 0.3}
    knn = [Row(m, ROLES[m], "knn", "knn@1", "accuracy", [v], 100, 10, 8, "id", (np.arange(100) < 100 * v).astype(float)) for m, v in values.items()]
    return [*knn, *(Row(m, ROLES[m], "clustering", "clustering@1", "nmi", [v / 2], 100, 10, 8, "id") for m, v in values.items())]


def lines(skipped: dict[str, dict[str, str]] | None = None, **expect: str) -> list[str]:
    asked = {key.replace("__", "/"): bound for key, bound in expect.items()}
    stage = Evaluate(dataset="d", models=list(ROLES)[:4], protocols=["knn", "clustering", "accuracy"], expect=asked)
    return broken(held(stage, rows(), ROLES, skipped or {}))


def test_a_protocol_alone_is_every_model_that_is_no_baseline_and_not_trained_alone() -> None:
    assert lines(knn=">= 0.65") == []
    assert lines(knn=">= 0.75") == ["knn of s is 0.7 (95%: 0.6042 to 0.7811) where >= 0.75 is expected"]
    assert [line.split()[2] for line in lines(knn="> 0.99")] == ["t,", "s"]


def test_of_several_seeds_the_mean_counts_unless_one_is_named() -> None:
    assert lines(t__knn=">= 0.85") == []
    (line,) = lines(t__knn="> 0.86")
    assert line == "knn of t, the mean of 2 seeds, is 0.85 (95%: 0.2147 to 1) where > 0.86 is expected"
    assert lines(**{"t[seed=0]__knn": "> 0.85"}) == []
    assert len(lines(**{"t[seed=1]__knn.top1": "> 0.85"})) == 1


def test_baselines_can_be_named_and_bounds_may_be_from_above() -> None:
    assert lines(pixels__knn="< 0.4", s_alone__knn="<= 0.6") == []
    assert len(lines(pixels__knn="< 0.3")) == 1


def test_a_metric_is_named_where_a_protocol_gives_none_of_its_own_name() -> None:
    assert lines(**{"s__clustering.nmi": ">= 0.35"}) == []
    assert lines(**{"s__clustering.nmi": ">= 0.4"}) == ["clustering.nmi of s is 0.35 where >= 0.4 is expected"]
    assert lines(s__clustering=">= 0.3") == ["clustering of s is not there, where >= 0.3 is expected; clustering gives clustering.nmi"]


def test_what_was_not_judged_is_not_met_and_says_why() -> None:
    (line,) = lines({"accuracy": {"s": "is no classifier"}}, s__accuracy=">= 0.1")
    assert line == "accuracy of s is not there, where >= 0.1 is expected: s is no classifier"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SmallWorld:
    return SmallWorld(tmp_path_factory.mktemp("gate"))


def test_a_stage_that_misses_what_is_expected_fails_and_keeps_its_report_outside_of_the_artifacts(world: SmallWorld) -> None:
    asked = world.evaluation([{"kind": "knn", "k": 5}], baselines=[], models=["vit", "convnet"], expect={"knn": ">= 0", "vit/knn": "> 1"})
    with pytest.raises(UserError) as raised:
        done(asked)
    line, where = str(raised.value).splitlines()
    assert line.startswith("knn of vit is 0.")
    assert line.endswith("where > 1 is expected")
    report = Path(where.removeprefix("the report is kept: "))
    assert report == asked.work / "report" / "report.html"
    assert "knn" in report.read_text()
    found = json.loads((report.parent / "results.json").read_text())
    assert [entry["met"] for entry in found["expectations"]] == [True, True, False]
    assert not asked.folder(asked.outputs[""]).exists()
    with pytest.raises(UserError, match="knn of vit"):  # a second try is no success, and replaces what was kept
        done(asked)
    assert report.exists()


def test_a_stage_that_reaches_it_is_done(world: SmallWorld) -> None:
    report = done(world.evaluation([{"kind": "knn", "k": 5}], baselines=[], models=["vit"], expect={"knn.top1": ">= 0"}))[""]
    (entry,) = json.loads(report.path("results.json").read_text())["expectations"]
    assert entry["met"]
    assert entry["low"] <= entry["value"] <= entry["high"]


def test_a_metric_that_there_is_not_is_refused_before_any_work(world: SmallWorld) -> None:
    with pytest.raises(UserError, match=r"stages\.report\.expect: 'knn\.acuracy' asks for a metric that there is not; did you mean 'accuracy'\?"):
        done(world.evaluation(["knn"], models=["vit"], expect={"knn.acuracy": ">= 0"}))

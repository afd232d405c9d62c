"""What `expect` may say, whose numbers it is about, and what is told where it says something else."""

from pathlib import Path

import pytest

from schemas.errors import InvalidPipeline
from schemas.expectations import Expectation, expectations
from schemas.load import loads
from schemas.naming import group
from schemas.stages import Evaluate

PIPELINE = """
name: gate
stages:
  raw: {kind: ingest, source: {kind: scenes, count: 60, size: 48, test: 0.4}}
  teacher: {kind: pretrain, dataset: raw, method: simclr, encoder: {name: resnet10t, image_size: 32}, matrix: {seed: [0, 1]}}
  students: {kind: distill, dataset: raw, teacher: "teacher[seed=0]", method: feature, students: {small: {name: resnet10t, image_size: 32}}, baseline: alone}
  report:
    kind: evaluate
    dataset: raw
    models: [teacher]
    distilled: [students.small]
    protocols: [{kind: knn, k: [5, 20]}, {kind: low_label, share: [0.1, 0.2]}, rank]
    expect: {%s}
"""


def expected(text: str) -> dict[str, str]:
    stage = loads(PIPELINE % text, Path("gate.yaml")).stages["report"]
    assert isinstance(stage, Evaluate)
    return stage.expect


@pytest.mark.parametrize(
    "text",
    [
        "knn_k5: '>= 0.85'",
        "knn_k5.top1: '>0.85'",
        "teacher/rank: '> 3.0'",
        "'teacher[seed=1]/low_label_share0.1': '< .5'",
        "students.small/low_label_share0.2.accuracy: '<= 1e-1'",
        "pixels/rank: '>= 1', students.small_alone/rank: '>= 1'",
    ],
)
def test_a_number_is_named_by_protocol_metric_and_model_whatever_dots_their_names_have(text: str) -> None:
    assert expected(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("knn: '>= 0.85'", "'knn' is of no protocol of this stage; there are several: knn_k5, knn_k20"),
        ("rnk: '>= 0.85'", "'rnk' is of no protocol of this stage; did you mean 'rank'?"),
        ("tacher/rank: '> 3'", "'tacher/rank' is of no model of this stage; did you mean 'teacher'?"),
        ("rank: 0.9", "expect.rank: must be a comparison in quotes such as '>= 0.85', not 0.9"),
        ("rank: 'about 3'", "expect.rank: must be a comparison such as '>= 0.85', with one of >=, <=, >, <, not 'about 3'"),
        ("rank: '= 3'", "must be a comparison"),
        ("rank: '>= 3%'", "must be a comparison"),
    ],
)
def test_what_cannot_be_expected_is_one_line_at_its_place(text: str, message: str) -> None:
    with pytest.raises(InvalidPipeline) as raised:
        expected(text)
    assert len(raised.value.problems) == 1
    assert message in str(raised.value)
    assert str(raised.value).startswith("gate.yaml:13:")


def test_top1_is_another_word_for_accuracy() -> None:
    assert expectations({"a/knn.top1": "> 1", "knn": "< 2"}, ["knn"]) == [Expectation("a", "knn", "accuracy", "> 1"), Expectation("", "knn", "", "< 2")]


@pytest.mark.parametrize(
    ("bound", "met", "broken"), [(">= 0.85", [0.85, 0.9], [0.849]), ("> 0.85", [0.851], [0.85]), ("<= -1e-1", [-0.1], [0.0]), ("<.5", [0.49], [0.5])]
)
def test_a_bound_is_met_or_not(bound: str, met: list[float], broken: list[float]) -> None:
    asked = Expectation("", "knn", "", bound)
    assert all(map(asked.is_met, met))
    assert not any(map(asked.is_met, broken))


def test_a_model_is_called_the_same_whatever_its_seed() -> None:
    assert group("students[data.seed=3,temperature=0.5].small") == "students[temperature=0.5].small"
    assert group("random init (teacher[seed=1])") == "random init (teacher)"

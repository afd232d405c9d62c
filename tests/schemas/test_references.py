"""References: where they stand, what they name, in which order the stages follow."""

from typing import Any

import pytest

from schemas.references import cycles, in_order, problems, references, split
from schemas.stages import Curate, Distill, Evaluate, Ingest, Pretrain, StageBase


def curate(dataset: str) -> Curate:
    return Curate.model_validate({"kind": "curate", "dataset": dataset, "steps": ["integrity"]})


RAW = Ingest.model_validate({"kind": "ingest", "source": "digits"})


@pytest.mark.parametrize(
    ("text", "stage", "output"),
    [
        ("teacher", "teacher", ""),
        ("students.small", "students", "small"),
        ("teacher[seed=0]", "teacher[seed=0]", ""),
        ("students[seed=0].small", "students[seed=0]", "small"),
        ("teacher[learning_rate=0.001]", "teacher[learning_rate=0.001]", ""),
        ("students[rate=0.1,path=a.b].small", "students[rate=0.1,path=a.b]", "small"),
    ],
)
def test_a_reference_is_a_stage_and_an_output(text: str, stage: str, output: str) -> None:
    assert split(text) == (stage, output)


def test_nested_references_are_found_with_their_places() -> None:
    stage = Evaluate.model_validate(
        {
            "kind": "evaluate",
            "dataset": "raw",
            "models": ["a", "b.c"],
            "protocols": ["knn"],
            "compare": [{"student": "b.c", "teacher": "a", "alone": "d"}],
        }
    )
    assert [(r.loc, r.takes, r.text) for r in references(stage)] == [
        (("dataset",), "Dataset", "raw"),
        (("models", 0), "Checkpoint", "a"),
        (("models", 1), "Checkpoint", "b.c"),
        (("compare", 0, "student"), "Checkpoint", "b.c"),
        (("compare", 0, "teacher"), "Checkpoint", "a"),
        (("compare", 0, "alone"), "Checkpoint", "d"),
    ]
    step = Curate.model_validate(
        {"kind": "curate", "dataset": "raw", "steps": ["integrity", {"kind": "deduplicate", "embedding": {"kind": "encoded", "checkpoint": "a"}}]}
    )
    assert [(r.loc, r.text) for r in references(step)][1] == (("steps", 1, "embedding", "checkpoint"), "a")


def pretrain(**further: Any) -> Pretrain:
    return Pretrain.model_validate({"kind": "pretrain", "dataset": "raw", "method": "simclr", "encoder": {"name": "resnet18"}, **further})


def test_given_weights_and_an_earlier_training_are_references() -> None:
    assert [(r.loc, r.takes, r.text) for r in references(pretrain(init_from="a"))][1:] == [(("init_from", "stage"), "Checkpoint", "a")]
    assert [(r.loc, r.takes, r.text) for r in references(pretrain(continues="b"))][1:] == [(("continues",), "Checkpoint", "b")]
    assert [r.text for r in references(pretrain(init_from={"file": "own.pth"}))] == ["raw"]


def test_a_student_cannot_be_continued_and_no_stage_can_continue_itself() -> None:
    students = Distill.model_validate({"kind": "distill", "dataset": "raw", "teacher": "a", "method": "feature", "students": {"small": {"name": "resnet10t"}}})
    stages: dict[str, StageBase] = {"raw": RAW, "a": pretrain(keep_training_state=True), "students": students}
    kinds = dict.fromkeys((*stages, "b"), "")
    found = list(problems({**stages, "b": pretrain(continues="students.small")}, kinds))
    assert found == [(("stages", "b", "continues"), "'students.small' is no pretrain stage: only one can be continued")]
    assert list(problems({**stages, "b": pretrain(continues="a")}, kinds)) == []
    assert [message for _, message in problems({**stages, "b": pretrain(continues="b", keep_training_state=True)}, kinds)] == [
        "stages wait on each other: b -> b"
    ]


def test_the_order_is_that_of_the_file_where_the_references_leave_a_choice() -> None:
    assert in_order({"c": curate("b"), "x": RAW, "b": curate("a"), "a": RAW, "y": RAW}) == ["x", "a", "b", "c", "y"]


def test_a_long_chain_written_backwards_is_ordered() -> None:
    stages: dict[str, StageBase] = {f"s{i}": curate(f"s{i - 1}") for i in range(900, 0, -1)}
    stages["s0"] = RAW
    assert in_order(stages) == [f"s{i}" for i in range(901)]
    assert cycles(stages) == []


def test_each_cycle_is_found_once_and_begins_with_the_stage_that_stands_first() -> None:
    stages = {"raw": RAW, "a": curate("c"), "b": curate("a"), "c": curate("b"), "own": curate("own"), "after": curate("a")}
    assert sorted(cycles(stages)) == [("a", "c", "b"), ("own",)]

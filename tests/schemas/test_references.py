"""References: where they stand, what they name, in which order the stages follow."""

import pytest

from schemas.references import cycles, in_order, references, split
from schemas.stages import Curate, Evaluate, Ingest, StageBase


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

"""Curation steps that name other stages: where a fault of theirs stands, and what their keys depend on."""

from pathlib import Path

import pytest

from schemas.errors import InvalidPipeline
from schemas.load import loads
from workflows.engine.reuse import Plan, make_plan

PIPELINE = """\
name: pool
stages:
  raw: {kind: ingest, source: digits}
  test: {kind: ingest, source: scenes}
  seeds: {kind: curate, dataset: test, steps: [integrity]}
  clean:
    kind: curate
    dataset: raw
    steps:
      - integrity
      - {kind: retrieve, seeds: seeds, embedding: {kind: encoded, checkpoint: teacher}}
      - {kind: leakage, against: [test]}
  teacher: {kind: pretrain, dataset: raw, method: simclr, encoder: {name: resnet18}}
"""


@pytest.mark.parametrize(
    ("good", "bad", "told"),
    [
        ("against: [test]", "against: [tset]", "12:35 stages.clean.steps.2.against.0: no stage 'tset'; did you mean 'test'?"),
        ("against: [test]", "against: [test, teacher]", "12:41 stages.clean.steps.2.against.1: 'teacher' makes a Checkpoint, wanted a Dataset"),
        ("against: [test]", "against: [clean]", "6:3 stages.clean: stages wait on each other: clean -> clean"),
        ("against: [test]", "against: test", "12:34 stages.clean.steps.2.against: must be a list, not the text 'test'"),
        ("seeds: seeds", "seeds: teacher", "11:33 stages.clean.steps.1.seeds: 'teacher' makes a Checkpoint, wanted a Dataset"),
        ("checkpoint: teacher", "checkpoint: raw", "11:79 stages.clean.steps.1.embedding.checkpoint: 'raw' makes a Dataset, wanted a Checkpoint"),
        ("checkpoint: teacher", "checkpoint: techer", "11:79 stages.clean.steps.1.embedding.checkpoint: no stage 'techer'; did you mean 'teacher'?"),
        (
            "  teacher: {kind: pretrain, dataset: raw",
            "  teacher: {kind: pretrain, dataset: clean",
            "6:3 stages.clean: stages wait on each other: clean -> teacher -> clean",
        ),
    ],
)
def test_a_wrong_reference_of_a_step_is_told_where_it_is_written(good: str, bad: str, told: str) -> None:
    assert PIPELINE.count(good) == 1
    with pytest.raises(InvalidPipeline) as caught:
        loads(PIPELINE.replace(good, bad), Path("x.yaml"))
    assert str(caught.value) == f"x.yaml:{told}"


def test_a_wrong_reference_beside_another_fault_of_the_stage_is_told_too() -> None:
    with pytest.raises(InvalidPipeline) as caught:
        loads(PIPELINE.replace("[test]", "[tset], threshold: 2"), Path("x.yaml"))
    assert str(caught.value).split("\n") == [
        "x.yaml:12:35 stages.clean.steps.2.against.0: no stage 'tset'; did you mean 'test'?",
        "x.yaml:12:53 stages.clean.steps.2.threshold: must be at most 1.0, not the number 2",
    ]


def plan(text: str = PIPELINE, **stamps: str) -> Plan:
    return make_plan(loads(text), Path("nowhere"), {"raw": "raw 1", "test": "test 1", **stamps})


def test_what_steps_name_comes_before_the_stage_and_is_among_its_inputs() -> None:
    planned = plan().stages["clean"]
    assert set(planned.parents) == {"raw", "seeds", "teacher", "test"}
    assert {text: plan().stages[text].key for text in ("raw", "seeds", "teacher", "test")} == planned.inputs
    assert list(plan().stages).index("clean") == 4


def test_the_key_changes_with_each_input_that_a_step_names() -> None:
    before = plan().stages["clean"].key
    assert plan(test="test 2").stages["clean"].key != before
    assert plan(PIPELINE.replace("resnet18", "resnet34")).stages["clean"].key != before
    assert plan(PIPELINE.replace("dataset: test, steps: [integrity]", "dataset: test, steps: [exact_duplicates]")).stages["clean"].key != before
    assert plan().stages["clean"].key == before


def test_which_of_two_inputs_takes_which_part_is_part_of_the_key() -> None:
    swapped = PIPELINE.replace("seeds: seeds", "seeds: test").replace("against: [test]", "against: [seeds]")
    assert plan(swapped).stages["clean"].key != plan().stages["clean"].key


def test_renaming_the_stages_that_steps_name_makes_nothing_anew() -> None:
    renamed = PIPELINE
    for old, new in (("  test:", "  held_out:"), ("[test]", "[held_out]"), ("dataset: test", "dataset: held_out"), ("  seeds:", "  few:")):
        assert renamed.count(old) == 1
        renamed = renamed.replace(old, new)
    renamed = renamed.replace("seeds: seeds", "seeds: few").replace("  teacher:", "  model:").replace("checkpoint: teacher", "checkpoint: model")
    after = plan(renamed, held_out="test 1")
    assert after.stages["clean"].key == plan().stages["clean"].key
    assert set(after.stages["clean"].inputs) == {"raw", "few", "model", "held_out"}


def test_a_stage_has_the_version_of_the_raw_data_behind_whatever_it_takes() -> None:
    def versions(raw: str, other: str) -> dict[str, str]:
        return make_plan(loads(PIPELINE), Path("nowhere"), {"raw": raw, "test": other}, data_version="0f.dir").data_versions

    assert versions("0f.dir", "print")["clean"] == "0f.dir"
    assert versions("print", "0f.dir") == {"raw": "", "test": "0f.dir", "seeds": "0f.dir", "teacher": "", "clean": "0f.dir"}
    assert versions("print", "print")["clean"] == ""

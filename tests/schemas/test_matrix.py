"""A matrix makes several stages of one, and what the name of several stands for."""

import pytest
from test_load import BASE, MANY, fault, teacher

from schemas.load import loads
from schemas.methods import DINO, SimCLR
from schemas.stages import Distill, Evaluate

# matrix

SWEEP = BASE.replace("    train:", "    matrix: {seed: [0, 1], method.temperature: [0.1, 0.5]}\n    train:")


def test_a_matrix_makes_one_stage_of_each_combination() -> None:
    pipeline = loads(SWEEP)
    names = [f"teacher[seed={seed},temperature={heat}]" for seed in (0, 1) for heat in (0.1, 0.5)]
    assert list(pipeline.stages)[2:] == names
    last = teacher(pipeline, names[-1])
    assert (last.seed, last.method) == (1, SimCLR(temperature=0.5))


def test_an_override_reaches_every_stage_of_a_matrix() -> None:
    pipeline = loads(SWEEP, overrides=["stages.teacher.train.epochs=2"])
    assert {teacher(pipeline, name).train.epochs for name in list(pipeline.stages)[2:]} == {2}


@pytest.mark.parametrize(
    ("matrix", "names"),
    [
        ("{method: [simclr, {kind: dino, prototypes: 8}]}", ["method=simclr", "method=dino"]),
        ("{method: [{kind: dino, prototypes: 8}, {kind: dino, prototypes: 9}]}", ["method=0", "method=1"]),
        ("{encoder.image_size: [16, 32]}", ["image_size=16", "image_size=32"]),
        ("{train.epochs: [1], encoder.options.epochs: [2]}", ["train.epochs=1,encoder.options.epochs=2"]),
        ("{method.views.scale: [[0.2, 1], [0.4, 1]]}", ["scale=0", "scale=1"]),
        ("{train.bfloat16: [true, false]}", ["bfloat16=true", "bfloat16=false"]),
        ('{seed: ["${params.epochs}", 1]}', ["seed=30", "seed=1"]),
        ('{dataset: [raw, "clean"]}', ["dataset=raw", "dataset=clean"]),
    ],
)
def test_a_stage_of_a_matrix_is_named_by_its_values(matrix: str, names: list[str]) -> None:
    pipeline = loads(BASE.replace("    train:", f"    matrix: {matrix}\n    train:"))
    assert list(pipeline.stages)[2:] == [f"teacher[{name}]" for name in names]


def test_a_matrix_may_state_what_the_stage_does_not() -> None:
    pipeline = loads(BASE.replace("    method: simclr", "    matrix: {method: [simclr, dino]}"))
    assert [type(teacher(pipeline, f"teacher[method={kind}]").method) for kind in ("simclr", "dino")] == [SimCLR, DINO]


def test_a_matrix_has_a_limit() -> None:
    many = list(range(40))
    assert "makes more than 1000 stages" in fault(BASE.replace("    train:", f"    matrix: {{seed: {many}, train.monitors: {many[1:]}}}\n    train:"))


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("teacher", ["teacher[seed=0]", "teacher[seed=1]"]),
        ('"teacher[seed=1]"', ["teacher[seed=1]"]),
        ("single", ["single.one"]),
        ("single.one", ["single.one"]),
        ("students", ["students[seed=0].small", "students[seed=0].large", "students[seed=1].small", "students[seed=1].large"]),
        ("students.large", ["students[seed=0].large", "students[seed=1].large"]),
        ('"students[seed=1]"', ["students[seed=1].small", "students[seed=1].large"]),
        ('"students[seed=1].small", single', ["students[seed=1].small", "single.one"]),
    ],
)
def test_a_reference_in_a_list_stands_for_all_that_it_names(written: str, meant: list[str]) -> None:
    report = loads(MANY.replace("MODELS", written)).stages["report"]
    assert isinstance(report, Evaluate)
    assert report.models == meant


@pytest.mark.parametrize(
    ("good", "bad", "told"),
    [
        (
            "teacher: teacher[seed=0]",
            "teacher: teacher",
            "x.yaml:8:14 stages.students.teacher: 'teacher' is a matrix of 2 stages; name one: teacher[seed=0], teacher[seed=1]",
        ),
        ("students[seed=1].small", "single", "x.yaml:12:50 stages.single.teacher: no output 'single'; 'single' makes single.one"),
        (
            "students[seed=1].small",
            "students.small",
            "x.yaml:12:50 stages.single.teacher: 'students.small' is a matrix of 2 stages; name one: students[seed=0], students[seed=1]",
        ),
        (
            "students[seed=0].large",
            "students[seed=2].large",
            "x.yaml:16:72 stages.near.steps.0.embedding.checkpoint: no stage 'students[seed=2].large'; did you mean 'students[seed=1]'?",
        ),
        ("students[seed=0].large", "raw", "x.yaml:16:72 stages.near.steps.0.embedding.checkpoint: 'raw' makes a Dataset, wanted a Checkpoint"),
    ],
)
def test_where_one_is_wanted_the_fault_lists_what_may_be_named(good: str, bad: str, told: str) -> None:
    assert told in fault(MANY.replace("MODELS", "single").replace(good, bad)).split("\n")


def test_a_model_that_several_entries_name_is_told_at_the_second() -> None:
    told = fault(MANY.replace("MODELS", "single, single.one"))
    assert told == "x.yaml:17:60 stages.report.models.1: 'single.one' stands twice"


def test_a_comparison_is_of_models_that_are_judged() -> None:
    compare = 'protocols: [knn], compare: [{student: single.one, teacher: "teacher[seed=0]", alone: "teacher[seed=1]"}]'
    assert isinstance(loads(MANY.replace("MODELS", "single, teacher").replace("protocols: [knn]", compare)).stages["single"], Distill)
    told = fault(MANY.replace("MODELS", 'single, "teacher[seed=0]"').replace("protocols: [knn]", compare))
    assert told == "x.yaml:17:165 stages.report.compare.0.alone: 'teacher[seed=1]' is not among the models of the stage"

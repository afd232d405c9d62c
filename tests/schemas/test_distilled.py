"""`distilled` on an evaluate stage stands for models and comparisons, and says what is wrong where it is written."""

import pytest

from schemas.errors import InvalidPipeline
from schemas.load import loads
from schemas.stages import Evaluate

FILE = """\
name: family
stages:
  raw: {kind: ingest, source: digits}
  teacher: {kind: pretrain, dataset: raw, method: simclr, encoder: {name: resnet18}}
  students:
    kind: distill
    dataset: raw
    teacher: teacher
    method: feature
    students: {small: {name: resnet10t}, large: {name: resnet18}}
    baseline: alone
  seeds: {kind: distill, dataset: raw, teacher: teacher, method: feature, students: {tiny: {name: resnet10t}}, matrix: {seed: [0, 1]}}
  taught_by_labels: {kind: distill, dataset: raw, method: cross_entropy, students: {tiny: {name: resnet10t}}}
  report: {kind: evaluate, dataset: raw, protocols: [knn], distilled: [STUDENTS]}
"""


def report(students: str, more: str = "") -> Evaluate:
    stage = loads(FILE.replace("[STUDENTS]", f"[{students}]{more}")).stages["report"]
    assert isinstance(stage, Evaluate)
    return stage


def fault(students: str, text: str = FILE) -> str:
    with pytest.raises(InvalidPipeline) as told:
        loads(text.replace("[STUDENTS]", f"[{students}]"))
    return "\n".join(str(problem) for problem in told.value.problems)


def compared(stage: Evaluate) -> list[tuple[str, str | None, str | None]]:
    return [(c.student, c.teacher, c.alone) for c in stage.compare]


def test_each_student_is_judged_beside_its_teacher_and_its_baseline() -> None:
    stage = report("students")
    assert stage.models == ["teacher", "students.small", "students.small_alone", "students.large", "students.large_alone"]
    assert compared(stage) == [("students.small", "teacher", "students.small_alone"), ("students.large", "teacher", "students.large_alone")]


def test_it_says_the_same_as_models_and_compare_written_out() -> None:
    written = (
        "report: {kind: evaluate, dataset: raw, protocols: [knn], models: [teacher, students.small], compare: [{student: students.small, teacher: teacher}]}"
    )
    alike = FILE.replace("baseline: alone", "").replace(FILE[FILE.index("report:") :], written + "\n")
    short = FILE.replace("baseline: alone", "").replace("[STUDENTS]", "[students.small]")
    assert loads(alike).stages["report"] == loads(short).stages["report"]


def test_of_a_matrix_over_seeds_all_are_taken() -> None:
    stage = report("seeds")
    assert stage.models == ["teacher", "seeds[seed=0].tiny", "seeds[seed=1].tiny"]
    assert compared(stage) == [("seeds[seed=0].tiny", "teacher", None), ("seeds[seed=1].tiny", "teacher", None)]


def test_one_student_or_one_seed_may_be_named() -> None:
    assert report("students.large").models == ["teacher", "students.large", "students.large_alone"]
    assert report('"seeds[seed=1]"').models == ["teacher", "seeds[seed=1].tiny"]


def test_students_without_a_teacher_are_compared_with_what_there_is() -> None:
    stage = report("taught_by_labels")
    assert stage.models == ["taught_by_labels.tiny"]
    assert compared(stage) == [("taught_by_labels.tiny", None, None)]


def test_what_is_written_stays_first_and_nothing_stands_twice() -> None:
    more = ', models: ["seeds[seed=1].tiny", students.small], compare: [{student: students.small, alone: "seeds[seed=1].tiny"}]'
    stage = report("students.small, students", more)
    assert stage.models == ["seeds[seed=1].tiny", "students.small", "teacher", "students.small_alone", "students.large", "students.large_alone"]
    assert compared(stage) == [("students.small", None, "seeds[seed=1].tiny"), ("students.large", "teacher", "students.large_alone")]


@pytest.mark.parametrize(
    ("students", "told"),
    [
        ("teacher", "x.yaml:14:72 stages.report.distilled.0: 'teacher' is no distill stage: name it in `models`"),
        ("studens", "x.yaml:14:72 stages.report.distilled.0: no stage 'studens'; did you mean 'students'?"),
        ("students, seed", "x.yaml:14:82 stages.report.distilled.1: no stage 'seed'; what makes a Checkpoint: teacher, students.small, "),
        ("students.smal", "x.yaml:14:72 stages.report.distilled.0: no output 'students.smal'; did you mean 'small'? 'students' makes students.small,"),
        ("raw", "x.yaml:14:72 stages.report.distilled.0: 'raw' makes a Dataset, wanted a Checkpoint"),
        ("students, students", "x.yaml:14:82 stages.report.distilled.1: 'students' stands twice"),
    ],
)
def test_what_is_no_distilled_student_is_told_where_it_stands(students: str, told: str) -> None:
    assert told.replace("x.yaml", "pipeline.yaml") in fault(students)


def test_a_report_needs_models_of_either_kind() -> None:
    told = fault("", FILE.replace(", distilled: [STUDENTS]", ""))
    assert "stages.report: names no model: list encoders in `models`, or distill stages in `distilled`" in told


def test_a_broken_distill_stage_is_told_alone() -> None:
    told = fault("students", FILE.replace("name: resnet18}}\n    baseline", "name: resnet18, depht: 3}}\n    baseline"))
    assert "depht" in told
    assert "report" not in told

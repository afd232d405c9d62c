"""Values changed from the command line: `--set PATH=VALUE`, and what is told of one that is wrong."""

import pytest
from test_load import BASE, FLIPPED, OF_PRESET, fault, teacher

from schemas.load import loads
from schemas.methods import DINO, SimCLR
from schemas.stages import Curate, InitFrom
from schemas.training import SGD, AdamW


@pytest.mark.parametrize(
    ("assignment", "path", "value"),
    [
        ("stages.teacher.train.epochs=0.5", "train.epochs", 0.5),
        ("stages.teacher.train.batch_size=16", "train.batch_size", 16),
        ("params.epochs=3", "train.epochs", 3),
        ("stages.teacher.train.optimizer.learning_rate=3e-4", "train.optimizer", AdamW(learning_rate=3e-4)),
        ("stages.teacher.train.optimizer=sgd", "train.optimizer", SGD()),
        ("stages.teacher.train.optimizer={kind: sgd, momentum: 0}", "train.optimizer", SGD(momentum=0)),
        ("stages.teacher.method.temperature=0.5", "method", SimCLR(temperature=0.5)),
        ("stages.teacher.method.views.flip=${params.flip}", "method.views.flip", 0.5),
        ("stages.teacher.resources.timeout=90s", "resources.seconds", 90),
        ("stages.teacher.train=null", "train.epochs", 100),
        ("seed=11", "seed", 11),
    ],
)
def test_an_override_changes_one_value(assignment: str, path: str, value: object) -> None:
    found: object = teacher(loads(BASE, overrides=[assignment]))
    for part in path.split("."):
        found = getattr(found, part)
    assert found == value


def test_an_override_changes_one_value_of_a_preset() -> None:
    assert teacher(loads(OF_PRESET, overrides=["stages.teacher.method.views.flip=0"])).method == FLIPPED != DINO()
    other = DINO.model_validate({"views": "swav"})
    assert teacher(loads(OF_PRESET, overrides=["stages.teacher.method.views.preset=swav"])).method == other
    swept = loads(OF_PRESET.replace("    train:", "    matrix: {method.views.flip: [0]}\n    train:"))
    assert teacher(swept, "teacher[flip=0]").method == FLIPPED


def test_a_fault_in_a_changed_preset_is_told_where_it_is_written() -> None:
    told = "--set stages.teacher.method.views.flip: must be at most 1.0, not the number 7"
    assert fault(OF_PRESET, "stages.teacher.method.views.flip=7") == told
    misspelt = fault(OF_PRESET.replace("byol", "bjol"), "stages.teacher.method.views.flip=0")
    assert misspelt.startswith("x.yaml:10:33 stages.teacher.method.views.preset: must be one of ")
    assert misspelt.endswith("not the text 'bjol'; did you mean 'byol'?")


def test_an_override_of_a_bare_stage_to_start_from_is_an_override_of_its_name() -> None:
    text = BASE + "  next: {kind: pretrain, dataset: raw, method: simclr, encoder: {name: resnet18}, init_from: raw}\n"
    start = teacher(loads(text, overrides=["stages.next.init_from.stage=teacher"]), "next").init_from
    assert start == InitFrom(stage="teacher")


def test_an_override_reaches_items_of_a_list() -> None:
    clean = loads(BASE, overrides=["stages.clean.steps.1.keep=600"]).stages["clean"]
    assert isinstance(clean, Curate)
    assert [step.kind for step in clean.steps] == ["integrity", "balance"]
    assert clean.steps[1].model_dump()["keep"] == 600


@pytest.mark.parametrize(
    ("assignment", "told"),
    [
        ("stages.techer.train.epochs=5", "--set stages.techer.train.epochs: no stage 'techer'; did you mean 'teacher'?"),
        ("stages.teacher.train.epoch=5", "--set stages.teacher.train.epoch: unknown key; did you mean 'epochs'?"),
        ("stages.teacher.trian.epochs=5", "--set stages.teacher.trian: unknown key; did you mean 'train'?"),
        ("stages.teacher.train.epochs=many", "--set stages.teacher.train.epochs: must be a number, not the text 'many'"),
        ("stages.teacher.train.epochs=[", "--set stages.teacher.train.epochs: is not YAML: did not find expected node content"),
        ("stages.clean.steps.7.keep=5", "--set stages.clean.steps.7.keep: no item '7' in a list of 2, counted from 0"),
        ("params.epoch=5", "--set params.epoch: no parameter 'epoch'; did you mean 'epochs'?"),
        ("params.epochs=many", "x.yaml:12:21 stages.teacher.train.epochs: must be a number, not the text 'many' (from ${params.epochs})"),
        ("sede=5", "--set sede: unknown key; did you mean 'seed'?"),
        ("seed", "--set seed: must be PATH=VALUE, such as stages.teacher.train.epochs=5; null removes the key"),
        ("seed=", "--set seed: must be PATH=VALUE, such as stages.teacher.train.epochs=5; null removes the key"),
        ("stages.teacher.dataset=null", "--set stages.teacher: missing 'dataset'"),
    ],
)
def test_a_bad_override_is_told_with_what_was_meant(assignment: str, told: str) -> None:
    assert fault(BASE, assignment) == told


def test_a_misspelt_student_in_an_override_is_told_with_what_was_meant() -> None:
    text = BASE + "  s: {kind: distill, dataset: raw, teacher: teacher, method: feature, students: {small: {name: resnet10t}}}\n"
    assert fault(text, "stages.s.students.smal.image_size=32") == "--set stages.s.students.smal: missing 'name'; did you mean 'small'?"

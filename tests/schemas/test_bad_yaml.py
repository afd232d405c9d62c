"""What a user can get wrong in a pipeline file, and the line that tells it: file, place, path, what may be there."""

from pathlib import Path

import pytest

from schemas.curation import Step
from schemas.distillers import Distiller
from schemas.errors import InvalidPipeline
from schemas.load import loads
from schemas.methods import Method
from schemas.resources import Resources
from schemas.shapes import kinds
from schemas.sources import Source
from schemas.stages import KINDS

METHODS = ", ".join(kinds(Method))
STEPS = ", ".join(kinds(Step))
SOURCES = ", ".join(kinds(Source))

GOOD = """\
name: digits
seed: 7
params: {epochs: 30, note: text}
stages:
  raw: {kind: ingest, source: digits}
  clean:
    kind: curate
    dataset: raw
    steps: [integrity, {kind: deduplicate, threshold: 0.97}, {kind: balance, keep: 1200}]
  teacher:
    kind: pretrain
    dataset: clean
    method: {kind: dino, prototypes: 512, teacher_temperature: 0.05}
    encoder: {name: vit_tiny_patch16_224, image_size: 32, patch_size: 4}
    train: {epochs: "${params.epochs}", batch_size: 256, optimizer: adamw}
    resources: {timeout: 2h}
  students:
    kind: distill
    dataset: clean
    teacher: teacher
    method: feature
    students:
      small: {name: resnet10t, image_size: 32}
      vit: {name: vit_tiny_patch16_224, image_size: 32, patch_size: 4, depth: 4}
  report:
    kind: evaluate
    dataset: raw
    models: [teacher, students.small, students.vit]
    protocols: [knn, linear, rank]
schedule: {cron: "0 3 * * 1"}
"""


def faults(text: str, *overrides: str) -> list[str]:
    with pytest.raises(InvalidPipeline) as caught:
        loads(text, Path("x.yaml"), overrides, environ={})
    return str(caught.value).split("\n")


def test_the_pipeline_that_the_cases_break_is_good() -> None:
    assert loads(GOOD).order() == ["raw", "clean", "teacher", "students", "report"]


CASES: list[tuple[str, str, str]] = [
    # keys
    ("prototypes", "prototypse", "13:26 stages.teacher.method.prototypse: unknown key; did you mean 'prototypes'?"),
    ("seed: 7", "sed: 7", "2:1 sed: unknown key; did you mean 'seed'?"),
    ("{timeout: 2h}", "{zzz: 2h}", f"16:17 stages.teacher.resources.zzz: unknown key; there may be: {', '.join(Resources.model_fields)}"),
    (
        "keep: 1200",
        "keeep: 1",
        "9:78 stages.clean.steps.2.keeep: unknown key; did you mean 'keep'?",
    ),
    ("    dataset: clean\n    method: {kind: dino", "    method: {kind: dino", "10:3 stages.teacher: missing 'dataset'"),
    ("{kind: balance, keep: 1200}", "balance", "9:62 stages.clean.steps.2: missing 'keep'"),
    ("{name: resnet10t, image_size: 32}", "{image_size: 32}", "23:7 stages.students.students.small: missing 'name'"),
    ("      vit: ", "      small: ", "24:7 stages.students.students.small: duplicate key; it stands first on line 23"),
    ("  report:", "  teacher:", "25:3 stages.teacher: duplicate key; it stands first on line 10"),
    # kinds
    ("kind: ingest", "kind: ingst", f"5:15 stages.raw.kind: unknown kind 'ingst'; did you mean 'ingest'? kinds: {', '.join(KINDS)}"),
    ("kind: dino", "kind: moco", f"13:20 stages.teacher.method.kind: unknown kind 'moco'; did you mean 'moco_v3'? kinds: {METHODS}"),
    ("source: digits", "source: digit", f"5:31 stages.raw.source: unknown kind 'digit'; did you mean 'digits'? kinds: {SOURCES}"),
    (
        "[integrity,",
        "[integrty,",
        f"9:13 stages.clean.steps.0: unknown kind 'integrty'; did you mean 'integrity'? kinds: {STEPS}",
    ),
    ("method: feature", "method: featur", "21:13 stages.students.method: unknown kind 'featur'; did you mean 'feature'? kinds: " + ", ".join(kinds(Distiller))),
    ("{kind: dino, prototypes: 512, teacher_temperature: 0.05}", "{temperature: 1}", f"13:5 stages.teacher.method: missing 'kind'; kinds: {METHODS}"),
    ("kind: dino", "kind: 5", f"13:20 stages.teacher.method.kind: 'kind' must be text, not the number 5; kinds: {METHODS}"),
    # types and ranges
    ("batch_size: 256", "batch_size: many", "15:53 stages.teacher.train.batch_size: must be a whole number, not the text 'many'"),
    ("batch_size: 256", "batch_size: 2.5", "15:53 stages.teacher.train.batch_size: must be a whole number, not the number 2.5"),
    ("batch_size: 256", "batch_size: true", "15:53 stages.teacher.train.batch_size: must be a whole number, not true"),
    ("batch_size: 256", "batch_size: null", "15:53 stages.teacher.train.batch_size: must be a whole number, not null"),
    ("batch_size: 256", "batch_size: 0", "15:53 stages.teacher.train.batch_size: must be greater than 0, not the number 0"),
    ("batch_size: 256", "bfloat16: no", "15:51 stages.teacher.train.bfloat16: must be true or false, not the text 'no'"),
    (
        "batch_size: 256",
        "schedule: cosin",
        "15:51 stages.teacher.train.schedule: must be one of cosine, constant, not the text 'cosin'; did you mean 'cosine'?",
    ),
    ("threshold: 0.97", "threshold: 1.5", "9:55 stages.clean.steps.1.threshold: must be at most 1.0, not the number 1.5"),
    ("threshold: 0.97", "threshold: .nan", "9:55 stages.clean.steps.1.threshold: must be a finite number, not the number nan"),
    ("name: resnet10t", "name: 5", "23:21 stages.students.students.small.name: must be text, not the number 5"),
    ("{timeout: 2h}", "[2h]", "16:5 stages.teacher.resources: must be a mapping, not a list"),
    ("{timeout: 2h}", "{timeout: soon}", "16:26 stages.teacher.resources.timeout: must be a number and s, m, h or d, such as 90s or 12h"),
    ("{timeout: 2h}", "{scheduler: 'tcp://a:1'}", "16:28 stages.teacher.resources.scheduler: 'tcp://a:1' needs `runner: dask`"),
    ("{timeout: 2h}", "{runner: dask, scheduler: a}", "16:42 stages.teacher.resources.scheduler: 'a' is no address, such as tcp://host:8786"),
    ("[knn, linear, rank]", "{knn: 1}", "29:5 stages.report.protocols: must be a list, not a mapping"),
    ("[knn, linear, rank]", "[]", "29:5 stages.report.protocols: must have at least 1 item, not 0"),
    ("raw: {kind: ingest, source: digits}", "raw: digits", "5:8 stages.raw: must be a mapping, not the text 'digits'"),
    ("name: digits", "name: Digits 1", "1:7 name: must be lower-case letters, digits and _, and begin with a letter"),
    ("  raw: {kind", "  Raw-1: {kind", "5:3 stages.Raw-1: must be lower-case letters, digits and _, and begin with a letter"),
    ("0 3 * * 1", "0 3 * *", "30:18 schedule.cron: must have five fields: minute hour day month weekday"),
    ("0 3 * * 1", "0 24 * * 1", "30:18 schedule.cron: hour must be between 0 and 23, not '24'"),
    ('"0 3 * * 1"', '"0 3 * * 1", timezone: Mars/Base', "30:41 schedule.timezone: no time zone 'Mars/Base'; a name such as UTC or Europe/Berlin"),
    # values that do not fit each other
    (
        "image_size: 32, patch_size: 4}\n    train",
        "image_size: 30, patch_size: 4}\n    train",
        "14:55 stages.teacher.encoder.image_size: image_size 30 is not a multiple of patch size 4",
    ),
    (
        "image_size: 32, patch_size: 4}\n    train",
        "patch_size: 5}\n    train",
        "14:55 stages.teacher.encoder.patch_size: image_size 224 is not a multiple of patch size 5",
    ),
    (
        "teacher_temperature: 0.05",
        "teacher_temperature: 0.1",
        "13:64 stages.teacher.method.teacher_temperature: teacher temperature 0.1 must be below student_temperature 0.1: "
        "sharper targets are what keeps DINO from collapsing to uniform",
    ),
    (
        "teacher_temperature: 0.05",
        "views: {local_count: 6, local_size: 48}",
        "13:79 stages.teacher.method.views.local_size: a local crop of 48 px is larger than the encoder's image_size 32",
    ),
    (
        "teacher_temperature: 0.05",
        "views: {local_count: 6, local_size: 15}",
        "13:79 stages.teacher.method.views.local_size: a local crop of 15 px is not a multiple of patch size 4: set method.views.local_size, such as to 16",
    ),
    (
        "{kind: dino, prototypes: 512, teacher_temperature: 0.05}",
        "{kind: dinov3, gram_size: 62, views: {local_size: 16}}",
        "13:39 stages.teacher.method.gram_size: the Gram teacher's crop of 62 px is not a multiple of patch size 4: set method.gram_size, such as to 64",
    ),
    (
        "image_size: 32, patch_size: 4}\n    train",
        "image_size: 32, patch_size: 4, options: {patch_drop_rate: 0.5}}\n    train",
        "14:101 stages.teacher.encoder.options.patch_drop_rate: patch_drop_rate is not for here: methods mask and drop patches themselves; leave it out",
    ),
    (
        "teacher_temperature: 0.05",
        "views: dinno",
        "13:50 stages.teacher.method.views: must be one of simclr, simclr_cifar, moco_v1, moco_v2, byol, barlow_twins, swav, dino, dinov2, dinov3, mae, sscd, "
        "not the text 'dinno'; did you mean 'dino'?",
    ),
    ("teacher_temperature: 0.05", "views: {blur: [0.1, 2]}", "13:63 stages.teacher.method.views.blur.1: must be at most 1.0, not the number 2"),
    ("teacher_temperature: 0.05", "views: {blur: often}", "13:57 stages.teacher.method.views.blur: must be a number, not the text 'often'"),
    (
        "teacher_temperature: 0.05",
        "views: {blur: [0.1]}",
        "13:51 stages.teacher.method.views.blur: blur lists 1 probabilities for a count of 2: write one number, or one a global crop",
    ),
    (
        "teacher_temperature: 0.05",
        "views: {scale: [0.5, 0.1]}",
        "13:51 stages.teacher.method.views.scale: scale [0.5, 0.1] must rise from above 0 to at most 1",
    ),
    ("teacher_temperature: 0.05", "views: {scale: [0.5]}", "13:51 stages.teacher.method.views.scale: must have 2 items"),
    ("students.vit]", "teacher]", "28:39 stages.report.models.2: 'teacher' stands twice"),
    # references
    ("dataset: raw\n    steps", "dataset: raww\n    steps", "8:14 stages.clean.dataset: no stage 'raww'; did you mean 'raw'?"),
    ("dataset: raw\n    steps", "dataset: xyz\n    steps", "8:14 stages.clean.dataset: no stage 'xyz'; what makes a Dataset: raw"),
    ("teacher: teacher", "teacher: clean", "20:14 stages.students.teacher: 'clean' makes a Dataset, wanted a Checkpoint"),
    ("students.vit]", "students.huge]", "28:39 stages.report.models.2: no output 'students.huge'; 'students' makes students.small, students.vit"),
    (
        "students.vit]",
        "students.vitt]",
        "28:39 stages.report.models.2: no output 'students.vitt'; did you mean 'vit'? 'students' makes students.small, students.vit",
    ),
    ("students.vit]", "clean.best]", "28:39 stages.report.models.2: 'clean.best' makes a Dataset, wanted a Checkpoint"),
    ("teacher: teacher", "teacher: students.vit", "17:3 stages.students: stages wait on each other: students -> students"),
    ("dataset: raw\n    steps", "dataset: clean\n    steps", "6:3 stages.clean: stages wait on each other: clean -> clean"),
    # interpolation
    ("${params.epochs}", "${params.epoch}", "15:21 stages.teacher.train.epochs: unknown parameter 'epoch'; did you mean 'epochs'?"),
    ("${params.epochs}", "${params.note}", "15:21 stages.teacher.train.epochs: must be a number, not the text 'text' (from ${params.note})"),
    ("${params.epochs}", "${env:EPOCHS}", "15:21 stages.teacher.train.epochs: the environment variable 'EPOCHS' is not set"),
    ("${params.epochs}", "${epochs}", "15:21 stages.teacher.train.epochs: unknown '${epochs}'; write ${params.NAME} or ${env:NAME}, and $${ for a plain ${"),
    ("${params.epochs}", "${params.epochs", "15:21 stages.teacher.train.epochs: '${' is not closed; write $${ for a plain ${"),
    ("note: text", "note: '${params.epochs}'", "3:28 params.note: a parameter may use ${env:NAME}, not another parameter"),
    # matrix
    ("resources: {timeout: 2h}", "matrix: {train.epohcs: [1, 2]}", "16:14 stages.teacher.matrix.train.epohcs: unknown key; did you mean 'epochs'?"),
    ("resources: {timeout: 2h}", "matrix: {seed: 3}", "16:20 stages.teacher.matrix.seed: must be a list of values, not the number 3"),
    ("resources: {timeout: 2h}", "matrix: {seed: []}", "16:20 stages.teacher.matrix.seed: must be a list of values, not an empty list"),
    ("resources: {timeout: 2h}", "matrix: {seed: [1, 1]}", "16:24 stages.teacher.matrix.seed.1: the number 1 stands twice"),
    ("resources: {timeout: 2h}", "matrix: [seed]", "16:5 stages.teacher.matrix: must be a mapping from keys of the stage to lists of values, not a list"),
    (
        "resources: {timeout: 2h}",
        "matrix: {seed: [0, 1]}",
        "20:14 stages.students.teacher: 'teacher' is a matrix of 2 stages; name one: teacher[seed=0], teacher[seed=1]",
    ),
    ("  raw: {kind", '  "raw[seed=0]": {kind', "5:3 stages.raw[seed=0]: must be lower-case letters, digits and _; `matrix` adds the brackets"),
]


@pytest.mark.parametrize(("good", "bad", "told"), CASES, ids=lambda text: text[:40])
def test_a_fault_is_told_where_it_stands(good: str, bad: str, told: str) -> None:
    assert GOOD.count(good) == 1
    assert f"x.yaml:{told}" in faults(GOOD.replace(good, bad))


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("threshold: high", ["9:55 stages.clean.steps.1.threshold: must be a number, not the text 'high'"]),
        ("threshold: null", ["9:55 stages.clean.steps.1.threshold: must be a number, not null"]),
        ("threshold: [1]", ["9:44 stages.clean.steps.1.threshold: must be a number, not a list"]),
        ("threshold: {}", ["9:44 stages.clean.steps.1.threshold: missing 'precision'"]),
        ("threshold: {precision: 0.2}", ["9:67 stages.clean.steps.1.threshold.precision: must be greater than 0.5, not the number 0.2"]),
        ("threshold: {precision: 0.9, copy: 1}", ["9:72 stages.clean.steps.1.threshold.copy: unknown key; did you mean 'copies'?"]),
        ("}, {kind: cluster, clusters: 0", ["9:73 stages.clean.steps.2.clusters: must be greater than 0, not the number 0"]),
        ("}, {kind: cluster, clusters: [9, 0]", ["9:77 stages.clean.steps.2.clusters.1: must be greater than 0, not the number 0"]),
        ("}, {kind: cluster, clusters: []", ["9:63 stages.clean.steps.2.clusters: must have at least 1 item, not 0"]),
    ],
)
def test_where_a_number_or_something_else_may_stand_there_is_one_line_of_what_was_meant(written: str, told: list[str]) -> None:
    assert faults(GOOD.replace("threshold: 0.97", written)) == [f"x.yaml:{line}" for line in told]


def test_a_longer_cycle_is_told_once() -> None:
    text = """\
name: round
stages:
  a: {kind: curate, dataset: c, steps: [integrity]}
  b: {kind: curate, dataset: a, steps: [integrity]}
  c: {kind: curate, dataset: b, steps: [integrity]}
"""
    assert faults(text) == ["x.yaml:3:3 stages.a: stages wait on each other: a -> c -> b -> a"]


def test_all_faults_of_a_file_come_at_once_in_the_order_of_lines() -> None:
    text = GOOD
    for good, bad, _ in (CASES[0], CASES[1], CASES[9], CASES[12], CASES[16], CASES[23]):
        text = text.replace(good, bad)
    told = faults(text.replace("dataset: raw\n    steps", "dataset: teacher\n    steps"))
    assert [line.split(" ")[0] for line in told] == ["x.yaml:2:1", "x.yaml:5:15", "x.yaml:8:14", "x.yaml:9:13", "x.yaml:9:54", "x.yaml:13:26", "x.yaml:15:53"]


def test_a_fault_in_a_stage_with_a_matrix_is_told_once() -> None:
    text = GOOD.replace("prototypes", "prototypse").replace("resources: {timeout: 2h}", "matrix: {seed: [0, 1, 2]}").replace("r: teacher", "r: teacher[seed=0]")
    assert faults(text) == [f"x.yaml:{CASES[0][2]}"]


def test_a_fault_behind_an_anchor_is_told_where_it_is_written() -> None:
    text = GOOD.replace("image_size: 32, patch_size: 4}\n    train: {", "image_size: 32, patch_size: 4}\n    train: &budget {epohcs: 3, ").replace(
        "method: feature", "method: feature\n    train: *budget"
    )
    assert faults(text) == ["x.yaml:15:21 stages.teacher.train.epohcs: unknown key; did you mean 'epochs'?"]


def test_what_the_environment_holds_is_not_told() -> None:
    with pytest.raises(InvalidPipeline) as caught:
        loads(GOOD.replace("${params.epochs}", "${env:SECRET}"), environ={"SECRET": "hunter2"})
    assert "hunter2" not in str(caught.value)
    assert "must be a number, not the value of ${env:SECRET}" in str(caught.value)

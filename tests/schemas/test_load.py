"""The language around the models: extends, parameters, environment, seeds."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from schemas.encoders import Encoder
from schemas.errors import InvalidPipeline
from schemas.load import load, loads
from schemas.methods import DINO, SimCLR
from schemas.pipeline import Pipeline
from schemas.sources import Digits
from schemas.stages import Curate, Ingest, Pretrain

BASE = """\
name: base
seed: 7
params: {epochs: 30, folder: digits, flip: 0.5, channels: [1, 3]}
stages:
  raw: {kind: ingest, source: {kind: digits, path: "data/${params.folder}"}}
  clean: {kind: curate, dataset: raw, steps: [integrity, {kind: balance, keep: 1200}]}
  teacher:
    kind: pretrain
    dataset: clean
    method: simclr
    encoder: {name: resnet18, image_size: 32}
    train: {epochs: "${params.epochs}"}
"""


MANY = """\
name: many
stages:
  raw: {kind: ingest, source: digits}
  teacher: {kind: pretrain, dataset: raw, method: simclr, encoder: {name: resnet18}, matrix: {seed: [0, 1]}}
  students:
    kind: distill
    dataset: raw
    teacher: teacher[seed=0]
    method: feature
    students: {small: {name: resnet10t}, large: {name: resnet18}}
    matrix: {seed: [0, 1]}
  single: {kind: distill, dataset: raw, teacher: "students[seed=1].small", method: feature, students: {one: {name: resnet10t}}}
  near:
    kind: curate
    dataset: raw
    steps: [{kind: deduplicate, embedding: {kind: encoded, checkpoint: "students[seed=0].large"}}]
  report: {kind: evaluate, dataset: near, models: [MODELS], protocols: [knn]}
"""


OF_PRESET = BASE.replace("method: simclr", "method: {kind: dino, views: byol}")
FLIPPED = DINO.model_validate({"views": {"preset": "byol", "flip": 0}})


def teacher(pipeline: Pipeline, name: str = "teacher") -> Pretrain:
    stage = pipeline.stages[name]
    assert isinstance(stage, Pretrain)
    return stage


def fault(text: str, *overrides: str, params: dict[str, Any] | None = None, file: Path = Path("x.yaml")) -> str:
    with pytest.raises(InvalidPipeline) as caught:
        loads(text, file, overrides, params, environ={})
    return str(caught.value)


def test_a_bare_word_is_a_kind() -> None:
    assert isinstance(teacher(loads(BASE)).method, SimCLR)


def test_a_stage_may_stand_before_what_it_takes_from() -> None:
    head, raw, rest = BASE.partition('  raw: {kind: ingest, source: {kind: digits, path: "data/${params.folder}"}}\n')
    assert loads(head + rest + raw).order() == ["raw", "clean", "teacher"]


def test_the_seed_of_the_pipeline_is_that_of_stages_which_state_none() -> None:
    pipeline = loads(BASE.replace("dataset: clean", "dataset: clean\n    seed: 3"))
    clean = pipeline.stages["clean"]
    assert isinstance(clean, Curate)
    assert clean.seed == 7
    assert teacher(pipeline).seed == 3


def test_a_part_written_in_part_keeps_the_methods_own_defaults() -> None:
    method = teacher(loads(BASE.replace("method: simclr", "method: {kind: dino, views: {flip: 0}}"))).method
    assert isinstance(method, DINO)
    assert method.views.flip == 0
    assert method.views.scale == DINO().views.scale != SimCLR().views.scale


# parameters and the environment


def test_a_parameter_alone_keeps_its_type_and_within_text_becomes_text() -> None:
    pipeline = loads(BASE)
    raw = pipeline.stages["raw"]
    assert isinstance(raw, Ingest)
    assert isinstance(raw.source, Digits)
    assert raw.source.path == "data/digits"
    assert teacher(pipeline).train.epochs == 30


def test_the_environment_is_read_as_a_bare_word_of_yaml() -> None:
    text = BASE.replace('"${params.epochs}"', '"${env:EPOCHS}"').replace("folder: digits", 'folder: "${env:USER_NAME}-${env:EPOCHS}"')
    pipeline = loads(text, environ={"EPOCHS": "1e-1", "USER_NAME": "on"})
    assert teacher(pipeline).train.epochs == 0.1
    assert pipeline.params["folder"] == "on-0.1"


def test_a_doubled_dollar_is_a_plain_one() -> None:
    assert loads(BASE + "description: costs $${params.epochs}, $5\n").description == "costs ${params.epochs}, $5"


def test_a_list_does_not_fit_into_text() -> None:
    told = fault(BASE.replace("data/${params.folder}", "data/${params.channels}"))
    assert told == "x.yaml:5:52 stages.raw.source.path: ${params.channels} is a list; it can only stand alone, not within text"


def test_values_of_a_deployment_win_and_stand_for_themselves() -> None:
    pipeline = loads(BASE, overrides=["params.epochs=2"], params={"epochs": 9, "folder": "${env:HOME}"})
    assert teacher(pipeline).train.epochs == 9
    assert pipeline.params["folder"] == "${env:HOME}"


def test_an_unknown_value_of_a_deployment_is_refused() -> None:
    assert fault(BASE, params={"epoch": 9}) == "parameters params.epoch: unknown parameter; did you mean 'epochs'?"


def test_parameters_cannot_blow_up_a_pipeline() -> None:
    uses = "".join(f"    o{i}: ${{params.large}}\n" for i in range(300))
    large = "[" + ", ".join(["x"] * 300) + "]"
    assert "too large" in fault(f"name: a\nparams: {{large: {large}}}\nstages:\n  a:\n{uses}")


# extends


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder / f"{next(iter(files))}.yaml"


def test_a_file_extends_another(tmp_path: Path) -> None:
    child = """\
extends: base.yaml
name: child
params: {epochs: 3}
stages:
  clean: {steps: [integrity]}
  teacher: {method: {temperature: 0.5}, encoder: {channels: 1}}
"""
    pipeline = load(write(tmp_path, child=child, base=BASE))
    assert (pipeline.name, pipeline.seed) == ("child", 7)
    assert pipeline.params["folder"] == "digits"
    changed = teacher(pipeline)
    assert changed.method == SimCLR(temperature=0.5)
    assert changed.encoder == Encoder(name="resnet18", image_size=32, channels=1)
    assert changed.train.epochs == 3
    clean = pipeline.stages["clean"]
    assert isinstance(clean, Curate)
    assert [step.kind for step in clean.steps] == ["integrity"]


def test_a_file_changes_one_value_of_a_preset(tmp_path: Path) -> None:
    child = "extends: base.yaml\nstages: {teacher: {method: {views: {flip: 0}}}}"
    assert teacher(load(write(tmp_path, child=child, base=OF_PRESET))).method == FLIPPED


def test_null_removes_a_key_and_another_kind_replaces_a_mapping(tmp_path: Path) -> None:
    base = BASE.replace("method: simclr", "method: {kind: simclr, temperature: 0.5}")
    child = "extends: base.yaml\nseed: null\nstages: {teacher: {train: null, method: {kind: dino, prototypes: 64}}}"
    pipeline = load(write(tmp_path, child=child, base=base))
    assert pipeline.seed == 0
    assert teacher(pipeline).train.epochs == 100
    assert teacher(pipeline).method == DINO(prototypes=64)


def test_a_chain_of_files_is_followed_from_folder_to_folder(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    write(tmp_path, middle="extends: base.yaml\nseed: 8\n", base=BASE)
    top = write(tmp_path / "deep", top="extends: ../middle.yaml\nname: top\n")
    pipeline = load(top)
    assert (pipeline.name, pipeline.seed) == ("top", 8)


def test_a_fault_names_the_file_that_it_is_written_in(tmp_path: Path) -> None:
    child = write(tmp_path, child="extends: base.yaml\nstages: {teacher: {seeed: 3}}\n", base=BASE.replace("keep: 1200", "keep: -1"))
    with pytest.raises(InvalidPipeline) as caught:
        load(child)
    assert str(caught.value).split("\n") == [
        f"{tmp_path / 'base.yaml'}:6:80 stages.clean.steps.1.keep: must be greater than 0, not the number -1",
        f"{child}:2:20 stages.teacher.seeed: unknown key; did you mean 'seed'?",
    ]


@pytest.mark.parametrize(
    ("link", "told"),
    [
        ("missing.yaml", "1:10 extends: {folder}/missing.yaml cannot be read: no such file or directory"),
        (".", "1:10 extends: {folder} cannot be read: is a directory"),
        ("[a.yaml]", "1:10 extends: must be the path of a file, not a list"),
        ("child.yaml", "1:10 extends: files extend each other: {folder}/child.yaml -> {folder}/child.yaml"),
    ],
)
def test_what_cannot_be_extended_is_told_at_the_link(tmp_path: Path, link: str, told: str) -> None:
    child = write(tmp_path, child=f"extends: {link}\n{BASE}")
    with pytest.raises(InvalidPipeline) as caught:
        load(child)
    assert str(caught.value) == f"{child}:{told.format(folder=tmp_path)}"


def test_a_longer_circle_of_files_is_told(tmp_path: Path) -> None:
    child = write(tmp_path, a="extends: b.yaml\nname: a", b="extends: c.yaml", c="extends: a.yaml")
    with pytest.raises(InvalidPipeline, match=r"c\.yaml:1:10 extends: files extend each other: .*a\.yaml -> .*b\.yaml -> .*c\.yaml -> .*a\.yaml"):
        load(child)


# cost

IMPORT = "import sys, time; start = time.process_time(); import schemas.load; print(time.process_time() - start, *sys.modules)"


def test_loading_imports_little_and_soon() -> None:
    runs = [subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True).stdout.split() for _ in range(2)]
    assert not {"torch", "numpy", "prefect", "mlflow", "dvc", "pandas", "jsonschema"} & set(runs[0])
    assert min(float(run[0]) for run in runs) < 1.0  # seconds of CPU; pydantic alone takes half of what it takes


def test_a_pipeline_loads_in_no_time() -> None:
    loads(MANY.replace("MODELS", "students"))
    start = time.process_time()
    for _ in range(10):
        loads(MANY.replace("MODELS", "students"))
    assert (time.process_time() - start) / 10 < 0.05

"""The model card: says what the model is and where it comes from, and its code runs as it stands."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from handed_out import CLASSES, PLAIN_CONV, checkpoint, handed_out
from PIL import Image
from safetensors.torch import load_file
from tiny_pipeline import DINO, SCENES, VIT, made, plan
from tiny_training import VIT as SMALL

from schemas.artifacts import Artifact, Checkpoint, sha256
from schemas.errors import UserError
from schemas.job import Job
from schemas.stages import Curate
from ssl_tasks.checkpoints import load, load_classifier
from ssl_tasks.export.loading import PREPARE
from ssl_tasks.export.origins import EXTERNAL, UNSTATED, Touch, touches
from ssl_tasks.lineage import behind
from ssl_tasks.nn.encoder import TimmEncoder
from workflows.engine.run import plan_pipeline

STAGES = f"""
  teacher: {{kind: pretrain, dataset: raw, method: {DINO}, encoder: {VIT}, train: {{epochs: 0.5, batch_size: 12}}}}
  students:
    kind: distill
    dataset: raw
    teacher: teacher
    method: feature
    students: {{small: {{name: vit_tiny_patch16_224, image_size: 32, patch_size: 8, width: 8, depth: 1, heads: 2}}}}
    train: {{epochs: 0.5, batch_size: 12}}
  report: {{kind: evaluate, dataset: raw, models: [students.small, teacher], protocols: [rank]}}
  model:
    kind: export
    checkpoint: students.small
    formats: [timm]
    reports: [report]
    licence: apache-2.0
    registry: {{name: tiny-model, alias: production}}
"""

ENCODER = "name: vit_tiny_patch16_224, image_size: 8, patch_size: 4, width: 16, depth: 1, heads: 2"
FROM_FILES = f"""
  clean: {{kind: curate, dataset: raw, steps: [{{kind: embed, embedding: {{kind: file, file: weights/clean.pth, encoder: {{{ENCODER}}}}}}}]}}
  teacher:
    kind: pretrain
    dataset: clean
    method: {DINO}
    encoder: {{{ENCODER}}}
    train: {{epochs: 0.5, batch_size: 8}}
    init_from: {{file: weights/start.pth}}
  students:
    kind: distill
    dataset: clean
    teacher: teacher
    method: feature
    students:
      other: {{{ENCODER}, init_from: {{file: weights/other.pth}}}}
      small: {{{ENCODER}, init_from: {{file: weights/student.pth}}}}
    train: {{epochs: 0.5, batch_size: 8}}
  model: {{kind: export, checkpoint: students.small, formats: [timm]}}
"""


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    """A pipeline that ends in an export, run stage by stage."""
    return made(plan(STAGES, tmp_path_factory.mktemp("chain")))


@pytest.fixture(scope="module")
def page(chain: dict[str, Artifact]) -> str:
    return chain["model"].path("README.md").read_text()


def test_it_says_what_the_model_is_and_how_images_are_prepared(page: str, chain: dict[str, Artifact]) -> None:
    student = next(link.artifact for link in behind(chain["model"].parents, lambda key: chain["model"].folder.parent / key) if link.kind == "distill")
    assert isinstance(student, Checkpoint)
    assert page.startswith("---\nlicense: apache-2.0\npipeline_tag: image-feature-extraction\nlibrary_name: timm\n---\n# students.small\n")
    assert f"{int(student.metrics['parameters']):,} parameters" in page
    assert "vit_tiny_patch16_224 32 px, depth 1, width 8" in page
    assert f"normalised by mean {student.mean} and standard deviation {student.std}" in page


def test_it_names_every_stage_down_to_the_images_with_key_and_manifest(page: str, chain: dict[str, Artifact]) -> None:
    keys = [key for stage in ("raw", "teacher") for key in [chain[stage].key]] + [chain["model"].parents["students.small"]]
    assert all(f"`{key}`" in page for key in keys)
    assert "feature from teacher; vit_tiny_patch16_224" in page
    assert f"sha256 `{chain['raw'].files['manifest.parquet']}`" in page


def test_it_shows_the_reports_numbers_of_this_model_alone_with_protocol_versions(page: str, chain: dict[str, Artifact]) -> None:
    rows = json.loads(chain["report"].path("results.json").read_text())["rows"]
    own = [row for row in rows if row["model"] == "students.small"]
    lines = [line for line in page.splitlines() if chain["report"].key in line]
    assert len(lines) == len(own) == 1
    assert "rank@1" in lines[0]
    assert f"{own[0]['value']:.4g}" in lines[0]


def test_it_states_the_licence_and_that_the_teachers_is_not_stated(page: str) -> None:
    assert "| students.small | these weights | apache-2.0 |" in page
    assert "| teacher | teacher of students.small | not stated |" in page


def test_a_licence_that_is_no_identifier_is_quoted_for_the_hub(tmp_path: Path) -> None:
    page = handed_out(checkpoint(tmp_path, SMALL), formats=["timm"], licence="for research only: ask").path("README.md").read_text()
    assert page.startswith('---\nlicense: other\nlicense_name: "for research only: ask"\n')


def test_external_weights_are_named_with_an_unknown_licence(tmp_path: Path) -> None:
    source = checkpoint(tmp_path, SMALL, init_from={"file": "weights/dinov2.pth"}, inputs={"data": "gone"})
    found = touches(behind({"teacher": source.key}, lambda key: source.folder.parent / key), {})
    assert found == [Touch("weights/dinov2.pth", "teacher starts from it", EXTERNAL, sha256="")]


def test_files_of_weights_are_stated_with_the_sha256_that_they_had_when_they_were_read(tmp_path: Path) -> None:
    hashes = {}
    for seed, name in enumerate(("start", "clean", "student", "other")):
        torch.manual_seed(seed)
        file = tmp_path / f"weights/{name}.pth"
        file.parent.mkdir(exist_ok=True)
        torch.save(TimmEncoder(SMALL.model_copy(update={"channels": 3})).backbone.state_dict(), file)
        hashes[name] = sha256(file)
    (tmp_path / "tiny.yaml").write_text(SCENES + FROM_FILES)
    plan = plan_pipeline(tmp_path / "tiny.yaml", tmp_path)
    made(plan, "raw", "clean", "teacher", "students")
    for file in (tmp_path / "weights").iterdir():
        file.write_bytes(b"something else")
    done = made(plan, "model")
    origin = [line for line in done["model"].path("README.md").read_text().splitlines() if line.startswith("- weights/")]
    assert origin == [
        f"- weights/student.pth (students.small starts from it): sha256 `{hashes['student']}`",
        f"- weights/start.pth (teacher starts from it): sha256 `{hashes['start']}`",
        f"- weights/clean.pth (embeds images for clean): sha256 `{hashes['clean']}`",
    ]


@pytest.mark.parametrize(
    ("files", "stamp", "told"),
    [
        (["a", "b", "a"], "1+2", {"a.pth": "1", "b.pth": "2"}),
        (["a", "b"], "1", {"a.pth": "1", "b.pth": "1"}),
        (["a", "b", "c"], "1+2", {}),
        (["a"], "", {}),
    ],
    ids=["one file twice", "two files of the same bytes", "not clear which two are the same", "not planned"],
)
def test_a_curation_that_embeds_by_several_files_states_the_hash_of_each(tmp_path: Path, files: list[str], stamp: str, told: dict[str, str]) -> None:
    steps = [{"kind": "embed", "embedding": {"kind": "file", "file": f"{file}.pth", "encoder": {"name": "resnet18"}}} for file in files]
    stage = Curate.model_validate({"kind": "curate", "dataset": "raw", "steps": steps})
    job = Job(name="clean", pipeline="p", stage=stage, key="k", outputs={"": "key"}, workspace=tmp_path, stamp=stamp)
    assert job.weights() == told


def test_a_file_of_weights_in_an_artifact_of_before_has_no_sha256_on_the_card(tmp_path: Path) -> None:
    source = checkpoint(tmp_path, SMALL, init_from={"file": "weights/dinov2.pth"}, inputs={"data": "gone"})
    manifest = source.path("artifact.json")
    stated = json.loads(manifest.read_text())
    del stated["weights"]
    manifest.write_text(json.dumps(stated))
    page = handed_out(source, formats=["timm"]).path("README.md").read_text()
    assert "- weights/dinov2.pth (teacher starts from it): sha256 not recorded\n" in page


def test_licences_of_what_is_behind_are_stated_by_name_and_one_of_anything_else_is_an_error(tmp_path: Path) -> None:
    source = checkpoint(tmp_path, SMALL, init_from={"file": "weights/dinov3.pth"}, inputs={"data": "gone"})
    links = behind({"teacher": source.key}, lambda key: source.folder.parent / key)
    assert touches(links, {"weights/dinov3.pth": "DINOv3 License"}) == [Touch("weights/dinov3.pth", "teacher starts from it", "DINOv3 License", sha256="")]
    with pytest.raises(UserError, match=r"licences: 'dinov3' is not behind these weights; there are weights/dinov3.pth"):
        touches(links, {"dinov3": "DINOv3 License"})


def test_a_teacher_that_is_no_longer_there_is_named_all_the_same(chain: dict[str, Artifact]) -> None:
    folder = chain["model"].folder.parent
    student = chain["model"].parents["students.small"]
    found = touches(behind({"students.small": student}, lambda key: folder / key if key == student else folder / "gone"), {})
    assert found == [Touch("teacher", "teacher of students.small; no longer there", UNSTATED)]


def test_a_report_that_did_not_judge_the_model_is_an_error(chain: dict[str, Artifact]) -> None:
    workspace = chain["raw"].folder.parents[2]
    other = STAGES.replace("models: [students.small, teacher]", "models: [teacher]")
    with pytest.raises(UserError, match=r"report 'report' did not judge 'students.small': name it in that stage's models"):
        made(plan(other, workspace), "report", "model")


@pytest.mark.slow
@pytest.mark.parametrize("classes", [[], CLASSES], ids=["encoder", "classifier"])
def test_its_code_runs_as_it_stands_and_gives_what_the_checkpoint_gives(tmp_path: Path, classes: list[str]) -> None:
    source = checkpoint(tmp_path, PLAIN_CONV if classes else SMALL.model_copy(update={"channels": 3}), classes)
    export = handed_out(source)
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (50, 50, 3), np.uint8)).save(export.folder / "image.png")
    first, *loaders = re.findall(r"```python\n(.*?)```", export.path("README.md").read_text(), re.DOTALL)
    assert "transforms.Resize" in first
    assert PREPARE.startswith("from PIL import Image\n")
    assert len(loaders) == 3
    model, classifier = load(source.folder), load_classifier(source)
    image = export.folder / "image.png"
    right = {"features": model.embed([image]), "logits": classifier(model._prepared(image)) if classifier else None}
    for code in loaders:
        given = "logits" if "timm" in code and classes else "features"
        keep = f"\nimport torch\nfrom safetensors.torch import save_file\nsave_file({{'given': torch.as_tensor({given}).detach()}}, 'given')\n"
        done = subprocess.run([sys.executable, "-c", first + code + keep], cwd=export.folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        torch.testing.assert_close(load_file(export.folder / "given")["given"], right[given], atol=2e-4, rtol=1e-4)

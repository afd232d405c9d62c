"""The stages that train, from a dataset's manifest to sealed checkpoints; several students in one pass, each on its own."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tiny_training import CONV, SIMCLR, TRAIN, VIT, Recorder, process, ranks, stripes

import ssl_tasks
from schemas.artifacts import Checkpoint, sha256
from schemas.distillers import Feature as FeatureConfig
from schemas.encoders import Encoder
from schemas.errors import UserError
from schemas.job import Job
from schemas.sources import Folder
from schemas.stages import Distill, Ingest, Pretrain, StageBase
from schemas.students import Student
from schemas.training import AdamW
from ssl_tasks import artifacts
from ssl_tasks.checkpoints import WEIGHTS
from ssl_tasks.data import manifest
from ssl_tasks.distill import distill
from ssl_tasks.distill.features.feature import Feature
from ssl_tasks.distill.network import Seen
from ssl_tasks.distill.objective import Lesson, Setting
from ssl_tasks.distill.objectives import OBJECTIVES
from ssl_tasks.method import Terms
from ssl_tasks.pretrain import pretrain

NARROW = CONV.model_copy(update={"options": {"layers": [1], "channels": [4], "stem_chs": 4}})
DISTILLER = FeatureConfig()
VIEWS = SIMCLR.views.model_copy(update={"count": 1})


def job(workspace: Path, name: str, stage: StageBase, inputs: dict[str, str], outputs: dict[str, str]) -> Job:
    return Job.model_validate(
        {"name": name, "pipeline": "p", "stage": stage, "key": f"{name}-work", "inputs": inputs, "outputs": outputs, "workspace": workspace}
    )


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A workspace with the artifact `data`: 80 labelled images, of which 4 are not kept and 12 are of the test split."""
    images, labels = stripes()
    rows = []
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = tmp_path / f"images/{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(image[0]).save(path)
        size = {"bytes": path.stat().st_size, "width": 10, "height": 10, "mode": "L"}
        rows.append({"uri": f"images/{i}.png", "sha256": sha256(path), "label": label, "split": "test" if i >= 68 else "train", **size})
    table = manifest.build(rows)
    table = manifest.replace(table, kept=[i >= 4 for i in range(80)])
    listing = job(tmp_path, "data", Ingest(source=Folder(path="images")), {}, {"": "data"})
    folder = artifacts.draft(listing)
    manifest.write(table, folder)
    artifacts.seal(listing, folder, rows=80, kept=64)
    return tmp_path


def teach(workspace: Path, tracker: Recorder | None = None, key: str = "teacher", **settings: Any) -> Checkpoint:
    stage = Pretrain(dataset="data", method=SIMCLR, encoder=CONV, train=TRAIN.model_copy(update=settings), seed=5)
    made = pretrain(job(workspace, key, stage, {"data": "data"}, {"": key}), tracker or Recorder())
    assert isinstance(made[""], Checkpoint)
    return made[""]


def study(workspace: Path, students: dict[str, Encoder], run: str = "a", tracker: Recorder | None = None) -> dict[str, Checkpoint]:
    """Distill students of the artifact `teacher`; `run` keeps their keys and work folders apart from those of other runs."""
    networks = {name: Student(**encoder.model_dump()) for name, encoder in students.items()}
    stage = Distill(dataset="data", teacher="teacher", method=DISTILLER, students=networks, views=VIEWS, train=TRAIN, seed=5)
    outputs = {name: f"{run}-{name}" for name in students}
    made = distill(job(workspace, f"students-{run}", stage, {"data": "data", "teacher": "teacher"}, outputs), tracker or Recorder())
    return {name: artifact for name, artifact in made.items() if isinstance(artifact, Checkpoint)}


def test_pretraining_seals_a_checkpoint_that_states_what_it_is(workspace: Path) -> None:
    tracker = Recorder()
    artifact = teach(workspace, tracker)
    assert artifact.encoder == CONV
    assert (artifact.mean, artifact.std, artifact.dim, artifact.exported) == ([0.5], [0.5], 8, "encoder")
    assert artifact.metrics["images_seen"] == 256
    assert {"train/loss", "monitor/effective_rank", "monitor/knn", "seconds", "images_per_second", "parameters"} <= set(artifact.metrics)
    assert tracker.facts["images"] == 64, "kept images of the train split"
    assert tracker.facts["steps"] == 16
    assert tracker.facts["parameters"] == artifact.metrics["parameters"] == sum(p.numel() for p in ssl_tasks.load(artifact.folder).encoder.parameters())
    points = [json.loads(line) for line in artifact.path("metrics.jsonl").read_text().splitlines()]
    assert [point["step"] for point in points if "train/loss" in point] == list(range(1, 17))
    assert [point["step"] for point in points if "monitor/knn" in point] == [0, 1, 2, 4, 8, 12, 16], "more often in the first tenth"
    assert points[-2]["train/loss"] == artifact.metrics["train/loss"]


def test_pretraining_again_gives_the_same_bytes(workspace: Path) -> None:
    assert teach(workspace).files[WEIGHTS] == teach(workspace, key="again").files[WEIGHTS]


def test_two_ranks_seal_one_checkpoint(workspace: Path) -> None:
    ranks(2, _teach_as_rank, workspace)
    model = ssl_tasks.load(workspace / ".sslflow/artifacts/together")
    alone = ssl_tasks.load(teach(workspace, key="alone").folder)
    torch.testing.assert_close(model.embed([workspace / "images/70.png"]), alone.embed([workspace / "images/70.png"]), rtol=0.02, atol=0.02)


def _teach_as_rank(workspace: Path) -> None:
    stage = Pretrain(dataset="data", method=SIMCLR, encoder=CONV, train=TRAIN, seed=5)
    made = pretrain(job(workspace, "together", stage, {"data": "data"}, {"": "together"}), Recorder())
    assert list(made) == ([""] if os.environ["RANK"] == "0" else [])


def test_a_dataset_that_keeps_nothing_is_refused(workspace: Path) -> None:
    listing = job(workspace, "none", Ingest(source=Folder(path="images")), {}, {"": "none"})
    folder = artifacts.draft(listing)
    manifest.write(manifest.build([]), folder)
    artifacts.seal(listing, folder, rows=0, kept=0)
    stage = Pretrain(dataset="none", method=SIMCLR, encoder=CONV)
    with pytest.raises(UserError, match="dataset 'none' keeps no image of the train split"):
        pretrain(job(workspace, "t", stage, {"none": "none"}, {"": "t"}), Recorder())


def test_students_learn_to_point_where_the_teacher_does(workspace: Path) -> None:
    teach(workspace)
    tracker = Recorder()
    made = study(workspace, {"small": NARROW, "vit": VIT}, tracker=tracker)
    assert set(made) == {"small", "vit"}
    assert made["vit"].exported == "student encoder"
    assert made["vit"].dim == 16
    losses = [values["small/train/loss"] for _, values in tracker.points if "small/train/loss" in values]
    assert losses[-1] < losses[0] - 0.1
    assert made["small"].metrics["train/loss"] == losses[-1]
    assert any("vit/monitor/effective_rank" in values for _, values in tracker.points)
    assert tracker.facts["vit/parameters"] == made["vit"].metrics["parameters"]
    assert ssl_tasks.load(made["vit"].folder).embed([workspace / "images/0.png"]).shape == (1, 16)


def test_a_student_ends_the_same_whoever_learns_beside_it(workspace: Path) -> None:
    teach(workspace)
    together = study(workspace, {"vit": VIT, "small": NARROW, "wide": CONV}, "together")
    alone = study(workspace, {"small": NARROW}, "alone")
    assert together["small"].files[WEIGHTS] == alone["small"].files[WEIGHTS]
    assert together["small"].files[WEIGHTS] != together["wide"].files[WEIGHTS]


def test_students_with_checkpoints_of_different_steps_all_end_right(workspace: Path) -> None:
    """The leading one waits for the one whose newest checkpoint was lost, and for the one that has none."""
    teach(workspace)
    students = {"vit": VIT, "small": NARROW, "wide": CONV}
    expected = study(workspace, students, "whole")
    child = process(_study_until, workspace, students, 10)
    child.join(60)
    assert child.exitcode == 1
    work = workspace / ".sslflow/work/students-cut-work/checkpoints"
    assert sorted(path.name for path in (work / "vit").iterdir()) == ["step-000000005.pt", "step-000000010.pt"]
    (work / "small/step-000000010.pt").write_bytes(b"cut short")
    for path in (work / "wide").iterdir():
        path.unlink()
    tracker = Recorder()
    made = study(workspace, students, "cut", tracker)
    assert {note for note in tracker.notes if "goes on" in note} == {"vit: goes on from step 10", "small: goes on from step 5"}
    assert {name: artifact.files[WEIGHTS] for name, artifact in made.items()} == {name: artifact.files[WEIGHTS] for name, artifact in expected.items()}


def _study_until(workspace: Path, students: dict[str, Encoder], last: int) -> None:
    class Interrupting(Recorder):
        def metrics(self, values: Mapping[str, float], step: int) -> None:
            if step > last:
                raise KeyboardInterrupt

    torch.set_num_threads(1)
    study(workspace, students, "cut", Interrupting())


class Faulty(Feature):
    """A student that fails in its third step."""

    error: Exception | None = None

    def __init__(self, config: FeatureConfig, setting: Setting) -> None:
        super().__init__(config, setting)
        self.is_narrow = setting.network.encoder.config == NARROW

    def forward(self, student: Seen, lesson: Lesson, progress: float) -> Terms:
        terms = super().forward(student, lesson, progress)
        if self.is_narrow and round(progress * 16) == 2:
            if self.error:
                raise self.error
            return {name: term * torch.nan for name, term in terms.items()}
        return terms


@pytest.mark.parametrize(
    ("error", "raised", "message"),
    [
        (None, UserError, r"student 'small' failed: loss term 'cosine' is nan at step 3"),
        (ValueError("no such thing"), RuntimeError, r"student 'small' failed: no such thing"),
    ],
    ids=["not finite", "exception"],
)
def test_a_student_that_fails_does_not_stop_the_others(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, error: Exception | None, raised: type[Exception], message: str
) -> None:
    teach(workspace)
    expected = study(workspace, {"vit": VIT}, "alone")
    monkeypatch.setattr(Faulty, "error", error)
    monkeypatch.setitem(OBJECTIVES, FeatureConfig, Faulty)
    tracker = Recorder()
    with pytest.raises(raised, match=message):
        study(workspace, {"small": NARROW, "vit": VIT}, "mixed", tracker)
    assert any(note.startswith("small ends at step") for note in tracker.notes)
    sealed = workspace / ".sslflow/artifacts"
    assert not (sealed / "mixed-small").exists()
    assert sha256(sealed / "mixed-vit" / WEIGHTS) == expected["vit"].files[WEIGHTS]


def test_only_students_that_are_asked_for_are_trained(workspace: Path) -> None:
    teach(workspace)
    networks = {name: Student(**encoder.model_dump()) for name, encoder in {"small": NARROW, "vit": VIT}.items()}
    stage = Distill(dataset="data", teacher="teacher", method=DISTILLER, students=networks, views=VIEWS, train=TRAIN)
    tracker = Recorder()
    made = distill(job(workspace, "s", stage, {"data": "data", "teacher": "teacher"}, {"vit": "key-vit"}), tracker)
    assert list(made) == ["vit"]
    assert not any(name.startswith("small/") for _, values in tracker.points for name in values)


def test_a_student_of_another_image_size_shares_the_views(workspace: Path) -> None:
    teach(workspace, optimizer=AdamW(learning_rate=1e-3))
    made = study(workspace, {"large": VIT.model_copy(update={"image_size": 16}), "small": NARROW})
    assert made["large"].encoder.image_size == 16


def test_a_student_that_sees_other_channels_is_refused(workspace: Path) -> None:
    teach(workspace)
    with pytest.raises(UserError, match=r"students\.colour\.channels is 3, but the teacher sees 1"):
        study(workspace, {"colour": VIT.model_copy(update={"channels": 3})})


def test_a_damaged_teacher_is_refused(workspace: Path) -> None:
    path = teach(workspace).path(WEIGHTS)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(UserError, match="was cut short or altered"):
        study(workspace, {"small": NARROW})

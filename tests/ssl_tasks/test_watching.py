"""Watching a training: the encoder is judged beside it, the training is bit for bit the same, and a watcher that fails costs a note."""

import json
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_pipeline import SCENES, VIT, made, plan
from tiny_training import Recorder, ranks

from schemas.artifacts import Artifact, Checkpoint
from schemas.load import loads
from ssl_tasks import watching
from ssl_tasks.checkpoints import load_encoder
from ssl_tasks.run import run
from ssl_tasks.watcher import Watcher, sample
from workflows.engine.reuse import Plan, make_plan

METHOD = "{kind: simclr, hidden: 16, output: 8, views: {blur: 0, solarize: 0}}"
TRAIN = "{epochs: 6, batch_size: 8, monitors: 2, checkpoint_steps: 1000}"


def teacher(workspace: Path, watch: str = "") -> Plan:
    """A pretraining of a tiny ViT on 24 scenes, watched or not."""
    return plan(f"  teacher: {{kind: pretrain, dataset: raw, method: {METHOD}, encoder: {VIT}, train: {TRAIN}{watch}}}\n", workspace)


WATCHED = ", watch: {protocols: [{kind: knn, k: 5}, rank, accuracy]}"


@pytest.fixture(scope="module")
def told() -> Recorder:
    return Recorder()


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory, told: Recorder) -> Artifact:
    torch.set_num_threads(1)
    return made(teacher(tmp_path_factory.mktemp("watched"), WATCHED), tracker=told)["teacher"]


def lines(artifact: Artifact, name: str) -> list[dict[str, float]]:
    return [json.loads(line) for line in artifact.path(name).read_text().splitlines()]


def test_a_watched_training_has_a_curve_of_each_measure_from_before_the_first_step_to_the_last(watched: Artifact, told: Recorder) -> None:
    found = lines(watched, "watch.jsonl")
    steps = [point["step"] for point in lines(watched, "metrics.jsonl") if "monitor/effective_rank" in point]
    assert steps[0] == 0
    for measure in ("knn", "rank"):
        assert [number["step"] for number in found if number["measure"] == measure] == steps
    assert {number["version"] for number in found} == {"knn@1", "rank@1"}
    assert {(step, name) for step, values in told.points for name in values if name.startswith("watch/")} == {
        (step, f"watch/{measure}") for step in steps for measure in ("knn", "knn/top5", "rank")
    }


def test_the_curve_of_the_training_holds_what_was_found(watched: Artifact) -> None:
    points = {(point["step"], name): value for point in lines(watched, "metrics.jsonl") for name, value in point.items()}
    for number in lines(watched, "watch.jsonl"):
        assert points[number["step"], f"watch/{number['measure']}"] == number["value"]


def test_being_watched_changes_no_bit_of_the_training_and_neither_key_nor_lineage(watched: Artifact, tmp_path: Path) -> None:
    alone = made(teacher(tmp_path))["teacher"]
    assert alone.path("model.safetensors").read_bytes() == watched.path("model.safetensors").read_bytes()
    assert (alone.key, alone.parents, alone.config) == (watched.key, watched.parents, watched.config)
    own = [point for point in lines(watched, "metrics.jsonl") if not any(name.startswith("watch/") for name in point)]
    assert own == lines(alone, "metrics.jsonl")


def test_watching_on_other_images_does_not_make_them_images_that_were_trained_on(tmp_path: Path) -> None:
    others = "  others: {kind: ingest, source: {kind: scenes, count: 16, size: 48}}\n"
    text = SCENES + others + f"  teacher: {{kind: pretrain, dataset: raw, method: {METHOD}, encoder: {VIT}, watch: {{dataset: others, protocols: [knn]}}}}\n"
    without = plan(f"  teacher: {{kind: pretrain, dataset: raw, method: {METHOD}, encoder: {VIT}}}\n", tmp_path)
    pipeline = loads(text)
    assert list(pipeline.parents("teacher")) == ["raw", "others"]
    both = make_plan(pipeline, tmp_path, {"raw": "scenes", "others": "scenes"})
    assert both.stages["teacher"].key == without.stages["teacher"].key


def test_the_last_point_is_of_the_encoder_that_is_handed_over(watched: Artifact, tmp_path: Path) -> None:
    """The same numbers come out when the sealed weights are judged again."""
    assert isinstance(watched, Checkpoint)
    folder = tmp_path / "watch"
    snapshot = folder / "step-000000099"
    snapshot.mkdir(parents=True)
    workspace = watched.folder.parents[2]
    planned = teacher(workspace, WATCHED)
    (folder / "job.json").write_text(planned.job(planned.stages["teacher"]).model_dump_json())
    (snapshot / "encoder.json").write_text(json.dumps({"step": 99, "encoder": watched.encoder.model_dump(mode="json"), "dim": watched.dim}))
    (snapshot / "model.safetensors").write_bytes(watched.path("model.safetensors").read_bytes())
    again = {line["measure"]: line["value"] for line in Watcher(folder).judge(snapshot) if "note" not in line}
    last = max(number["step"] for number in lines(watched, "watch.jsonl"))
    assert again == {number["measure"]: number["value"] for number in lines(watched, "watch.jsonl") if number["step"] == last}
    assert load_encoder(watched).dim == watched.dim


@pytest.mark.usefixtures("watched")
def test_a_protocol_that_says_nothing_of_an_encoder_is_noted_once(told: Recorder) -> None:
    assert [note for note in told.notes if "accuracy" in note] == ["watch: accuracy gives no number: the encoder is no classifier"]


@pytest.mark.parametrize("end", ["cannot be started", "dies"])
def test_a_watcher_that_fails_never_fails_the_training(end: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "none" if end == "cannot be started" else tmp_path / "dying"
    if end == "dies":
        program.write_text("#!/bin/sh\necho out of luck >&2\nexit 3\n")
        program.chmod(0o755)
    monkeypatch.setattr(watching.sys, "executable", str(program))
    told = Recorder()
    artifact = made(teacher(tmp_path, WATCHED), tracker=told)["teacher"]
    assert "watch.jsonl" not in artifact.files
    assert len([note for note in told.notes if note.startswith("watch: the encoder is judged no further, the training goes on")]) == 1


def test_what_is_not_judged_in_time_is_left_out_with_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = tmp_path / "slow"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    monkeypatch.setattr(watching.sys, "executable", str(slow))
    monkeypatch.setattr(watching, "PATIENCE", 0.3)
    told = Recorder()
    made(teacher(tmp_path, WATCHED), tracker=told)
    assert any("were not judged in time" in note for note in told.notes)


def test_a_training_that_is_interrupted_leaves_no_watcher_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[watching.Watching] = []
    begin = watching.Watching.begin

    def remembered(self: watching.Watching, learner: object) -> None:
        begin(self, learner)  # type: ignore[arg-type]
        begun.append(self)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(watching.Watching, "begin", remembered)
    planned = teacher(tmp_path, WATCHED)
    made(planned, "raw")
    with pytest.raises(KeyboardInterrupt):
        run(planned.job(planned.stages["teacher"]), Recorder())
    watcher = begun[0]._watcher
    assert watcher
    assert watcher.poll() is not None


def test_a_sample_takes_so_many_of_each_split_and_is_the_same_each_time() -> None:
    import pyarrow as pa

    table = pa.table({"id": [str(i) for i in range(100)], "split": ["train"] * 80 + ["test"] * 20})
    taken = sample(table, 30, seed=5)
    parts = taken["split"].to_pylist()
    assert (parts.count("train"), parts.count("test")) == (30, 20)
    assert taken.equals(sample(table, 30, seed=5))
    assert np.all(np.diff([int(i) for i in taken["id"].to_pylist()]) > 0)


def _trained_on_a_rank(workspace: Path) -> None:
    sharded = TRAIN.replace("{", "{sharding: fsdp, ", 1)
    text = f"  teacher: {{kind: pretrain, dataset: raw, method: {METHOD}, encoder: {VIT}, train: {sharded}{WATCHED}}}\n"
    planned = plan(text, workspace)
    run(planned.job(planned.stages["teacher"]), Recorder())


@pytest.mark.slow
def test_an_encoder_that_lies_in_parts_on_two_ranks_is_watched_as_a_whole(tmp_path: Path) -> None:
    made(teacher(tmp_path), "raw")
    ranks(2, _trained_on_a_rank, tmp_path, seconds=240)
    planned = teacher(tmp_path, WATCHED)
    (artifact,) = planned.artifacts(planned.stages["teacher"]).values()
    found = lines(artifact, "watch.jsonl")
    assert len({number["step"] for number in found if number["measure"] == "knn"}) == 4

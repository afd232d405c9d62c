"""A student that runs out of memory, wherever it does, ends alone: at once where it can, or at the next try of ranks that share each batch."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from passes import PEERS, one_pass, student
from test_distill import DISTILLER, NARROW, VIEWS, job, teach, workspace  # noqa: F401  # a fixture
from tiny_training import CONV, TRAIN, VIT, Brightness, Recorder, ranks, stripes, weights
from torch import Tensor

from schemas.distillers import DML as DMLConfig
from schemas.distillers import Feature
from schemas.errors import TryAgain, UserError
from schemas.resources import Resources
from schemas.stages import Distill
from schemas.students import Student
from schemas.training import Train
from ssl_tasks import distributed, optimizers
from ssl_tasks.checkpoints import load
from ssl_tasks.distill.features.feature import Feature as FeatureObjective
from ssl_tasks.distill.network import Seen
from ssl_tasks.distill.objective import Lesson, Setting
from ssl_tasks.distill.objectives import OBJECTIVES
from ssl_tasks.distill.online.dml import DML
from ssl_tasks.learner import Learner
from ssl_tasks.memory import RECORD, OutOfMemory, keep, kept
from ssl_tasks.method import Method, Terms
from ssl_tasks.train import Seat, fit, fit_together
from workflows.engine.launch import StageDied, launch
from workflows.engine.launch import made as sealed


def full(*_: Any, **__: Any) -> NoReturn:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


class Unmovable(Brightness):
    """Finds no place on its device."""

    def to(self, *_: Any, **__: Any) -> NoReturn:
        full()


class Listening(Brightness):
    """Takes what is handed to all, and needs nothing of it."""

    def forward(self, views: list[Tensor], targets: None, progress: float) -> Terms:  # type: ignore[override]  # the loop hands targets on
        return super().forward(views, progress)


def trained(methods: Mapping[str, Method], workdir: Path, tracker: Recorder | None = None, **settings: Any) -> dict[str, Learner]:
    return fit_together(methods, stripes()[0], TRAIN, seed=0, workdir=workdir, tracker=tracker or Recorder(), **settings)


def sound() -> Brightness:
    torch.manual_seed(0)
    return Brightness()


def unbuildable(monkeypatch: pytest.MonkeyPatch, _: Path) -> Brightness:
    """A method for whose optimizer the memory does not suffice."""
    method, build = Brightness(), optimizers.build
    monkeypatch.setattr(optimizers, "build", lambda config, asked: full() if asked is method else build(config, asked))
    return method


def unresumable(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Brightness:
    """A method that has a checkpoint for which the memory does not suffice."""
    trained({"full": Brightness(), "other": sound()}, folder)
    method = Brightness()
    monkeypatch.setattr(method, "load_state_dict", full)
    return method


@pytest.mark.parametrize("make", [lambda *_: Unmovable(), unbuildable, unresumable], ids=["on its way to the device", "its optimizer", "its resume"])
def test_one_without_memory_before_its_first_step_ends_and_the_others_do_not(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[pytest.MonkeyPatch, Path], Brightness],
) -> None:
    alone = trained({"sound": sound()}, tmp_path / "alone")["sound"]
    tracker = Recorder()
    learners = trained({"full": make(monkeypatch, tmp_path / "both"), "sound": sound()}, tmp_path / "both", tracker)
    assert isinstance(learners["full"].failure, OutOfMemory)
    assert weights(learners["sound"].method) == weights(alone.method)
    assert any(note.startswith("full ends at step 0, the others go on: out of memory") for note in tracker.notes)


def test_the_only_one_without_memory_is_the_training_s_error(tmp_path: Path) -> None:
    with pytest.raises(OutOfMemory, match=r"^out of memory at step 1 with 16 images a step: "):
        fit(Unmovable(), stripes()[0], TRAIN, seed=0, workdir=tmp_path, tracker=Recorder())


def test_what_all_learn_from_is_nobody_s_failure_but_the_stage_s(tmp_path: Path) -> None:
    """Such as a teacher's forward: the line blames no student, and advises what relieves a teacher."""

    def targets(_: list[Tensor], seat: Seat) -> None:
        if seat.step == 2:
            full()

    methods = {"spoilt": Listening(spoil_at=1), "sound": Listening()}
    with pytest.raises(OutOfMemory) as raised:
        trained(methods, tmp_path, targets=targets)
    assert str(raised.value) == (
        "out of memory at step 3 with 16 images a step, in what all learn from: set train.batch_size to 8 or less, which starts it again"
    )


def test_spread_it_is_one_rank_s(tmp_path: Path) -> None:
    ranks(2, _unmovable_when_spread, tmp_path)
    told = {name: failure for rank in (0, 1) for name, failure in json.loads((tmp_path / f"told{rank}").read_text()).items()}
    assert told == {"full": "out of memory at step 1", "sound": "20 steps", "other": "20 steps"}


def _unmovable_when_spread(folder: Path) -> None:
    learners = trained({"full": Unmovable(), "sound": sound(), "other": sound()}, folder, spread={"full": 3.0, "sound": 2.0, "other": 1.0})
    told = {name: str(each.failure).partition(" with")[0] if each.failure else f"{each.done} steps" for name, each in learners.items()}
    (folder / f"told{distributed.rank()}").write_text(json.dumps(told))


class Falling(FeatureObjective):
    """Runs out of memory on rank 1, in the third step of the narrow student."""

    def __init__(self, config: Feature, setting: Setting) -> None:
        super().__init__(config, setting)
        self.is_narrow = setting.network.encoder.config == NARROW

    def forward(self, student: Seen, lesson: Lesson, progress: float) -> Terms:
        if self.is_narrow and round(progress * 16) == 2 and os.environ.get("RANK") == "1":
            full()
        return super().forward(student, lesson, progress)


class FallingPeer(DML):
    """Runs out of memory on rank 1, in the fifth of 12 steps of the narrow peer."""

    def __init__(self, config: DMLConfig, setting: Setting) -> None:
        super().__init__(config, setting)
        self.is_narrow = setting.network.encoder.config == NARROW

    def forward(self, student: Seen, lesson: Lesson, progress: float) -> Terms:
        if self.is_narrow and round(progress * 12) == 4 and os.environ.get("RANK") == "1":
            full()
        return super().forward(student, lesson, progress)


THREE = {"small": student(NARROW, checkpoint_steps=2), "vit": student(VIT, checkpoint_steps=2), "wide": student(CONV, checkpoint_steps=2)}


def _try(workspace: Path, run: str, students: dict[str, Student], falls: bool = True) -> None:  # noqa: F811
    """A try of one of the ranks; how it ended is left in the workspace."""
    if falls:
        OBJECTIVES.update({type(DISTILLER): Falling, DMLConfig: FallingPeer})
    tracker = Recorder()
    try:
        ended = ", ".join(one_pass(workspace, students, run, tracker))
    except (UserError, TryAgain, RuntimeError) as error:
        ended = f"{type(error).__name__}: {error}"
    (workspace / f"told{os.environ['RANK']}").write_text(json.dumps([ended, tracker.notes]))


def told(workspace: Path, rank: int) -> tuple[str, list[str]]:  # noqa: F811
    ended, notes = json.loads((workspace / f"told{rank}").read_text())
    return ended, notes


def made(workspace: Path, key: str) -> dict[str, bytes]:  # noqa: F811
    return weights(load(workspace / ".sslflow/artifacts" / key).encoder)


def records(workspace: Path) -> list[str]:  # noqa: F811
    return [path.parent.name for path in (workspace / ".sslflow/work").glob(f"*/checkpoints/*/{RECORD}*")]


def test_the_next_try_of_ranks_that_share_batches_leaves_it_out_and_makes_the_others(workspace: Path) -> None:  # noqa: F811
    teach(workspace)
    ranks(2, _try, workspace, "whole", {name: THREE[name] for name in ("vit", "wide")}, False)
    ranks(2, _try, workspace, "cut", THREE)
    ended, _ = told(workspace, 1)
    assert ended.startswith("TryAgain: small ended on one of 2 devices; the others go on from their checkpoints at the next try, or where none is left ")
    assert "out of memory at step 3 with 16 images a step" in ended
    assert records(workspace) == ["small"]
    assert not list((workspace / ".sslflow/artifacts").glob("cut-*"))

    ranks(2, _try, workspace, "cut", THREE)
    for rank in (0, 1):
        assert told(workspace, rank)[0].startswith("UserError: student 'small' failed: out of memory at step 3 with 16 images a step")
    notes = told(workspace, 0)[1]
    assert any(note.startswith("small is left out, the others go on: out of memory at step 3") for note in notes)
    assert {note for note in notes if ": goes on from step" in note} == {"vit: goes on from step 2", "wide: goes on from step 2"}
    assert sorted(path.name for path in (workspace / ".sslflow/artifacts").glob("cut-*")) == ["cut-vit", "cut-wide"]
    for name in ("vit", "wide"):
        assert made(workspace, f"cut-{name}") == made(workspace, f"whole-{name}")
    assert records(workspace) == []

    ranks(2, _try, workspace, "cut", {"small": THREE["small"]}, False)
    assert told(workspace, 0)[0] == "small", "a later run tries it again"
    assert "small: goes on from step 2" in told(workspace, 0)[1]


def test_peers_go_on_beside_one_that_is_left_out(workspace: Path) -> None:  # noqa: F811
    for ended in ("TryAgain: one ended on one of 2 devices", "UserError: student 'one' failed: out of memory at step 5"):
        ranks(2, _try, workspace, "peers", PEERS)
        assert told(workspace, 1)[0].startswith(ended)
    assert "other: goes on from step 3" in told(workspace, 0)[1]
    assert [path.name for path in (workspace / ".sslflow/artifacts").glob("peers-*")] == ["peers-other"]


class FallingOnOne(Brightness):
    """Runs out of memory on rank 1, in a step from 1."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.step = step

    def forward(self, views: list[Tensor], progress: float) -> Terms:
        if distributed.rank() == 1 and round(progress * 20) == self.step - 1:
            full()
        return super().forward(views, progress)


class Peer(FallingOnOne):
    cohort = "peers"


def test_a_peer_that_is_left_out_has_the_weights_of_its_last_checkpoint_for_others_to_look_at(tmp_path: Path) -> None:
    ranks(2, _peer_falls, tmp_path)
    state = torch.load(tmp_path / "checkpoints/falls/step-000000005.pt")["method"]
    assert not (tmp_path / "ended0").exists()
    ranks(2, _peer_falls, tmp_path)
    for rank in (0, 1):
        seen, done = torch.load(tmp_path / f"ended{rank}")
        assert done == {"falls": 5, "goes on": 20}
        assert all(torch.equal(seen[name], value) for name, value in state.items())


def _peer_falls(folder: Path) -> None:
    try:
        learners = trained({"falls": Peer(7), "goes on": Peer(0)}, folder)
    except (TryAgain, RuntimeError):
        return
    ended = (learners["falls"].method.state_dict(), {name: each.done for name, each in learners.items()})
    torch.save(ended, folder / f"ended{distributed.rank()}")


def test_each_try_leaves_out_one_more_until_all_are_told(tmp_path: Path) -> None:
    for ended in ("first ended on one of 2 devices", "second ended on one of 2 devices", "out of memory, out of memory"):
        ranks(2, _two_fall, tmp_path)
        assert (tmp_path / "ended").read_text().startswith(ended)


def _two_fall(folder: Path) -> None:
    try:
        learners = trained({"first": FallingOnOne(1), "second": FallingOnOne(1)}, folder)
        ended = ", ".join(str(each.failure).partition(" at")[0] for each in learners.values())
    except (TryAgain, RuntimeError, UserError) as error:
        ended = str(error)
    if distributed.rank() == 1:
        (folder / "ended").write_text(ended)


def test_a_disk_that_takes_no_checkpoint_of_one_ends_all_on_ranks_that_share_batches(tmp_path: Path) -> None:
    """Only the rank that writes learns of it: the others would go on with that one, and wait for ever."""
    (tmp_path / "checkpoints/full/step-000000005.pt/taken").mkdir(parents=True)
    ranks(2, _train_two, tmp_path)
    assert (tmp_path / "ended0").read_text().startswith(f"cannot write {tmp_path}/checkpoints/full/step-000000005.pt (")


def _train_two(folder: Path) -> None:
    try:
        trained({"full": Brightness(), "other": sound()}, folder)
    except (UserError, RuntimeError) as error:
        (folder / f"ended{distributed.rank()}").write_text(str(error))


@pytest.mark.parametrize(("changed", "count", "stands"), [({}, 2, True), ({"accumulate": 2}, 2, False), ({}, 4, False)], ids=["", "config", "ranks"])
def test_it_is_left_out_only_while_nothing_has_changed(tmp_path: Path, changed: dict[str, int], count: int, stands: bool) -> None:
    keep(tmp_path, OutOfMemory("full"), Train(), 2, 1)
    found = kept(tmp_path, Train().model_copy(update=changed), count)
    assert (str(found) if found else None) == ("full" if stands else None)


def test_a_record_that_is_damaged_leaves_nobody_out(tmp_path: Path) -> None:
    (tmp_path / RECORD).write_text('{"message": "cut sh')
    assert kept(tmp_path, Train(), 2) is None


FALLS = """
import os
if os.environ.get("RANK") == "1":
    import torch
    from ssl_tasks.distill.student import Student
    forward = Student.forward
    def falling(student, views, lesson, progress):
        if student.network.encoder.config.options.get("layers") == [1] and round(progress * 16) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return forward(student, views, lesson, progress)
    Student.forward = falling
"""
"""Put in front of what a process does: rank 1 runs out of memory in the third step of the narrow student."""


@pytest.mark.slow
def test_a_stage_of_two_processes_ends_twice_first_to_be_tried_again_and_then_for_good(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    teach(workspace)
    (workspace / "patch").mkdir()
    (workspace / "patch/sitecustomize.py").write_text(FALLS)
    monkeypatch.setenv("PYTHONPATH", str(workspace / "patch"))
    stage = Distill(
        dataset="data", teacher="teacher", method=DISTILLER, students=THREE, views=VIEWS, train=TRAIN, seed=5, resources=Resources(pool="local", devices=2)
    )
    asked = job(workspace, "students", stage, {"data": "data", "teacher": "teacher"}, {name: f"sealed-{name}" for name in THREE})
    with pytest.raises(StageDied, match=r"^small ended on one of 2 devices; the others go on from their checkpoints at the next try"):
        launch(asked, on_event=lambda _: None)
    with pytest.raises(UserError, match=r"^student 'small' failed: out of memory at step 3 with 16 images a step: "):
        launch(asked, on_event=lambda _: None)
    assert set(sealed(asked)) == {"vit", "wide"}
    assert records(workspace) == []

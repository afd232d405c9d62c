"""Many students in one pass over a teacher: each ends as if it were the only one, whenever it ends and whatever happens to the others."""

import random
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from passes import PEERS, UNLIKE, one_pass, results, student
from test_distill import DISTILLER, NARROW, teach, workspace  # noqa: F401  # a fixture
from tiny_training import TRAIN, VIT, Brightness, Recorder, process, ranks, stripes, weights
from torch import Tensor

from schemas.errors import UserError
from ssl_tasks import distributed
from ssl_tasks.distill.network import Seen
from ssl_tasks.distill.teacher import FrozenTeacher
from ssl_tasks.memory import OutOfMemory
from ssl_tasks.method import Terms
from ssl_tasks.train import fit_together


def test_students_of_other_losses_sizes_optimizers_and_budgets_share_one_teacher_forward_a_batch(
    workspace: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    teach(workspace)
    asked = []
    answer = FrozenTeacher.__call__

    def counting(teacher: FrozenTeacher, views: list[Tensor]) -> Seen:
        asked.append(len(views[0]))
        return answer(teacher, views)

    monkeypatch.setattr(FrozenTeacher, "__call__", counting)
    tracker = Recorder()
    made = one_pass(workspace, UNLIKE, "together", tracker)
    assert asked == [16] * 16, "one a step of the longest training"
    assert {name: artifact.metrics["images_seen"] for name, artifact in made.items()} == {"vit": 256, "short": 128, "large": 192}
    assert made["large"].encoder.image_size == 12
    assert {tracker.facts[f"{name}/peak_learning_rate"] for name in UNLIKE} == {5e-4, 0.01}


def test_a_student_ends_with_the_bytes_and_the_curve_that_it_has_alone_whatever_the_others_budgets(workspace: Path) -> None:  # noqa: F811
    teach(workspace)
    together = results(one_pass(workspace, UNLIKE, "together"))
    alone = {name: results(one_pass(workspace, {name: each}, f"alone-{name}"))[name] for name, each in UNLIKE.items()}
    assert together == alone
    assert len({sha256 for sha256, _ in together.values()}) == 3


def test_each_student_has_looks_of_its_own_at_shares_of_its_own_budget(workspace: Path) -> None:  # noqa: F811
    teach(workspace)
    tracker = Recorder()
    one_pass(workspace, UNLIKE, "a", tracker)
    looked = {name: [step for step, values in tracker.points if f"{name}/monitor/knn" in values] for name in UNLIKE}
    assert looked == {"vit": [0, 1, 2, 4, 8, 12, 16], "short": [0, 1, 2, 4, 6, 8], "large": [0, 1, 3, 6, 9, 12]}


def test_progress_counts_the_steps_of_those_that_still_train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The longest fails: the display ends where the other does."""
    monkeypatch.setattr("ssl_tasks.train.SHOWN_EVERY", 0.0)
    tracker = Recorder()
    configs = {"long": TRAIN, "short": TRAIN.model_copy(update={"epochs": 2.0})}
    fit_together({"long": Brightness(spoil_at=4), "short": Brightness()}, stripes()[0], configs, seed=0, workdir=tmp_path, tracker=tracker)
    assert [(step, steps) for step, steps, _ in tracker.shown] == [(n, 20) for n in (1, 2, 3)] + [(n, 10) for n in range(4, 11)]


class Full(Brightness):
    """Runs out of memory in its third step, with gradients of the second."""

    def forward(self, views: list[Tensor], progress: float) -> Terms:
        if sum(name == "forward" for name, _ in self.calls) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return super().forward(views, progress)


def test_a_student_without_memory_is_freed_and_the_others_end_as_without_it(tmp_path: Path) -> None:
    torch.manual_seed(0)
    alone = fit_together({"sound": Brightness()}, stripes()[0], TRAIN, seed=0, workdir=tmp_path / "alone", tracker=Recorder())
    torch.manual_seed(0)
    methods = {"sound": Brightness(), "full": Full()}
    learners = fit_together(methods, stripes()[0], TRAIN, seed=0, workdir=tmp_path / "both", tracker=Recorder())
    full = learners["full"]
    assert isinstance(full.failure, OutOfMemory)
    assert full.done == 2
    assert not full.optimizer.state
    assert all(parameter.grad is None for parameter in full.method.parameters())
    assert weights(learners["sound"].method) == weights(alone["sound"].method)


def test_ranks_that_all_see_a_loss_that_is_not_finite_go_on_with_the_others(tmp_path: Path) -> None:
    ranks(2, _spoil_one, tmp_path)
    for rank in (0, 1):
        assert (tmp_path / f"ended{rank}").read_text() == "spoilt: loss term 'spoilt' is nan at step 4, sound: 20 steps"


def _spoil_one(folder: Path) -> None:
    methods = {"spoilt": Brightness(spoil_at=4), "sound": Brightness()}
    learners = fit_together(methods, stripes()[0], TRAIN, seed=0, workdir=folder, tracker=Recorder())
    failure = str(learners["spoilt"].failure).partition(": lower")[0]
    (folder / f"ended{distributed.rank()}").write_text(f"{failure}, sound: {learners['sound'].done} steps")


class Watching(Brightness):
    """Notes at each step whether another method holds gradients."""

    def __init__(self, other: Brightness) -> None:
        super().__init__()
        self.seen: list[bool] = []
        self.other = [other]

    def forward(self, views: list[Tensor], progress: float) -> Terms:
        self.seen.append(any(parameter.grad is not None for parameter in self.other[0].parameters()))
        return super().forward(views, progress)


def test_a_student_that_has_ended_holds_no_gradients_while_others_train(tmp_path: Path) -> None:
    short = Brightness()
    methods = {"long": Watching(short), "short": short}
    configs = {"long": TRAIN, "short": TRAIN.model_copy(update={"epochs": 1.0})}
    learners = fit_together(methods, stripes()[0], configs, seed=0, workdir=tmp_path, tracker=Recorder())
    assert methods["long"].seen == [False] + [True] * 4 + [False] * 15
    assert not learners["short"].optimizer.state


def test_a_failure_keeps_no_tensors_of_its_step(tmp_path: Path) -> None:
    class Wrong(Brightness):
        def forward(self, views: list[Tensor], progress: float) -> Terms:
            large = views[0]
            raise ValueError(f"no such thing as {large.shape}")

    learners = fit_together({"wrong": Wrong(), "sound": Brightness()}, stripes()[0], TRAIN, seed=0, workdir=tmp_path, tracker=Recorder())
    failure = learners["wrong"].failure
    assert isinstance(failure, ValueError)
    trace: Any = failure.__traceback__
    held = []
    while trace:
        held += [value for value in trace.tb_frame.f_locals.values() if isinstance(value, Tensor)]
        trace = trace.tb_next
    assert not any(tensor.shape == (16, 100) for tensor in held)


class _Steps(Recorder):
    """Appends a line a step of any student to a file."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.file = file

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        if any(name.endswith("train/loss") for name in values):
            with self.file.open("a") as file:
                file.write(f"{step}\n")


def _study(workspace: Path, run: str) -> None:  # noqa: F811
    one_pass(workspace, UNLIKE | PEERS, run, _Steps(workspace / "steps"))


@pytest.mark.slow
def test_a_pass_killed_again_and_again_ends_with_the_bytes_of_one_that_was_not(workspace: Path) -> None:  # noqa: F811
    """Students of four methods and three budgets, of which two look at each other and keep checkpoints at steps of their own."""
    teach(workspace)
    expected = results(one_pass(workspace, UNLIKE | PEERS, "whole"))
    rng = random.Random(0)
    for _ in range(4):
        child = process(_study, workspace, "killed")
        _wait_for_lines(workspace / "steps", rng.randint(8, 30), child)
        time.sleep(rng.uniform(0, 0.02))
        child.kill()
        child.join(60)
        assert child.exitcode in (-signal.SIGKILL, 0)
    assert results(one_pass(workspace, UNLIKE | PEERS, "killed")) == expected


def _wait_for_lines(file: Path, count: int, child: Any) -> None:
    start = len(file.read_text().splitlines()) if file.exists() else 0
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and child.exitcode is None and (not file.exists() or len(file.read_text().splitlines()) < start + count):
        time.sleep(0.002)


class _Interrupting(Recorder):
    """Ends the process in the middle of a step, so that the checkpoints before it are what is left."""

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        if step == 11 and any(name.startswith("other/train") for name in values):
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("lost", "notes"),
    [
        ((), {"one: goes on from step 9", "other: goes on from step 9"}),
        (("other/step-000000009.pt",), {"one: goes on from step 6", "other: goes on from step 6"}),
        (("other/step-000000009.pt", "one/step-000000006.pt"), set[str]()),
    ],
    ids=["nothing lost", "one newest lost", "none in common"],
)
def test_peers_go_on_from_the_newest_step_that_all_of_them_have(workspace: Path, lost: tuple[str, ...], notes: set[str]) -> None:  # noqa: F811
    """They save together, at the shortest interval of any."""
    expected = results(one_pass(workspace, PEERS, "whole"))
    with pytest.raises(KeyboardInterrupt):
        one_pass(workspace, PEERS, "cut", _Interrupting())
    checkpoints = workspace / ".sslflow/work/students-cut-work/checkpoints"
    assert sorted(path.name for path in checkpoints.glob("o*/step-*")) == ["step-000000006.pt"] * 2 + ["step-000000009.pt"] * 2
    for name in lost:
        (checkpoints / name).unlink()
    tracker = Recorder()
    assert results(one_pass(workspace, PEERS, "cut", tracker)) == expected
    assert {note for note in tracker.notes if "goes on" in note} == notes


def test_peers_go_on_beside_one_that_had_ended_before(workspace: Path) -> None:  # noqa: F811
    expected = results(one_pass(workspace, PEERS, "whole"))

    class Late(Recorder):
        def metrics(self, values: Mapping[str, float], step: int) -> None:
            if step == 16:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        one_pass(workspace, PEERS, "cut", Late())
    tracker = Recorder()
    assert results(one_pass(workspace, PEERS, "cut", tracker)) == expected
    assert {note for note in tracker.notes if "goes on" in note} == {"one: goes on from step 12", "other: goes on from step 15"}


def test_all_failures_are_told_at_once_and_what_did_not_fail_is_sealed(workspace: Path) -> None:  # noqa: F811
    teach(workspace)
    wild = {"learning_rate": 1e30, "kind": "adamw"}
    students = {"wild": student(VIT, optimizer=wild), "wilder": student(NARROW, optimizer=wild), "sound": student(NARROW)}
    with pytest.raises(UserError, match=r"student 'wild' failed: .*; student 'wilder' failed: "):
        one_pass(workspace, students, "mixed")
    assert [path.name for path in (workspace / ".sslflow/artifacts").glob("mixed-*")] == ["mixed-sound"]
    assert DISTILLER in students["sound"].methods

"""Spread: with several ranks each student is one rank's, and ends as it does in a single process; what all share is computed by all."""

import os
import signal
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from passes import PEERS, UNLIKE, one_pass, results, student
from small_methods import CASES, inputs, members
from test_distill import DISTILLER, NARROW, teach, workspace  # noqa: F401  # a fixture
from tiny_training import CONV, TRAIN, VIT, Brightness, Recorder, ranks, stripes, weights
from torch import Tensor

from schemas.artifacts import Checkpoint
from schemas.distillers import AttentionTransfer, Distiller, Feature
from schemas.students import Student
from schemas.training import SGD
from ssl_tasks import distributed
from ssl_tasks.checkpoints import load
from ssl_tasks.data.draw import Draw
from ssl_tasks.distill.features.feature import Feature as FeatureObjective
from ssl_tasks.distill.network import Seen
from ssl_tasks.distill.objective import Lesson, Setting
from ssl_tasks.distill.objectives import OBJECTIVES
from ssl_tasks.distill.teacher import FrozenTeacher
from ssl_tasks.method import Method, Terms
from ssl_tasks.ranks import shared_out
from ssl_tasks.train import Seat, fit_together

SPREAD: dict[str, Any] = {"spread": True}


class _Cohort(Brightness):
    cohort = "peers"


@pytest.mark.parametrize(
    ("costs", "expected"),
    [
        ({"a": 4.0, "b": 3.0, "c": 2.0, "d": 1.0}, {"a": 0, "b": 1, "c": 1, "d": 0}),
        ({"a": 1.0, "b": 1.0, "c": 5.0}, {"c": 0, "a": 1, "b": 1}),
        ({"a": 1.0}, {"a": 0}),
    ],
)
def test_the_dearest_go_first_each_to_the_rank_with_least_to_do(monkeypatch: pytest.MonkeyPatch, costs: dict[str, float], expected: dict[str, int]) -> None:
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    assert shared_out(costs, {name: Brightness() for name in costs}) == expected


def test_those_that_look_at_each_other_stay_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    methods = {"one": _Cohort(), "dear": Brightness(), "other": _Cohort()}
    assert shared_out({"one": 2.0, "dear": 3.0, "other": 2.0}, methods) == {"one": 0, "other": 0, "dear": 1}


EXACT = TRAIN.model_copy(update={"epochs": 1.0, "optimizer": SGD(learning_rate=0.05), "monitors": 1})
SPREAD_CASES = ["distill-feature-vit", "distill-rkd-convnet", "distill-hinton-convnet", "distill-seed-vit", "distill-dml-convnet"]
"""Methods of each kind: of features, of relations in the batch, of scores with batch norms, with a queue, with peers."""


def _in_float64(workdir: Path) -> dict[str, Any]:
    """A few steps of several students in float64 on batches of 16; what those of this rank came to."""
    spread = distributed.world_size() > 1
    methods: dict[str, Method] = {name: CASES[name].make().double() for name in SPREAD_CASES}
    first = next(iter(methods.values()))

    def views(images: Tensor, draw: Draw) -> list[Tensor]:
        return [distributed.gather(view.double()) for view in CASES["distill-dinov2-vit"].make().views(images, draw)]

    def targets(made: list[Tensor], seat: Seat) -> Lesson:
        own = seat.own if spread else slice(None)
        lesson: Lesson = inputs(first, [view[own] for view in made], seat.own, seat.step)[1]
        assert lesson.teacher
        teacher = {name: distributed.gather(getattr(lesson.teacher, name)) for name in ("pooled", "places", "logits")}
        taps = {path: distributed.gather(value) for path, value in lesson.teacher.taps.items()}
        rows, labels = distributed.gather(lesson.rows), distributed.gather(lesson.labels)
        return replace(lesson, teacher=Seen(**teacher, taps=taps), views=made, rows=rows, labels=labels, own=slice(0, seat.samples))

    costs = {name: float(i) for i, name in enumerate(methods)} if spread else None
    images = stripes(80, 18)[0]
    learners = fit_together(methods, images, EXACT, seed=3, workdir=workdir, tracker=Recorder(), views=views, targets=targets, spread=costs)
    return {name: ({key: value.clone() for key, value in learner.method.state_dict().items()}, learner.curve) for name, learner in learners.items()}


def _keep_float64(folder: Path) -> None:
    torch.save(_in_float64(folder / "work"), folder / f"{distributed.rank()}.pt")


@pytest.mark.slow
def test_two_ranks_train_each_student_as_one_process_does(tmp_path: Path) -> None:
    expected = _in_float64(tmp_path / "alone")
    ranks(2, _keep_float64, tmp_path)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    assert set(first) | set(second) == set(SPREAD_CASES)
    assert not set(first) & set(second)
    assert first
    assert second
    torch.testing.assert_close(first | second, expected, rtol=1e-8, atol=1e-8)


def test_cases_are_of_the_union() -> None:
    assert {name.split("-")[1] for name in SPREAD_CASES} <= {member.model_fields["kind"].default for member in members(Distiller)}


SHARED = UNLIKE | {"mapped": student(VIT, [Feature(places=1.0), AttentionTransfer(beta=1.0)])} | PEERS
SLOW = SGD(learning_rate=0.005)
GENTLE = {name: each.model_copy(update={"train": (each.train or TRAIN).model_copy(update={"optimizer": SLOW})}) for name, each in SHARED.items()}
"""Adam would blow up the rounding by which a teacher's answer to half a batch may differ from that to the whole one."""


def _pass(workspace: Path, students: dict[str, Student], run: str, tracker: Recorder | None = None, **fields: Any) -> None:  # noqa: F811
    """What one of the ranks does; the artifacts and what it told are left in the workspace."""
    tracker = tracker or Recorder()
    try:
        made: Any = list(one_pass(workspace, students, run, tracker, **SPREAD, **fields))
    except (Exception, KeyboardInterrupt, SystemExit) as raised:
        made = f"{type(raised).__name__}: {raised}"
        if not isinstance(raised, (RuntimeError, KeyboardInterrupt, SystemExit)):
            traceback.print_exc()
    torch.save({"made": made, "facts": tracker.facts, "points": tracker.points, "notes": tracker.notes}, workspace / f"told{os.environ['RANK']}.pt")


def told(workspace: Path, rank: int) -> dict[str, Any]:  # noqa: F811
    found: dict[str, Any] = torch.load(workspace / f"told{rank}.pt")
    return found


def embedded(workspace: Path, key: str) -> Tensor:  # noqa: F811
    model = load(workspace / ".sslflow/artifacts" / key)
    return model.embed([workspace / f"images/{i}.png" for i in (70, 71, 72)])


@pytest.mark.slow
@pytest.mark.parametrize("fields", [{}, {"teacher_cache": True}], ids=["", "with a cache"])
def test_a_stage_spread_over_two_ranks_seals_what_one_process_seals(workspace: Path, fields: dict[str, Any]) -> None:  # noqa: F811
    teach(workspace)
    ranks(2, _spread_all, workspace, fields)
    alone = one_pass(workspace, GENTLE, "alone", **fields)
    main, other = told(workspace, 0), told(workspace, 1)
    assert main["made"] == list(GENTLE), "the main rank returns all, in the order of the config"
    assert other["made"] == []
    recorded = {name for _, values in main["points"] for name in values}
    assert {f"{name}/train/loss" for name in GENTLE} | {f"{name}/monitor/knn" for name in GENTLE} <= recorded, "the main rank hears of all"
    for name, artifact in alone.items():
        torch.testing.assert_close(embedded(workspace, f"spread-{name}"), embedded(workspace, artifact.key), rtol=1e-3, atol=1e-4, msg=name)
    if fields:
        assert len(list((workspace / ".sslflow/cache/teacher").rglob("*.npz"))) == 2 * 16 + 16


def _spread_all(workspace: Path, fields: dict[str, Any]) -> None:  # noqa: F811
    _pass(workspace, GENTLE, "spread", **fields)


def test_each_rank_asks_the_teacher_of_its_share_alone(workspace: Path) -> None:  # noqa: F811
    teach(workspace)
    ranks(2, _count_asked, workspace)
    assert [(workspace / f"asked{rank}").read_text() for rank in (0, 1)] == [repr([8] * 16)] * 2


def _count_asked(workspace: Path) -> None:  # noqa: F811
    asked: list[int] = []
    answer: Callable[..., Seen] = FrozenTeacher.__call__

    def counting(teacher: FrozenTeacher, views: list[Tensor]) -> Seen:
        asked.append(len(views[0]))
        return answer(teacher, views)

    FrozenTeacher.__call__ = counting  # type: ignore[method-assign]  # put back below
    try:
        _pass(workspace, {"small": student(NARROW), "vit": student(VIT)}, "spread")
    finally:
        FrozenTeacher.__call__ = answer  # type: ignore[method-assign]  # likewise
    (workspace / f"asked{os.environ['RANK']}").write_text(repr(asked))


class Falling(FeatureObjective):
    """Runs out of memory in the third step of the narrow student."""

    def __init__(self, config: Feature, setting: Setting) -> None:
        super().__init__(config, setting)
        self.is_narrow = setting.network.encoder.config == NARROW

    def forward(self, student: Seen, lesson: Lesson, progress: float) -> Terms:
        if self.is_narrow and round(progress * 16) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return super().forward(student, lesson, progress)


THREE = {"small": student(NARROW), "vit": student(VIT), "wide": student(CONV)}


def test_a_failure_is_one_rank_s_and_the_others_go_on(workspace: Path) -> None:  # noqa: F811
    """Out of memory, which data-parallel ranks cannot contain: the others would wait for ever."""
    teach(workspace)
    ranks(2, _fall, workspace)
    for rank in (0, 1):
        assert told(workspace, rank)["made"].startswith("UserError: student 'small' failed: out of memory at step 3")
    assert any(note.startswith("small ends at step 2, the others go on: ") for note in told(workspace, 0)["notes"])
    assert sorted(path.name for path in (workspace / ".sslflow/artifacts").glob("spread-*")) == ["spread-vit", "spread-wide"]
    assert isinstance(load(workspace / ".sslflow/artifacts/spread-vit").artifact, Checkpoint)


def _fall(workspace: Path) -> None:  # noqa: F811
    OBJECTIVES[type(DISTILLER)] = Falling
    _pass(workspace, THREE, "spread")


@pytest.mark.slow
def test_ranks_that_are_told_to_stop_stop_together_and_go_on_to_the_same_bytes(workspace: Path) -> None:  # noqa: F811
    teach(workspace)
    ranks(2, _spread_three, workspace, "whole")
    ranks(2, _stop_second, workspace)
    assert [told(workspace, rank)["made"] for rank in (0, 1)] == ["KeyboardInterrupt: ", "SystemExit: 143"]
    checkpoints = workspace / ".sslflow/work/students-cut-work/checkpoints"
    assert sorted(path.name for path in checkpoints.glob("*/step-000000011.pt")) == ["step-000000011.pt"] * 3
    ranks(2, _spread_three, workspace, "cut")
    assert {note for note in told(workspace, 0)["notes"] if "goes on" in note} == {f"{name}: goes on from step 11" for name in THREE}
    sealed = workspace / ".sslflow/artifacts"
    for name in THREE:
        assert weights_of(sealed / f"cut-{name}") == weights_of(sealed / f"whole-{name}")


def weights_of(folder: Path) -> dict[str, bytes]:
    return weights(load(folder).encoder)


def _spread_three(workspace: Path, run: str) -> None:  # noqa: F811
    _pass(workspace, THREE, run)


def _stop_second(workspace: Path) -> None:  # noqa: F811
    if os.environ["RANK"] == "1":
        step = FeatureObjective.after_step

        def stop(objective: FeatureObjective, network: Any, progress: float) -> None:
            step(objective, network, progress)
            if round(progress * 16) == 5:
                os.kill(os.getpid(), signal.SIGTERM)

        FeatureObjective.after_step = stop  # type: ignore[method-assign]  # of this process, which it ends
    _pass(workspace, THREE, "cut")


def test_one_process_goes_on_from_what_two_ranks_left(workspace: Path) -> None:  # noqa: F811
    """A checkpoint is of a student, not of the rank that it was on."""
    teach(workspace)
    ranks(2, _spread_three, workspace, "spread")
    tracker = Recorder()
    again = one_pass(workspace, THREE, "spread", tracker, **SPREAD)
    assert {note for note in tracker.notes if "goes on" in note} == {f"{name}: goes on from step 16" for name in THREE}
    assert set(results(again)) == set(THREE)


def test_more_ranks_than_students_is_no_fault(workspace: Path) -> None:  # noqa: F811
    teach(workspace)
    ranks(2, _spread_one, workspace)
    assert [told(workspace, rank)["made"] for rank in (0, 1)] == [["small"], []]


def _spread_one(workspace: Path) -> None:  # noqa: F811
    _pass(workspace, {"small": student(NARROW)}, "spread")


def test_an_early_end_on_one_rank_ends_the_pass_when_all_have_ended(workspace: Path) -> None:  # noqa: F811
    teach(workspace)
    ranks(2, _end_early, workspace)
    main = told(workspace, 0)
    assert main["made"] == ["small", "vit"]
    assert sum("ends early at step 2 of 16" in note for note in main["notes"]) == 2


def _end_early(workspace: Path) -> None:  # noqa: F811
    never = {"metric": "knn", "patience": 2, "min_delta": 1.0}
    _pass(workspace, {"small": student(NARROW, early_stop=never), "vit": student(VIT, early_stop=never)}, "spread")


def test_a_process_on_its_own_is_the_only_one_and_the_main_one(tmp_path: Path) -> None:
    ranks(2, _on_its_own, tmp_path)
    assert [(tmp_path / f"{rank}").read_text() for rank in (0, 1)] == ["(1, 0, True, [5], 'own') 2", "(1, 0, True, [5], 'own') 2"]


def _on_its_own(folder: Path) -> None:
    with distributed.on_its_own():
        seen = (distributed.world_size(), distributed.rank(), distributed.is_main(), distributed.each(5), distributed.broadcast("own"))
        tensor = torch.ones(2)
        assert distributed.gather(tensor) is tensor
        distributed.barrier()
    (folder / str(distributed.rank())).write_text(f"{seen} {distributed.world_size()}")

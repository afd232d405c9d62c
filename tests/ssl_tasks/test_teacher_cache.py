"""The teacher's cache: what a frozen teacher said is kept, so that the next student costs no teacher forward and learns the same."""

import errno
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from passes import UNLIKE, one_pass, results, student
from test_distill import NARROW, VIEWS, teach, workspace  # noqa: F401  # a fixture
from tiny_training import CONV, Recorder
from torch import Tensor

from schemas.distillers import FitNets, Tap
from schemas.students import Student
from schemas.training import Train
from ssl_tasks.distill.cache import TeacherCache, named
from ssl_tasks.distill.network import Seen
from ssl_tasks.distill.teacher import FrozenTeacher

CPU = torch.device("cpu")
CACHED: dict[str, Any] = {"teacher_cache": True}
ONE = {"small": student(NARROW)}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the teacher was asked: `load` and `forward`."""
    calls: list[str] = []
    load, answer = FrozenTeacher.__init__, FrozenTeacher.__call__

    def loading(teacher: FrozenTeacher, *arguments: Any, **options: Any) -> None:
        calls.append("load")
        load(teacher, *arguments, **options)

    def answering(teacher: FrozenTeacher, views: list[Tensor]) -> Seen:
        calls.append("forward")
        return answer(teacher, views)

    monkeypatch.setattr(FrozenTeacher, "__init__", loading)
    monkeypatch.setattr(FrozenTeacher, "__call__", answering)
    return calls


def folders(workspace: Path) -> list[Path]:  # noqa: F811
    return list((workspace / ".sslflow/cache/teacher").iterdir())


def test_a_warm_cache_needs_no_teacher_and_gives_the_bytes_of_a_cold_one(workspace: Path, asked: list[str]) -> None:  # noqa: F811
    teach(workspace)
    cold = one_pass(workspace, UNLIKE, "cold", **CACHED)
    assert asked == ["load"] + ["forward"] * 16
    asked.clear()
    tracker = Recorder()
    warm = one_pass(workspace, UNLIKE, "warm", tracker, **CACHED)
    assert asked == []
    assert results(warm) == results(cold)
    assert any(note.startswith("teacher cache: 16 of 16 batches were kept from before") for note in tracker.notes)


def test_the_next_student_of_the_same_images_views_and_seed_costs_no_teacher_forward(workspace: Path, asked: list[str]) -> None:  # noqa: F811
    teach(workspace)
    one_pass(workspace, {"first": student(CONV)}, "first", **CACHED)
    asked.clear()
    next_one = one_pass(workspace, ONE, "next", **CACHED)
    assert asked == []
    for folder in folders(workspace):
        for path in folder.glob("*.npz"):
            path.unlink()
    assert results(one_pass(workspace, ONE, "computed", **CACHED)) == results(next_one)


def test_students_learn_the_same_as_without_to_rounding(workspace: Path) -> None:  # noqa: F811
    teach(workspace)
    curves = []
    for run, fields in (("with", CACHED), ("without", {})):
        tracker = Recorder()
        one_pass(workspace, UNLIKE, run, tracker, **fields)
        curves.append([values[f"{name}/train/loss"] for name in UNLIKE for _, values in tracker.points if f"{name}/train/loss" in values])
    assert len(curves[0]) == 36
    np.testing.assert_allclose(*curves, rtol=1e-2)
    assert curves[0] != curves[1], "float16 rounds"


def test_a_longer_training_begins_with_the_steps_of_a_shorter_one(workspace: Path, asked: list[str]) -> None:  # noqa: F811
    teach(workspace)
    one_pass(workspace, {"small": student(NARROW, epochs=2.0)}, "short", **CACHED)
    asked.clear()
    one_pass(workspace, {"small": student(NARROW, epochs=5.0)}, "long", **CACHED)
    assert asked == ["load"] + ["forward"] * 12


def test_outputs_that_a_student_wants_besides_are_added_and_the_others_stay(workspace: Path, asked: list[str]) -> None:  # noqa: F811
    teach(workspace)
    hinted = {"hinted": student(NARROW, FitNets(layers=[Tap(student="stages.0", teacher="stages.0")], weight=1.0))}
    before = results(one_pass(workspace, ONE, "pooled", **CACHED))
    asked.clear()
    one_pass(workspace, hinted, "more", **CACHED)
    assert asked.count("forward") == 16
    asked.clear()
    assert results(one_pass(workspace, hinted | ONE, "both", **CACHED))["small"] == before["small"]
    assert asked == []
    (folder,) = folders(workspace)
    with np.load(next(folder.glob("*.npz"))) as archive:
        assert sorted(archive.files) == ["pooled", "taps/stages.0"]
        assert archive["pooled"].dtype == np.float16


@pytest.mark.parametrize(
    "changed",
    [
        {"seed": 6},
        {"views": VIEWS.model_copy(update={"flip": 0.5})},
        {"train": Train(epochs=4.0, batch_size=32)},
        {"students": {"small": student(NARROW, FitNets(layers=[Tap(student="stages.0", teacher="stages.0")]))}},
    ],
    ids=["seed", "views", "batch", "outputs"],
)
def test_what_was_said_of_other_views_or_images_is_not_taken(workspace: Path, asked: list[str], changed: dict[str, Any]) -> None:  # noqa: F811
    teach(workspace)
    one_pass(workspace, ONE, "a", **CACHED)
    asked.clear()
    students: dict[str, Student] = changed.pop("students", ONE)
    one_pass(workspace, students, "b", **CACHED, **changed)
    assert "forward" in asked


def test_what_another_teacher_said_is_not_taken(workspace: Path, asked: list[str]) -> None:  # noqa: F811
    teach(workspace)
    one_pass(workspace, ONE, "a", **CACHED)
    asked.clear()
    teach(workspace, epochs=1.0)
    one_pass(workspace, ONE, "b", **CACHED)
    assert asked.count("forward") == 16
    assert len(folders(workspace)) == 2


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        lambda _: b"",
        lambda content: content[:150] + bytes([content[150] ^ 1]) + content[151:],
    ],
    ids=["cut short", "empty", "a bit turned over"],
)
def test_a_damaged_file_is_computed_again(workspace: Path, asked: list[str], damage: Callable[[bytes], bytes]) -> None:  # noqa: F811
    teach(workspace)
    expected = results(one_pass(workspace, ONE, "whole", **CACHED))
    (folder,) = folders(workspace)
    path = sorted(folder.glob("*.npz"))[3]
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    asked.clear()
    assert results(one_pass(workspace, ONE, "again", **CACHED)) == expected
    assert asked == ["load", "forward"]
    with np.load(path) as archive:
        assert archive.files == ["pooled"]


def test_a_training_stopped_amid_a_cold_cache_goes_on_to_the_same_bytes(workspace: Path) -> None:  # noqa: F811
    teach(workspace)
    expected = results(one_pass(workspace, ONE, "whole", **CACHED))
    for folder in folders(workspace):
        for path in folder.glob("step-*"):
            path.unlink()

    class Interrupting(Recorder):
        def metrics(self, values: Mapping[str, float], step: int) -> None:
            if step == 8:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        one_pass(workspace, ONE, "cut", Interrupting(), **CACHED)
    assert len(list(folders(workspace)[0].glob("step-*"))) == 8
    assert results(one_pass(workspace, ONE, "cut", **CACHED)) == expected


def cache(folder: Path, name: str, gigabytes: float, notes: list[str] | None = None) -> TeacherCache:
    return TeacherCache(folder, {"name": name}, gigabytes, CPU, (notes if notes is not None else []).append)


def said(step: int, rows: int = 16) -> Seen:
    return Seen(torch.full((rows, 50), float(step)))


def ask(kept: TeacherCache, step: int) -> float:
    return kept(f"step-{step}", frozenset(["pooled"]), lambda: said(step)).pooled[0, 0].item()


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_what_is_beyond_the_bound_is_computed_and_said_once(tmp_path: Path) -> None:
    notes: list[str] = []
    small = cache(tmp_path, "a", 10e-6, notes)  # 10 kB; a file is 1.6 kB and its frame
    assert [ask(small, step) for step in range(20)] == list(range(20))
    assert 8000 < size(tmp_path) <= 10_000
    assert notes == ["the teacher cache is full, 1e-05 GB: what is not in it is computed; raise teacher_cache.gigabytes to keep more"]
    kept = len(list(small.folder.glob("*.npz")))
    assert [ask(small, step) for step in range(20)] == list(range(20))
    assert (small.read, small.made) == (kept, 40 - kept)


def test_room_is_made_by_removing_the_cache_that_was_used_longest_ago_and_is_not_in_use(tmp_path: Path) -> None:
    used, old, older = (cache(tmp_path, name, 1.0) for name in ("used", "old", "older"))
    for age, each in enumerate((old, older, used)):
        for step in range(3):
            ask(each, step)
        os.utime(each.folder / "in_use", (1000 - age, 1000 - age))
    old.close()
    older.close()
    notes: list[str] = []
    new = cache(tmp_path, "new", 20e-6, notes)
    for step in range(3):
        ask(new, step)
    assert [each.folder.exists() for each in (used, old, older, new)] == [True, True, False, True]
    for step in range(3, 20):
        ask(new, step)
    assert [each.folder.exists() for each in (used, old, older, new)] == [True, False, False, True]
    assert size(tmp_path) <= 20_000
    assert len(notes) == 1
    assert ask(used, 0) == 0
    assert used.made == 3, "nothing of it was lost"


def test_a_disk_that_takes_no_more_does_not_stop_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("ssl_tasks.distill.cache.np.savez", full)
    notes: list[str] = []
    kept = cache(tmp_path, "a", 1.0, notes)
    assert [ask(kept, step) for step in range(3)] == [0, 1, 2]
    assert notes == ["the teacher cache cannot be written (No space left on device): what is not in it is computed"]
    assert sorted(path.name for path in kept.folder.iterdir()) == ["in_use"]


def test_values_are_rounded_to_float16_whether_found_or_computed(tmp_path: Path) -> None:
    exact = torch.tensor([[1 / 3, 1e6, -1e6, 70000.0, 2.0**-30]])
    kept = cache(tmp_path, "a", 1.0)
    first, second = (kept("step", frozenset(["pooled"]), lambda: Seen(exact)).pooled for _ in range(2))
    assert (kept.made, kept.read) == (1, 1)
    assert torch.equal(first, second)
    assert first.dtype == torch.float32
    assert first[0].tolist() == [0.333251953125, 65504.0, -65504.0, 65504.0, 0.0]


def test_every_output_is_kept_under_its_name(tmp_path: Path) -> None:
    whole = Seen(torch.ones(2, 3), torch.ones(2, 4, 5), {"blocks.0": torch.ones(2, 5, 2, 2)}, torch.ones(2, 7))
    names = frozenset(named(whole))
    assert names == {"pooled", "places", "logits", "taps/blocks.0"}
    kept = cache(tmp_path, "a", 1.0)
    kept("step", names, lambda: whole)
    found = kept("step", names, lambda: pytest.fail("it is kept"))
    assert {name: value.shape for name, value in named(found).items()} == {name: value.shape for name, value in named(whole).items()}


def test_facts_of_a_teacher_are_made_once_and_again_where_they_are_damaged(tmp_path: Path) -> None:
    made = []

    def make() -> dict[str, int]:
        made.append(1)
        return {"dim": 8}

    kept = cache(tmp_path, "a", 1.0)
    assert [kept.facts("shapes", make), kept.facts("shapes", make)] == [{"dim": 8}] * 2
    assert len(made) == 1
    (kept.folder / "shapes.json").write_text('{"dim"')
    assert kept.facts("shapes", make) == {"dim": 8}
    assert json.loads((kept.folder / "shapes.json").read_text()) == {"dim": 8}

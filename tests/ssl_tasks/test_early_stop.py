"""Early stop: a training whose looks no longer improve ends, keeps what it has, and leaves the others alone."""

from pathlib import Path
from typing import Any

import pytest
from passes import one_pass, results, student
from pydantic import ValidationError
from test_distill import NARROW, job, teach, workspace  # noqa: F401  # a fixture
from tiny_training import CONV, SIMCLR, TRAIN, VIT, Brightness, Recorder, stripes, weights

from schemas.errors import UserError
from schemas.monitoring import EarlyStop
from schemas.stages import Pretrain
from ssl_tasks.early_stop import stalled
from ssl_tasks.method import Method
from ssl_tasks.pretrain import pretrain
from ssl_tasks.train import fit, fit_together


def looks(name: str, values: list[float]) -> list[dict[str, float]]:
    return [{name: value, "progress": i / 10} for i, value in enumerate(values)]


@pytest.mark.parametrize(
    ("rule", "values", "ends"),
    [
        ({"metric": "loss", "patience": 2}, [3, 2, 2.5, 1.9], False),
        ({"metric": "loss", "patience": 2}, [3, 2, 2.5, 2.1], True),
        ({"metric": "loss", "patience": 2}, [3, 2, 2.0, 2.0], True),
        ({"metric": "loss", "patience": 3}, [3, 2, 2.5, 2.1], False),
        ({"metric": "loss", "patience": 2, "min_delta": 0.5}, [3, 2, 1.8, 1.6], True),
        ({"metric": "loss", "patience": 2, "min_delta": 0.5}, [3, 2, 1.8, 1.4], False),
        ({"metric": "knn", "patience": 2}, [0.1, 0.4, 0.3, 0.35], True),
        ({"metric": "knn", "patience": 2}, [0.1, 0.2, 0.3, 0.4], False),
        ({"metric": "alignment", "patience": 2, "best": "lowest"}, [0.4, 0.3, 0.2, 0.1], False),
        ({"metric": "loss", "patience": 2}, [3, float("nan"), float("nan")], True),
    ],
)
def test_a_training_is_stalled_after_as_many_looks_without_improvement(rule: dict[str, Any], values: list[float], ends: bool) -> None:
    assert bool(stalled(looks(rule["metric"], values), EarlyStop(**rule))) == ends


def test_slow_improvement_adds_up() -> None:
    """Each look is compared with the best one that counted, not with the one before."""
    rule = EarlyStop(metric="knn", patience=3, min_delta=0.05)
    assert not stalled(looks("knn", [0.1, 0.13, 0.16, 0.19, 0.22, 0.25]), rule)


def test_looks_that_do_not_see_the_metric_do_not_count() -> None:
    """The first look is from before the training and has no loss."""
    seen = [{"progress": 0.0, "knn": 0.1}, *looks("loss", [1.0, 2.0])]
    assert not stalled(seen, EarlyStop(patience=2))
    assert "loss was best, 1, 2 looks ago, after 0%" in stalled([*seen, {"loss": 2.0, "progress": 0.9}], EarlyStop(patience=2))


def test_without_the_rule_nothing_stalls() -> None:
    assert stalled(looks("loss", [1.0] * 50), None) == ""


def test_patience_is_at_least_one_look() -> None:
    with pytest.raises(ValidationError, match="greater than 0"):
        EarlyStop(patience=0)


STALLS = TRAIN.model_copy(update={"monitors": 20, "checkpoint_steps": 3, "early_stop": EarlyStop(metric="quality", patience=4)})
"""20 steps, a look after each."""


HEALTHY = {"std": 1.0, "relative_std": 1.0, "centred_rank": 4.0}
"""What is asked of every look."""


def falling_after(step: int) -> Any:
    """Monitors whose number rises for some steps."""

    def look(method: Method) -> dict[str, float]:
        assert isinstance(method, Brightness)
        done = sum(name == "after" for name, _ in method.calls)
        return {"quality": float(min(done, 2 * step - done)), **HEALTHY}

    return look


def test_a_training_that_stalls_keeps_its_last_weights_and_says_so(tmp_path: Path) -> None:
    tracker = Recorder()
    method = Brightness()
    learner = fit(method, stripes()[0], STALLS, seed=0, workdir=tmp_path, tracker=tracker, look=falling_after(6))
    assert learner.done == 10
    assert learner.stalled
    assert learner.failure is None
    assert learner.summary(16)["ended_early_at_step"] == 10
    assert learner.summary(16)["images_seen"] == 160
    assert tracker.notes == ["ends early at step 10 of 20 with the weights it has: quality was best, 6, 4 looks ago, after 30% of the training"]
    assert len([name for name, _ in method.calls if name == "after"]) == 10


def test_one_that_ended_early_stays_ended_when_it_is_run_again(tmp_path: Path) -> None:
    first = fit(Brightness(), stripes()[0], STALLS, seed=0, workdir=tmp_path, tracker=Recorder(), look=falling_after(6))
    tracker = Recorder()
    method = Brightness()
    again = fit(method, stripes()[0], STALLS, seed=0, workdir=tmp_path, tracker=tracker, look=falling_after(6))
    assert tracker.notes == ["goes on from step 10"]
    assert method.calls == []
    assert weights(again.method) == weights(first.method)
    assert again.curve == first.curve


def test_the_others_train_on(tmp_path: Path) -> None:
    configs = {"stalls": STALLS, "sound": TRAIN}
    methods = {name: Brightness() for name in configs}
    learners = fit_together(methods, stripes()[0], configs, seed=0, workdir=tmp_path, tracker=Recorder(), look=falling_after(6))
    assert {name: learner.done for name, learner in learners.items()} == {"stalls": 10, "sound": 20}
    assert not learners["stalls"].optimizer.state, "it is freed while the other trains"


def test_a_metric_that_is_not_measured_is_refused(tmp_path: Path) -> None:
    config = STALLS.model_copy(update={"early_stop": EarlyStop(metric="qualty")})
    with pytest.raises(UserError, match=r"train\.early_stop\.metric: 'qualty' is not measured in this training; did you mean 'quality'"):
        fit(Brightness(), stripes()[0], config, seed=0, workdir=tmp_path, tracker=Recorder(), look=falling_after(6))


NEVER = EarlyStop(metric="knn", patience=2, min_delta=1.0)
"""An accuracy cannot improve by more than 1."""


def test_a_student_that_ends_early_is_sealed_beside_one_that_does_not(workspace: Path) -> None:  # noqa: F811
    teach(workspace)
    tracker = Recorder()
    students = {"early": student(NARROW, early_stop=NEVER), "whole": student(VIT)}
    made = one_pass(workspace, students, "a", tracker)
    assert made["early"].metrics["ended_early_at_step"] == 2
    assert made["early"].metrics["images_seen"] == 32
    assert made["whole"].metrics["images_seen"] == 256
    assert any(note.startswith("early: ends early at step 2 of 16") for note in tracker.notes)
    assert results(made)["whole"] == results(one_pass(workspace, {"whole": student(VIT)}, "b"))["whole"]


def test_pretraining_ends_early_too(workspace: Path) -> None:  # noqa: F811
    stage = Pretrain(dataset="data", method=SIMCLR, encoder=CONV, train=TRAIN.model_copy(update={"early_stop": NEVER}), seed=5)
    made = pretrain(job(workspace, "t", stage, {"data": "data"}, {"": "t"}), Recorder())
    assert made[""].metrics["ended_early_at_step"] == 2

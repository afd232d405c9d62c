"""What is done about a collapse, or a rule that is broken: training stops, warns, or falls back to the last look that was well."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_training import DINO, SIMCLR, TRAIN, Recorder, make, stripes, weights
from torch import Tensor, nn

from schemas.errors import Collapse, UserError
from schemas.monitoring import Rule
from schemas.training import AdamW
from ssl_tasks.learner import Learner
from ssl_tasks.method import Method
from ssl_tasks.monitors import Look
from ssl_tasks.train import fit

SOFT = DINO.model_copy(update={"teacher_temperature": 0.0999, "teacher_temperature_start": 0.0999})
SHORT = TRAIN.model_copy(update={"epochs": 12.0, "monitors": 6, "optimizer": AdamW(learning_rate=2e-3)})


def on_stripes(config: Any, folder: Path, tracker: Recorder, method: Method | None = None, **settings: Any) -> Learner:
    images, labels = stripes()
    look = Look(images, labels, 0, "cpu")
    return fit(method or make(config), images, SHORT.model_copy(update=settings), seed=3, workdir=folder, tracker=tracker, look=look)


def test_a_collapse_that_is_to_warn_is_noted_once_and_training_goes_on(tmp_path: Path) -> None:
    tracker = Recorder()
    learner = on_stripes(SOFT, tmp_path, tracker, on_collapse="warn")
    assert learner.done == 60
    noted = [note for note in tracker.notes if "has collapsed" in note]
    assert len(noted) in (1, 2), "once for each symptom: it fades, then is uniform"
    assert all("uniform distribution" in note for note in noted)


def test_a_milestone_that_is_missed_stops_the_training(tmp_path: Path) -> None:
    rules = [Rule(metric="knn", at_least=1.01, after=0.5)]
    with pytest.raises(Collapse, match=r"train\.rules\.0 is broken at step 30: knn is [\d.]+ after 50% of the training, must be at least 1\.01"):
        on_stripes(SIMCLR, tmp_path, Recorder(), rules=rules)


def test_a_rule_that_is_kept_says_nothing(tmp_path: Path) -> None:
    tracker = Recorder()
    rules = [Rule(metric="knn", at_least=0.3, at_most=1), Rule(metric="loss", at_most=100.0), Rule(metric="gradient_norm", at_most=1e3, then="fall_back")]
    assert on_stripes(SIMCLR, tmp_path, tracker, rules=rules).done == 60
    assert tracker.notes == []


def test_a_rule_that_is_to_warn_is_noted_once_as_long_as_it_stays_broken(tmp_path: Path) -> None:
    tracker = Recorder()
    learner = on_stripes(SIMCLR, tmp_path, tracker, rules=[Rule(metric="loss", at_most=0.001, after=0.2, then="warn")])
    assert learner.done == 60
    (note,) = tracker.notes
    assert note.startswith("train.rules.0 is broken at step 20: loss is ")


@pytest.mark.parametrize(
    ("metric", "answer"),
    [("kn", "did you mean 'knn'"), ("train/los", "did you mean 'loss'"), ("zzz", "there are: .*alignment.*loss"), ("monitor/knn", "did you mean 'knn'")],
)
def test_a_rule_on_what_is_not_measured_is_refused_before_the_first_step(tmp_path: Path, metric: str, answer: str) -> None:
    tracker = Recorder()
    with pytest.raises(UserError, match=rf"train\.rules\.1\.metric: '{metric}' is not measured in this training; {answer}"):
        on_stripes(SIMCLR, tmp_path, tracker, rules=[Rule(metric="loss", at_most=9.0), Rule(metric=metric, at_least=0.0)])
    assert tracker.shown == []


def test_a_milestone_of_accuracy_without_labels_is_refused(tmp_path: Path) -> None:
    images, _ = stripes()
    train = SHORT.model_copy(update={"rules": [Rule(metric="knn", at_least=0.3)]})
    with pytest.raises(UserError, match="'knn' is measured only where every image has a label"):
        fit(make(SIMCLR), images, train, seed=3, workdir=tmp_path, tracker=Recorder(), look=Look(images, [], 0, "cpu"))


class Spoilt(Method):
    """SimCLR whose encoder says ever less of its image from a given step on."""

    def __init__(self, start: int) -> None:
        super().__init__()
        self.inner, self.start = make(SIMCLR), start
        self.steps: Tensor
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def views(self, images: Tensor, draw: Any) -> list[Tensor]:
        return self.inner.views(images, draw)

    def forward(self, views: list[Tensor], progress: float) -> dict[str, Tensor]:
        terms: dict[str, Tensor] = self.inner(views, progress)
        return terms

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        self.steps += 1
        if self.steps > self.start:
            for name, value in self.inner.exported().named_parameters():
                if name.endswith(("norm.weight", "norm3.weight", "norm2.weight")):
                    value.mul_(0.0)

    def exported(self) -> nn.Module:
        return self.inner.exported()


@pytest.mark.parametrize(
    ("settings", "ended"),
    [({"on_collapse": "fall_back"}, 50), ({"rules": [Rule(metric="relative_std", at_least=0.01, after=0.6, then="fall_back")]}, 40)],
    ids=["a collapse", "a rule"],
)
def test_falling_back_ends_with_the_weights_of_the_last_look_that_was_well(tmp_path: Path, settings: dict[str, Any], ended: int) -> None:
    """Spoilt after step 25: the look at 30 saw it, a rule asks at 40, and three looks in a row were to see a collapse."""
    tracker = Recorder()
    learner = on_stripes(None, tmp_path / "spoilt", tracker, method := Spoilt(start=25), **settings)
    assert learner.done == 20
    assert learner.failure is None
    assert learner.summary(16)["fell_back_to_step"] == 20
    assert learner.summary(16)["images_seen"] == 320
    assert tracker.points[-1] == (20, {"fell_back_to_step": 20})
    assert max(step for step, _ in tracker.points) == ended
    (note,) = tracker.notes
    assert f"at step {ended}: " in note
    assert note.endswith("ends with the weights of step 20, the last look that found nothing wrong")
    assert method.steps == 20
    images, labels = stripes()
    assert Look(images, labels, 0, "cpu")(method.eval())["relative_std"] == learner.looks[-1]["relative_std"] > 0.1


def test_what_falls_back_when_killed_afterwards_falls_back_again_to_the_same_weights(tmp_path: Path) -> None:
    ends = []
    for _ in range(2):
        method = Spoilt(start=25)
        ends.append((on_stripes(None, tmp_path, Recorder(), method, on_collapse="fall_back").done, weights(method)))
    assert ends[0] == ends[1]


def test_without_a_look_that_was_well_there_is_nothing_to_fall_back_on(tmp_path: Path) -> None:
    with pytest.raises(Collapse, match=r"uniform distribution .*; there is nothing to fall back on"):
        on_stripes(SOFT, tmp_path, Recorder(), rules=[Rule(metric="knn", at_least=1.01, after=1, then="fall_back")], on_collapse="fall_back")

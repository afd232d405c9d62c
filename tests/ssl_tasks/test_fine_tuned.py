"""The protocol that trains a copy of the encoder: as a finetune stage trains it, from any start, and without a trace on the model."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from evaluated import datasets, done, evaluation, job, models
from small_world import SmallWorld, protocol

from schemas.artifacts import Checkpoint, read
from schemas.protocols import ProtocolSpec
from schemas.spec import Unfit
from schemas.stages import Evaluate
from ssl_tasks.checkpoints import load_classifier
from ssl_tasks.data.loader import seed_of
from ssl_tasks.evaluate.adaptation import fine_tuned
from ssl_tasks.evaluate.findings import Skipped
from ssl_tasks.evaluate.protocols import apply
from ssl_tasks.evaluate.results import Role
from ssl_tasks.evaluate.subject import Subject
from ssl_tasks.evaluate.world import World

TRAIN = {"epochs": 6, "batch_size": 12, "optimizer": {"kind": "adamw", "learning_rate": 3e-3}, "monitors": 1, "on_collapse": "warn"}
VIEWS = {"scale": [0.8, 1.0], "flip": 0.0}


class Shapes:
    """Three classes of 12 x 12 images, and encoders that nobody trained."""

    def __init__(self, workspace: Path) -> None:
        self.workspace = workspace
        _, clean = datasets(workspace)
        self.inputs = models(workspace, clean)
        self.job = evaluation(workspace, self.inputs)

    def subject(self, role: Role = "pretrained") -> Subject:
        assert isinstance(self.job.stage, Evaluate)
        model = read(self.job.folder(self.inputs["teacher"]))
        assert isinstance(model, Checkpoint)
        return Subject("teacher", role, model, model.encoder, World.of(self.job, self.job.stage, "cpu"))


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Shapes:
    return Shapes(tmp_path_factory.mktemp("shapes"))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SmallWorld:
    return SmallWorld(tmp_path_factory.mktemp("scenes"))


def asked(**settings: Any) -> ProtocolSpec:
    return protocol("fine_tuned", **{"train": TRAIN, "views": VIEWS, **settings})


@pytest.mark.parametrize("strategy", ["full", "lp_ft", {"kind": "unfreezing", "groups": 2}])
def test_it_answers_as_the_classifier_that_a_finetune_stage_makes(shapes: Shapes, strategy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = shapes.subject()
    parts = subject.world.parts
    answers: list[np.ndarray] = []
    said = fine_tuned._said

    def kept(*arguments: Any) -> Any:
        answers.append(said(*arguments))
        return answers[-1]

    monkeypatch.setattr(fine_tuned, "_said", kept)
    numbers, _ = apply(asked(strategy=strategy), subject)
    seed = seed_of(subject.world.seed, "fine_tuned", 0) >> 32
    stage = {"kind": "finetune", "dataset": "clean", "checkpoint": "teacher", "strategy": strategy, "views": VIEWS, "seed": seed}
    stage["train"] = {**TRAIN, "layer_decay": 0.75}
    name = strategy if isinstance(strategy, str) else strategy["kind"]
    made = done(job(shapes.workspace, name, stage, {key: shapes.inputs[key] for key in ("clean", "teacher")}))[""]
    assert isinstance(made, Checkpoint)
    classifier = load_classifier(made)
    assert classifier
    with torch.no_grad():
        shares = torch.cat([classifier(subject.prepare(batch)) for batch in subject.batches(parts.queries)]).double().softmax(1).numpy()
    assert classifier.classes == parts.classes
    np.testing.assert_allclose(answers[0], shares, rtol=0, atol=1e-6)
    assert len(np.unique(shares)) > 12
    assert numbers[0].items is not None
    assert np.array_equal(numbers[0].items, shares.argmax(1) == parts.labels[parts.queries])


def test_supervised_training_from_random_weights_is_a_row_too_and_learns(shapes: Shapes) -> None:
    numbers, _ = apply(asked(train={**TRAIN, "epochs": 30}), shapes.subject("random"))
    assert numbers[0].values[0] > 0.8


def test_neither_the_model_nor_the_random_state_changes(shapes: Shapes) -> None:
    subject = shapes.subject()
    before = {name: value.clone() for name, value in subject.encoder.state_dict().items()}
    state = torch.random.get_rng_state()
    apply(asked(labels=0.9), subject)
    assert all(torch.equal(value, before[name]) for name, value in subject.encoder.state_dict().items())
    assert not subject.encoder.training
    assert torch.equal(torch.random.get_rng_state(), state)


def test_no_test_label_has_a_say(shapes: Shapes) -> None:
    shares = []
    for number in range(3):
        subject = shapes.subject()
        shutil.rmtree(subject.world.job.work / "fine_tuned", ignore_errors=True)
        subject.world.parts.labels[subject.world.parts.queries] = number
        shares.append(apply(asked(strategy={"kind": "unfreezing", "groups": 1}), subject)[0][0].values[0])
    assert sum(shares) == pytest.approx(1)


def test_repeats_have_seeds_and_a_spread_and_the_mean_is_that_of_the_items(shapes: Shapes) -> None:
    [number] = apply(asked(repeats=3, labels=0.4), shapes.subject("random"))[0]
    [first] = apply(asked(repeats=1, labels=0.4), shapes.subject("random"))[0]
    assert len(number.values) == 3
    assert first.values[0] == number.values[0]
    assert number.items is not None
    assert not set(number.items) <= {0.0, 1.0}  # the three trainings do not all say the same
    assert number.items.mean() == pytest.approx(np.mean(number.values))


def test_what_was_trained_before_an_evaluation_was_stopped_is_not_trained_again(shapes: Shapes, monkeypatch: pytest.MonkeyPatch) -> None:
    before = apply(asked(labels=0.5), shapes.subject())[0]
    monkeypatch.delattr(fine_tuned, "fit_together")
    assert apply(asked(labels=0.5), shapes.subject())[0] == before
    with pytest.raises(NameError):
        apply(asked(labels=0.6), shapes.subject())


def test_images_are_prepared_as_the_encoder_is_used_to(world: SmallWorld) -> None:
    """Its mean and deviation are not those of the finetune stage: views are what evaluation feeds, but for the crop."""
    subject = world.subject("vit")
    images = next(subject.batches(np.arange(4)))
    method = fine_tuned.Adapted.__new__(fine_tuned.Adapted)
    assert subject.artifact
    assert subject.artifact.std == [0.25] * 3
    whole = asked(views={"scale": [1.0, 1.0], "ratio": [1.0, 1.0], "flip": 0.0, "turn": 0.0})
    torch.nn.Module.__init__(method)
    method.stage, method._mean_std = whole, (subject.artifact.mean, subject.artifact.std)  # type: ignore[assignment]
    method.model = type("Model", (), {"encoder": subject.encoder})()  # type: ignore[assignment]
    from ssl_tasks.data.draw import Draw

    [view] = method.views(images, Draw(torch.Generator().manual_seed(0), 4, slice(0, 4)))
    resized = torch.nn.functional.interpolate(images.float() / 255, size=32, mode="bilinear", antialias=True, align_corners=False)
    torch.testing.assert_close(view, (resized - 0.5) / 0.25, atol=0.15, rtol=0)


@pytest.mark.parametrize("strategy", ["lora", "mlp", "linear"])
def test_other_strategies_train_a_vit(world: SmallWorld, strategy: str) -> None:
    assert apply(asked(strategy=strategy, train={**TRAIN, "epochs": 1}), world.subject("vit"))[0]


def test_a_strategy_that_does_not_fit_the_network_is_a_line(world: SmallWorld) -> None:
    with pytest.raises(Skipped, match="strategy lora adapts the blocks of a plain vision transformer, and 'resnet10t' has none"):
        apply(asked(strategy="lora"), world.subject("convnet"))
    with pytest.raises(Skipped, match="is no network"):
        apply(asked(), world.subject("pixels"))


def test_settings_that_cannot_be_are_refused_when_the_pipeline_is_read() -> None:
    with pytest.raises(ValueError, match="sees one view") as refused:
        asked(views={"count": 2})
    assert isinstance(refused.value.errors()[0]["ctx"]["error"], Unfit)  # type: ignore[attr-defined]

"""A checkpoint becomes a classifier: what each strategy trains, what comes out, and what is refused."""

import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from finetuned import CASES, DEEP, TRAIN, classification, config, random_checkpoint, tune
from test_distill import VIEWS as STUDENT_VIEWS
from test_distill import job, workspace
from tiny_training import CONV, SIMCLR, Recorder, process, weights

import ssl_tasks
from schemas.artifacts import Checkpoint
from schemas.distillers import Hinton
from schemas.encoders import Encoder
from schemas.errors import UserError
from schemas.finetuning import LPFT, Full, LinearHead, MLPHead, Strategy, Unfreezing
from schemas.stages import Distill, Pretrain
from schemas.students import Student
from schemas.training import SGD, AdamW
from ssl_tasks import distill
from ssl_tasks.checkpoints import load_classifier, load_encoder
from ssl_tasks.collapse import collapse
from ssl_tasks.finetune import finetune
from ssl_tasks.finetune.classification import Classification
from ssl_tasks.learner import Learner
from ssl_tasks.pretrain import pretrain
from ssl_tasks.replay import replay

__all__ = ["workspace"]
LONG = TRAIN.model_copy(update={"epochs": 30.0, "optimizer": SGD(learning_rate=0.1)})


def moved(before: torch.nn.Module, artifact: Checkpoint) -> set[str]:
    """Parameters and buffers of the encoder that are no longer the same, bit for bit."""
    then, now = weights(before), weights(load_encoder(artifact))
    assert then.keys() == now.keys()
    return {name.removeprefix("backbone.") for name in then if then[name] != now[name]}


@pytest.mark.parametrize("name", CASES)
def test_every_strategy_makes_a_classifier_of_every_encoder_that_it_takes(workspace: Path, name: str) -> None:
    strategy, encoder = CASES[name]
    random_checkpoint(workspace, encoder)
    tracker = Recorder()
    artifact = tune(workspace, config(strategy), tracker=tracker)
    assert artifact.classes == ["class 0", "class 1", "class 2", "class 3"]
    assert artifact.hidden == (12 if isinstance(strategy, MLPHead) else None)
    assert artifact.encoder == encoder
    classifier = load_classifier(artifact)
    assert classifier is not None
    assert classifier(torch.zeros(2, 1, 8, 8)).shape == (2, 4)
    assert {"train/loss", "monitor/accuracy", "monitor/knn", "labelled_images"} <= artifact.metrics.keys()
    assert ssl_tasks.load(artifact.folder).embed([workspace / "images/0.png"]).shape == (1, artifact.dim), "without its head it is an encoder as any other"
    assert artifact.exported == ("encoder with classifier" if strategy.frozen else "finetuned encoder with classifier")


@pytest.mark.parametrize("strategy", [LinearHead(), MLPHead(hidden=8)], ids=["linear", "mlp"])
@pytest.mark.parametrize("encoder", [CONV, CONV.model_copy(update={"neck": 6}), DEEP], ids=["convnet", "with a neck", "vit"])
def test_a_head_on_frozen_features_changes_neither_weights_nor_running_statistics(workspace: Path, strategy: Strategy, encoder: Encoder) -> None:
    before = random_checkpoint(workspace, encoder)
    assert moved(before, tune(workspace, config(strategy))) == set()


def test_a_linear_head_learns_what_the_features_tell(workspace: Path) -> None:
    random_checkpoint(workspace, DEEP)
    artifact = tune(workspace, config(LinearHead(), train=LONG.model_copy(update={"optimizer": AdamW(learning_rate=0.05)})))
    assert artifact.metrics["monitor/accuracy"] > 0.7, "a quarter is chance"


def test_frozen_batch_norms_keep_their_statistics_while_their_gains_are_trained(workspace: Path) -> None:
    before = random_checkpoint(workspace)
    frozen = moved(before, tune(workspace, config(Full()), "frozen"))
    trained = moved(before, tune(workspace, config(Full(), batch_norm="trained"), "trained"))
    statistics = {name for name in trained if "running" in name or "num_batches" in name}
    assert len(statistics) == 3 * sum(isinstance(part, torch.nn.BatchNorm2d) for part in before.modules()) > 0
    assert frozen == trained - statistics
    assert {"norm.weight", "stem.conv.weight"} <= frozen


def test_a_frozen_batch_norm_normalises_by_its_own_statistics_in_training_too() -> None:
    method = classification(config(Full()), CONV)
    images = torch.randn(6, 1, 8, 8)
    alone, together = method.model(images[:1]), method.model(images)
    torch.testing.assert_close(alone, together[:1])
    trained = classification(config(Full(), batch_norm="trained"), CONV)
    assert not torch.allclose(trained.model(images[:2])[:1], trained.model(images)[:1], rtol=1e-3)


def test_unfreezing_begins_with_the_head_and_goes_down_block_by_block() -> None:
    method = classification(config(Unfreezing(groups=2, decay=0.5)), DEEP)
    views, labels = [torch.randn(4, 1, 8, 8)], torch.arange(4)
    seen = []
    for progress in (0.0, 0.4, 0.9):
        method.zero_grad()
        method(views, labels, progress)["cross_entropy"].backward()
        seen.append({name.removeprefix("model.encoder.backbone.") for name, p in method.named_parameters() if p.grad is not None})
    head = {"model.head.0.weight", "model.head.0.bias"}
    assert seen[0] == head
    assert all(name.startswith(("blocks.2.", "norm.")) for name in seen[1] - head)
    assert all(name.startswith("blocks.1.") for name in seen[2] - seen[1])
    assert {"blocks.2.attn.qkv.weight", "norm.weight"} <= seen[1]
    assert "blocks.1.attn.qkv.weight" in seen[2]
    rates = method.rates()
    assert (rates["model.head.0.weight"], rates["model.encoder.backbone.norm.weight"], rates["model.encoder.backbone.blocks.1.attn.qkv.weight"]) == (
        1,
        0.5,
        0.25,
    )


def test_unfreezing_takes_a_convnet_by_its_stages() -> None:
    head, last, first = classification(config(Unfreezing(groups=2)), CONV.model_copy(update={"neck": 6})).plan.groups
    assert all(name.startswith("head.") for name in head)
    assert {name.split(".")[1] for name in last} == {"backbone", "neck"}
    assert {name.split(".")[3] for name in last if "stages" in name} == {"1"}
    assert all(name.startswith("encoder.backbone.stages.0.") for name in first)


def test_linear_probing_then_fine_tuning_holds_the_encoder_still_until_its_time(workspace: Path) -> None:
    """The head learns for half of the training; then the schedule starts again at a tenth of the peak."""
    random_checkpoint(workspace)
    tracker = Recorder()
    stage = config(LPFT(probe=0.5, rate=0.1), train=TRAIN.model_copy(update={"warmup": 0.0}))
    tune(workspace, stage, tracker=tracker)
    rates = {step: values["train/learning_rate"] for step, values in tracker.points if "train/learning_rate" in values}
    peak, steps = 5e-3, 24
    for step in range(1, steps + 1):
        place = ((step - 0.5) / steps) % 0.5 / 0.5
        assert rates[step] == pytest.approx(peak * (1 + np.cos(np.pi * place)) / 2 * (1.0 if step <= steps / 2 else 0.1))
    spreads = [values["monitor/std"] for step, values in tracker.points if "monitor/std" in values and step <= steps / 2]
    assert len(set(spreads)) == 1 < len(spreads), "the features are the same as long as the head learns alone"


def test_the_encoder_is_in_eval_mode_as_long_as_only_the_head_learns() -> None:
    method = classification(config(LPFT(), batch_norm="trained"), CONV)
    views, labels = [torch.randn(4, 1, 8, 8)], torch.arange(4)
    before = weights(method.model.encoder)
    method(views, labels, 0.1)
    assert weights(method.model.encoder) == before
    method(views, labels, 0.5)
    assert weights(method.model.encoder) != before


def test_an_encoder_without_a_checkpoint_is_trained_from_nothing_with_its_batch_norms(workspace: Path) -> None:
    stage = config(Full(), encoder=CONV, train=LONG)
    assert stage.batch_norms == "trained"
    artifact = tune(workspace, stage)
    assert artifact.metrics["monitor/accuracy"] > 0.9


def test_the_features_of_two_classes_on_a_line_are_no_collapse() -> None:
    first = {"progress": 0.0, "std": 1.0, "relative_std": 0.5, "centred_rank": 8.0, "loss": 0.7}
    looks = [first, *({**first, "progress": progress, "centred_rank": 1.1, "loss": 0.1} for progress in (0.4, 0.6, 0.8))]
    assert "on a line" in (collapse(looks) or "")
    assert collapse([{**look, "classifies": 1.0} for look in looks]) is None


def test_looks_at_a_classifier_say_that_it_is_one(workspace: Path) -> None:
    random_checkpoint(workspace)
    learners: list[Learner] = []
    stage = config(LinearHead(), train=TRAIN.model_copy(update={"epochs": 1.0}))
    finetune(job(workspace, "tuned", stage, {"data": "data", "start": "start"}, {"": "tuned"}), Recorder(), learners.append)
    assert {look["classifies"] for look in learners[0].looks} == {1.0}


def test_a_finetuned_checkpoint_is_a_start_and_a_teacher_as_any_other(workspace: Path) -> None:
    random_checkpoint(workspace)
    tuned = tune(workspace, config(Full()))
    stage = Pretrain(dataset="data", method=SIMCLR, encoder=CONV, train=TRAIN.model_copy(update={"epochs": 1.0}), init_from="tuned")
    pretrain(job(workspace, "go_on", stage, {"data": "data", "tuned": "tuned"}, {"": "go_on"}), Recorder())
    students = {"small": Student(**CONV.model_dump())}
    study = Distill(dataset="data", teacher="tuned", method=Hinton(), students=students, views=STUDENT_VIEWS, train=TRAIN)
    made = distill.distill(job(workspace, "study", study, {"data": "data", "tuned": "tuned"}, {"small": "study-small"}), Recorder())["small"]
    assert isinstance(made, Checkpoint)
    assert made.classes == tuned.classes


@pytest.mark.parametrize("name", ["unfreezing-vit", *(pytest.param(name, marks=pytest.mark.slow) for name in ("full-convnet", "lora-vit", "lp_ft-convnet"))])
def test_a_training_killed_again_and_again_ends_with_the_same_bytes(workspace: Path, name: str) -> None:
    random_checkpoint(workspace, CASES[name][1])
    expected = _run(workspace, name, "whole")
    for step in (7, 14):
        child = process(_run, workspace, name, "killed", workspace / "steps")
        _wait_for(workspace / "steps", step)
        os.kill(child.pid or 0, signal.SIGKILL)
        child.join(60)
    tracker = Recorder()
    assert _run(workspace, name, "killed", tracker=tracker).files == {**expected.files, "metrics.jsonl": expected.files["metrics.jsonl"]}
    assert any(note.startswith("goes on from step") for note in tracker.notes)


class _Slow(Recorder):
    """Writes every step down, and takes its time."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.file = file

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        self.file.write_text(str(step))
        time.sleep(0.03)


def _run(workspace: Path, name: str, key: str, steps: Path | None = None, tracker: Any = None) -> Checkpoint:
    torch.set_num_threads(1)
    return tune(workspace, config(CASES[name][0]), key, tracker or (_Slow(steps) if steps else None))


def _wait_for(file: Path, step: int) -> None:
    deadline = time.monotonic() + 60
    while not file.exists() or int(file.read_text() or 0) < step:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_whitened_checkpoint_takes_a_head_and_nothing_else(workspace: Path) -> None:
    before = random_checkpoint(workspace, CONV.model_copy(update={"whitening": 4}))
    assert moved(before, tune(workspace, config(LinearHead()))) == set()
    with pytest.raises(UserError, match=r"checkpoint 'start' is whitened, which cannot be trained: take strategy linear or mlp"):
        tune(workspace, config(Full()), "full")


def test_more_blocks_than_there_are_cannot_be_unfrozen(workspace: Path) -> None:
    random_checkpoint(workspace)
    with pytest.raises(UserError, match=r"strategy.groups 3 is more than the 2 blocks or stages of 'resnetv2_18': set it to 2 or less"):
        tune(workspace, config(Unfreezing(groups=3)))


def test_a_loss_that_is_not_finite_names_what_to_do_and_can_be_replayed(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forward(method: Classification, views: list[torch.Tensor], labels: torch.Tensor, progress: float) -> dict[str, torch.Tensor]:
        return {"cross_entropy": whole(method, views, labels, progress)["cross_entropy"] * (torch.nan if round(24 * progress) == 6 else 1.0)}

    random_checkpoint(workspace)
    whole = Classification.forward
    monkeypatch.setattr(Classification, "forward", forward)
    with pytest.raises(UserError, match=r"loss term 'cross_entropy' is nan at step 7: lower train.optimizer.learning_rate.*sslflow replay (\S+)") as raised:
        tune(workspace, config(Full()))
    assert replay(Path(str(raised.value).rpartition(" ")[2])).reproduced


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"views": {"count": 2}}, "a classifier sees one view of an image"),
        ({"views": {"count": 1, "local_count": 2}}, "a classifier sees one view of an image"),
        ({"encoder": CONV.model_dump(), "strategy": "lora"}, "lora is for a trained encoder"),
        ({"encoder": CONV.model_dump(), "batch_norm": "frozen"}, "has no statistics yet"),
        ({"encoder": CONV.model_dump(), "checkpoint": "start"}, "a checkpoint that it starts from, or an encoder"),
        ({"strategy": "linear", "batch_norm": "trained"}, "linear leaves the encoder's batch norms as they are"),
        ({"strategy": "lp_ft", "train": {"sharding": "fsdp"}}, "lp_ft trains more and more of the network, which fsdp cannot"),
    ],
    ids=str,
)
def test_what_cannot_be_right_is_refused_when_the_file_is_read(settings: dict[str, Any], message: str) -> None:
    from schemas.stages import Finetune

    start = {} if "encoder" in settings else {"checkpoint": "start"}
    with pytest.raises(ValueError, match=message):
        Finetune.model_validate({"dataset": "data", **start, **settings})

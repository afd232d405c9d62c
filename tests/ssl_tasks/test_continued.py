"""A stage that continues another has its method, teacher, centre and optimizer bit for bit, under schedules of its own."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from small_methods import CASES, Case, members
from tiny_pipeline import DINO, VIT, made, plan
from tiny_training import DINO as DINO_CONFIG
from tiny_training import SIMCLR, Recorder, make, ranks, stripes, weights
from tiny_training import VIT as VIT_CONFIG
from torch import Tensor

from schemas import methods as configs
from schemas.artifacts import Checkpoint, Report
from schemas.encoders import Encoder
from schemas.errors import InvalidPipeline, UserError
from schemas.training import SGD, AdamW, Optimizer, Train
from ssl_tasks import distributed
from ssl_tasks.checkpoints import load_encoder, load_training_state, save_training_state
from ssl_tasks.continued import hand_over, training_state
from ssl_tasks.data.draw import Draw
from ssl_tasks.learner import Learner
from ssl_tasks.train import fit

PRETRAINING = {name: case for name, case in CASES.items() if type(case.config) in members(configs.Method)}
CONSTANT = Train(epochs=4, batch_size=16, schedule="constant", warmup=0.0, optimizer=AdamW(learning_rate=5e-4))
LARGER = VIT_CONFIG.model_copy(update={"image_size": 16})


def trained(folder: Path, config: configs.Method = DINO_CONFIG, optimizer: Optimizer = CONSTANT.optimizer) -> Learner:
    settings = CONSTANT.model_copy(update={"optimizer": optimizer})
    return fit(make(config, VIT_CONFIG), stripes()[0], settings, seed=3, workdir=folder, tracker=Recorder())


def begun(kept: dict[str, Any], folder: Path, config: configs.Method = DINO_CONFIG, encoder: Encoder = VIT_CONFIG, settings: Train = CONSTANT) -> Learner:
    """A learner with other first weights, to which an earlier state is handed over, before its first step."""
    learner = Learner("", make(config, encoder, seed=99), settings, 16, 3, folder, torch.device("cpu")).prepare()
    hand_over(kept, learner, "teacher")
    return learner


def kept(learner: Learner, folder: Path) -> dict[str, Any]:
    """The state of a training as it comes out of a file that is read without running code."""
    folder.mkdir()
    save_training_state(folder, training_state(learner))
    state: dict[str, Any] = torch.load(folder / "training.pt", weights_only=True)
    return state


def moments(learner: Learner) -> dict[str, dict[str, bytes]]:
    """The optimizer's state as bytes, by parameter."""
    names = {parameter: name for name, parameter in learner.method.named_parameters()}
    return {
        names[parameter]: {key: torch.as_tensor(value).numpy().tobytes() for key, value in state.items()}  # type: ignore[index]  # an optimizer's state is keyed by parameter
        for parameter, state in learner.optimizer.state.items()
    }


def views(learner: Learner, channels: int = 1) -> list[Tensor]:
    return learner.method.views(torch.from_numpy(stripes(channels=channels)[0][:16]), Draw(torch.Generator().manual_seed(5), 16))


@pytest.mark.parametrize("optimizer", [AdamW(learning_rate=5e-4), SGD(learning_rate=0.01)], ids=lambda optimizer: optimizer.kind)
def test_method_and_optimizer_are_handed_over_bit_for_bit(tmp_path: Path, optimizer: Optimizer) -> None:
    earlier = trained(tmp_path, optimizer=optimizer)
    later = begun(kept(earlier, tmp_path / "kept"), tmp_path, settings=CONSTANT.model_copy(update={"optimizer": optimizer}))
    assert weights(later.method) == weights(earlier.method)
    assert moments(later) == moments(earlier) != {}
    assert later.done == 0


def test_the_step_after_is_the_one_that_the_earlier_training_would_have_made(tmp_path: Path) -> None:
    """At equal progress and rate, on the same views: the same loss and, bit for bit, the same weights, teacher, centre and moments."""
    earlier = trained(tmp_path)
    later = begun(kept(earlier, tmp_path / "kept"), tmp_path)
    later.done, steps = earlier.done, 2 * earlier.done
    for learner in (earlier, later):
        learner.step((views(learner),), steps)
    assert later.loss == earlier.loss
    assert weights(later.method) == weights(earlier.method)
    assert moments(later) == moments(earlier)
    anew = Learner("", make(DINO_CONFIG, VIT_CONFIG, seed=99), CONSTANT, 16, 3, tmp_path, torch.device("cpu")).prepare()
    anew.method.load_state_dict(training_state(trained(tmp_path))["method"])
    anew.done = later.done - 1
    anew.step((views(anew),), steps)
    assert weights(anew.method) != weights(later.method), "the optimizer's state must make a difference, or nothing was shown"


def test_positions_of_student_and_teacher_are_resampled_and_their_moments_start_anew(tmp_path: Path) -> None:
    earlier = trained(tmp_path)
    later = begun(kept(earlier, tmp_path / "kept"), tmp_path, encoder=LARGER)
    before, after = earlier.method.state_dict(), later.method.state_dict()
    resampled = {name for name in before if before[name].shape != after[name].shape}
    assert resampled == {"encoder.backbone.pos_embed", "teacher_encoder.network.backbone.pos_embed"}
    assert all(torch.equal(before[name], after[name]) for name in before if name not in resampled)
    assert after["encoder.backbone.pos_embed"].shape == (1, 1 + 16, 16)
    assert moments(later) == {name: state for name, state in moments(earlier).items() if name not in resampled}
    later.step((views(later),), 10)
    assert moments(later).keys() == moments(earlier).keys()


OF_ONE_SIZE = {"context_encoder"}
"""Methods whose decoder has weights for each place of the encoder's grid."""


@pytest.mark.parametrize("case", PRETRAINING.values(), ids=PRETRAINING)
def test_every_method_goes_on_at_a_higher_resolution(tmp_path: Path, case: Case) -> None:
    earlier = Learner("", case.make(0), CONSTANT, 16, 3, tmp_path, torch.device("cpu")).prepare()
    later = Learner(
        "", replace(case, encoder=case.encoder.model_copy(update={"image_size": 32})).make(1), CONSTANT, 16, 3, tmp_path, torch.device("cpu")
    ).prepare()
    earlier.step((views(earlier, case.encoder.channels),), 10)
    if case.config.kind in OF_ONE_SIZE:
        with pytest.raises(UserError, match="image_size where the method trains no part that is made for one size"):
            hand_over(training_state(earlier), later, "teacher")
        return
    note = hand_over(training_state(earlier), later, "teacher")
    before, after = earlier.method.state_dict(), later.method.state_dict()
    resampled = [name for name in before if before[name].shape != after[name].shape]
    assert all(name.endswith("backbone.pos_embed") for name in resampled)
    assert bool(resampled) == ("pos_embed" in note) == case.encoder.is_vit
    assert all(torch.equal(before[name], after[name]) for name in before if name not in resampled)
    later.step((views(later, case.encoder.channels),), 10)
    assert math.isfinite(later.loss)


@pytest.mark.parametrize("sharding", ["ddp", "fsdp"])
def test_two_ranks_go_on_from_the_same_state_whole_or_sharded(tmp_path: Path, sharding: str) -> None:
    earlier = trained(tmp_path)
    state = kept(earlier, tmp_path / "kept")
    ranks(2, _go_on, tmp_path, sharding)
    together = torch.load(tmp_path / "together.pt", weights_only=True)
    assert {name: value.numpy().tobytes() for name, value in together["method"].items()} == weights(earlier.method)
    assert together["optimizer"].keys() == state["optimizer"].keys()
    for name, of_one in state["optimizer"].items():
        assert all(torch.equal(torch.as_tensor(together["optimizer"][name][key]), value) for key, value in of_one.items())


def _go_on(folder: Path, sharding: Literal["ddp", "fsdp"]) -> None:
    state = torch.load(folder / "kept/training.pt", weights_only=True)
    learner = begun(state, folder, settings=CONSTANT.model_copy(update={"sharding": sharding}))
    learner.unshard()
    if distributed.is_main():
        torch.save(training_state(learner), folder / "together.pt")


@pytest.mark.parametrize(
    ("config", "encoder", "message"),
    [
        (
            SIMCLR,
            VIT_CONFIG,
            r"\.weight is missing; .*make `method` and `encoder` those of 'teacher'",
        ),
        (DINO_CONFIG.model_copy(update={"prototypes": 24}), VIT_CONFIG, r"head\.prototypes\.weight is \(16, 8\), not \(24, 8\)"),
        (DINO_CONFIG, VIT_CONFIG.model_copy(update={"width": 32}), r"'teacher' looks like a ViT of width 16, depth 1, .* is a ViT of width 32"),
    ],
    ids=["method", "head", "encoder"],
)
def test_the_state_of_another_method_or_encoder_is_refused(tmp_path: Path, config: configs.Method, encoder: Encoder, message: str) -> None:
    state = training_state(trained(tmp_path))
    with pytest.raises(UserError, match=message):
        begun(state, tmp_path, config, encoder)


PIPELINE = f"""
  teacher:
    kind: pretrain
    dataset: raw
    method: {DINO}
    encoder: &vit {VIT}
    train: {{epochs: 2, batch_size: 8, monitors: 1, optimizer: {{kind: adamw, learning_rate: 1e-4}}}}
    keep_training_state: true
  highres:
    kind: pretrain
    dataset: raw
    method: {{kind: dino, prototypes: 16, hidden: 16, bottleneck: 8, momentum: 0.99, views: {{blur: 0, solarize: 0, local_count: 1, local_size: 24}}}}
    encoder: {{<<: *vit, image_size: 48}}
    train: {{epochs: 1, batch_size: 8, monitors: 1, optimizer: {{kind: adamw, learning_rate: 2e-4}}}}
    continues: teacher
  report: {{kind: evaluate, dataset: raw, models: [teacher, highres], protocols: [{{kind: knn, k: 3}}], baselines: []}}
"""


def test_a_pipeline_goes_on_at_a_higher_resolution(tmp_path: Path) -> None:
    tracker = Recorder()
    artifacts = made(plan(PIPELINE, tmp_path), tracker=tracker)
    teacher, highres, report = artifacts["teacher"], artifacts["highres"], artifacts["report"]
    assert isinstance(teacher, Checkpoint)
    assert isinstance(highres, Checkpoint)
    assert isinstance(report, Report)
    assert "continues 'teacher'; resampled, with optimizer state anew: encoder.backbone.pos_embed" in tracker.notes
    assert highres.parents["teacher"] == teacher.key
    assert "training.pt" in teacher.files
    assert "training.pt" not in highres.files
    state = load_training_state(teacher)
    assert torch.equal(state["method"]["teacher_encoder.network.backbone.norm.weight"], load_encoder(teacher).backbone.norm.weight)
    encoder = load_encoder(highres)
    assert encoder(torch.zeros(1, 3, 48, 48)).shape == (1, 16)
    assert {name.split("/")[0] for name in report.metrics} == {"teacher", "highres"}
    assert plan(PIPELINE, tmp_path).todo == []


def test_damaged_training_state_is_refused_with_what_to_do(tmp_path: Path) -> None:
    teacher = made(plan(PIPELINE, tmp_path), "raw", "teacher")["teacher"]
    assert isinstance(teacher, Checkpoint)
    path = teacher.path("training.pt")
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(UserError, match=r"training.pt was cut short or altered.*makes stage 'teacher' anew"):
        load_training_state(teacher)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("keep_training_state: true", "seed: 3", "continues: 'teacher' does not keep its training state: set stages.teacher.keep_training_state to true"),
        ("<<: *vit, image_size: 48", "<<: *vit, image_size: 48, depth: 3", r"encoder.depth: continues 'teacher', whose encoder.depth is 2, not 3"),
        ("kind: adamw, learning_rate: 2e-4", "kind: sgd", r"optimizer: continues 'teacher', whose optimizer is adamw, not sgd"),
        ("continues: teacher", "continues: teacher\n    init_from: teacher", "a stage that continues another has its weights from there"),
        ("continues: teacher", "continues: raw", "'raw' makes a Dataset, wanted a Checkpoint"),
        ("continues: teacher", "continues: techer", "no stage 'techer'; did you mean 'teacher'?"),
    ],
)
def test_what_cannot_be_continued_is_an_error_of_the_file(tmp_path: Path, before: str, after: str, message: str) -> None:
    assert before in PIPELINE
    with pytest.raises(InvalidPipeline) as refused:
        plan(PIPELINE.replace(before, after), tmp_path)
    assert message in str(refused.value)
    assert len(refused.value.problems) == 1


def test_another_method_cannot_be_continued(tmp_path: Path) -> None:
    teacher, highres = PIPELINE.split("  highres:")
    simclr = highres.replace("kind: dino, prototypes: 16, hidden: 16, bottleneck: 8, momentum: 0.99,", "kind: simclr,")
    with pytest.raises(InvalidPipeline, match="continues 'teacher', whose method is dino, not simclr"):
        plan(f"{teacher}  highres:{simclr.replace('local_count: 1, local_size: 24', 'flip: 0')}", tmp_path)

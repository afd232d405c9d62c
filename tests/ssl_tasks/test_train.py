"""The training loop: what it sees, what it says, and that several ranks equal one process."""

import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_training import CONV, DINO, SIMCLR, TRAIN, VIT, Brightness, Recorder, make, ranks, stripes, train, weights
from torch import Tensor

from schemas import methods as configs
from schemas.encoders import Encoder
from schemas.errors import UserError
from schemas.training import SGD, AdamW, Train
from ssl_tasks import distributed
from ssl_tasks.data.loader import Batches, seed_of
from ssl_tasks.method import Terms
from ssl_tasks.monitors import Look
from ssl_tasks.train import fit

CPU = torch.device("cpu")


def numbered(count: int) -> np.ndarray:
    return np.arange(count, dtype=np.uint8)[:, None, None, None]


def test_training_lowers_the_loss_and_records_the_way_there(tmp_path: Path) -> None:
    tracker = Recorder()
    learner = train(SIMCLR, tmp_path, settings=TRAIN.model_copy(update={"epochs": 12.0, "optimizer": AdamW(learning_rate=2e-3)}), tracker=tracker)
    losses = [values["train/loss"] for _, values in tracker.points]
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.1
    assert [step for step, _ in tracker.points] == list(range(1, 61))
    assert [point["train/loss"] for point in learner.curve] == losses
    step, steps, shown = tracker.shown[-1]
    assert (step, steps) == (60, 60)
    assert shown["loss"] == pytest.approx(losses[-1])
    assert shown["images_per_second"] > 0
    assert shown["seconds_left"] == 0
    summary = learner.summary(16)
    assert summary["images_seen"] == 960
    assert summary["train/loss"] == losses[-1]


def test_every_epoch_sees_each_image_at_most_once_and_drops_what_makes_no_batch() -> None:
    batches = Batches(numbered(10), 3, seed=0, device=CPU)
    epochs = [np.concatenate([batches.rows(epoch * 3 + i) for i in range(3)]) for epoch in range(20)]
    assert all(len(set(epoch)) == 9 for epoch in epochs)
    assert set(np.concatenate(epochs)) == set(range(10))
    assert len({tuple(epoch) for epoch in epochs}) == 20


@pytest.mark.parametrize("ahead", [False, True], ids=["in turn", "read ahead"])
def test_the_loader_hands_over_the_rows_that_it_names(ahead: bool) -> None:
    batches = Batches(numbered(10), 4, seed=5, device=CPU)
    seen = dict(batches(1, 6, ahead))
    assert list(seen) == [1, 2, 3, 4, 5]
    assert all(images.flatten().tolist() == batches.rows(step).tolist() for step, images in seen.items())
    assert dict(batches(6, 6, ahead)) == {}


def test_seeds_differ_whenever_a_part_differs() -> None:
    assert len({seed_of(1, "views", 2), seed_of(1, "views", 3), seed_of(2, "views", 2), seed_of(1, "view", "s2"), seed_of(12, "views")}) == 5
    assert seed_of(1, "views", 2) == seed_of(1, "views", 2)


def test_steps_follow_from_fractional_epochs_and_whole_batches() -> None:
    assert Train(epochs=2.5, batch_size=4).steps(11) == 5
    assert Train(epochs=0.01, batch_size=4).steps(11) == 1
    assert Train(epochs=3, batch_size=64).steps(10) == 3


def test_a_set_smaller_than_a_batch_is_one_batch_and_that_is_said(tmp_path: Path) -> None:
    tracker = Recorder()
    learner = fit(Brightness(), stripes(10)[0], Train(epochs=3, batch_size=64), seed=0, workdir=tmp_path, tracker=tracker)
    assert learner.done == 3
    assert tracker.notes == ["only 10 images for a train.batch_size of 64: every step trains on all of them"]


def test_a_single_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="1 images to train on, at least 2"):
        fit(Brightness(), stripes(1)[0], Train(), seed=0, workdir=tmp_path, tracker=Recorder())


def test_hooks_frame_the_step_of_the_optimizer(tmp_path: Path) -> None:
    method = Brightness()
    fit(method, stripes(8)[0], Train(epochs=1, batch_size=4), seed=0, workdir=tmp_path, tracker=Recorder())
    assert method.calls == [("forward", 0.0), ("before", 0.0), ("after", 0.0), ("forward", 0.5), ("before", 0.5), ("after", 0.5)]


def test_a_loss_that_is_not_finite_names_its_term_and_step(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"loss term 'spoilt' is nan at step 3: lower train\.optimizer\.learning_rate"):
        fit(Brightness(spoil_at=3), stripes(20)[0], Train(epochs=1, batch_size=4), seed=0, workdir=tmp_path, tracker=Recorder())


def test_no_checkpoint_holds_what_came_after_a_loss_that_is_not_finite(tmp_path: Path) -> None:
    """Losses are read a few times a run only: a checkpoint in between must not be written blindly."""
    settings = Train(epochs=1000, batch_size=4, checkpoint_steps=2)
    with pytest.raises(UserError, match="step 3"):
        fit(Brightness(spoil_at=3), stripes(8)[0], settings, seed=0, workdir=tmp_path, tracker=Recorder())
    assert [path.name for path in (tmp_path / "checkpoints/model").iterdir()] == ["step-000000002.pt"]


def test_clipping_bounds_the_step(tmp_path: Path) -> None:
    moved = []
    for clip in (0.0, 0.01):
        method = Brightness()
        torch.nn.init.constant_(method.layer.weight, 1.0)
        settings = Train(epochs=1, batch_size=8, clip=clip, schedule="constant", warmup=0.0, optimizer=SGD(learning_rate=1.0, weight_decay=0.0))
        fit(method, stripes(8)[0], settings, seed=0, workdir=tmp_path / str(clip), tracker=Recorder())
        moved.append((method.layer.weight - 1).norm().item())
    assert moved[0] > 1
    assert moved[1] <= 0.01


@pytest.mark.parametrize("clip", [0.0, 0.01])
def test_the_norm_of_the_gradient_is_recorded_as_it_was_before_clipping(tmp_path: Path, clip: float) -> None:
    method, tracker = Brightness(), Recorder()
    images = stripes(8)[0]
    x = torch.from_numpy(images).float().flatten(1) / 255
    error = method.layer(x) - 1
    gradient = torch.cat([(2 * error * x).mean(dim=0), (2 * error).mean(dim=0)])
    fit(method, images, Train(epochs=1, batch_size=8, clip=clip), seed=0, workdir=tmp_path, tracker=tracker)
    assert tracker.points[0][1]["train/gradient_norm"] == pytest.approx(gradient.norm().item(), rel=1e-5)


def test_the_peak_of_the_learning_rate_is_told_as_it_is_used(tmp_path: Path) -> None:
    """Of the batch that the steps see, which may be smaller than the one that was asked for."""
    tracker = Recorder()
    settings = Train(epochs=4, batch_size=64, scale_rate="linear", reference_batch=16, warmup=0.0, schedule="constant", optimizer=SGD(learning_rate=0.001))
    fit(Brightness(), stripes(32)[0], settings, seed=0, workdir=tmp_path, tracker=tracker)
    assert tracker.facts["peak_learning_rate"] == pytest.approx(0.002)
    assert [values["train/learning_rate"] for _, values in tracker.points] == pytest.approx([0.002] * 4)


def test_weight_decay_moves_during_the_training(tmp_path: Path) -> None:
    """The gradient is nothing here, so that only decay moves the weights: by 1 - rate * decay a step."""

    class Idle(Brightness):
        def forward(self, views: list[Tensor], progress: float) -> Terms:
            return {"nothing": 0 * super().forward(views, progress)["pull"]}

    method = Idle()
    before = method.layer.weight.detach().clone()
    optimizer = SGD(learning_rate=0.5, weight_decay=0.1, momentum=0.0)
    settings = Train(epochs=2, batch_size=8, warmup=0.0, schedule="constant", optimizer=optimizer, weight_decay_end=0.3)
    fit(method, stripes(8)[0], settings, seed=0, workdir=tmp_path, tracker=Recorder())
    first, second = (0.2 - 0.1 * math.cos(math.pi * progress) for progress in (0.25, 0.75))
    torch.testing.assert_close(method.layer.weight.detach(), before * (1 - 0.5 * first) * (1 - 0.5 * second))


def test_the_time_that_steps_wait_for_images_is_told(tmp_path: Path) -> None:
    class Slow(np.ndarray):
        def __getitem__(self, rows: Any) -> Any:
            time.sleep(0.02)
            return np.asarray(super().__getitem__(rows))

    tracker = Recorder()
    learner = fit(Brightness(), stripes(8)[0].view(Slow), Train(epochs=2, batch_size=4), seed=0, workdir=tmp_path, tracker=tracker)
    waited = [values["train/data_seconds"] for _, values in tracker.points]
    assert len(waited) == 4
    assert min(waited) >= 0.02
    assert learner.summary(4)["data_seconds"] == pytest.approx(sum(waited), abs=0.002)
    assert 0.08 <= learner.waited <= learner.seconds
    assert not any("train/data_seconds" in point for point in learner.curve)  # the curve is the same whenever it is made again


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(tmp_path: Path) -> None:
    results = []
    for i, seed in enumerate((3, 3, 4)):
        method = make(SIMCLR)
        fit(method, stripes()[0], TRAIN, seed=seed, workdir=tmp_path / str(i), tracker=Recorder())
        results.append(weights(method))
    assert results[0] == results[1]
    assert results[0] != results[2]


@pytest.mark.parametrize("config", [SIMCLR, DINO], ids=lambda config: config.kind)
def test_looking_at_a_training_does_not_change_it(tmp_path: Path, config: configs.Method) -> None:
    images, labels = stripes()
    unseen, seen = make(config), make(config)
    fit(unseen, images, TRAIN, seed=3, workdir=tmp_path / "unseen", tracker=Recorder())
    learner = fit(seen, images, TRAIN, seed=3, workdir=tmp_path / "seen", tracker=Recorder(), look=Look(images, labels, 0, CPU))
    assert len(learner.looks) == 1 + 2 + 4
    assert weights(unseen) == weights(seen)


@pytest.mark.parametrize(("config", "encoder"), [(SIMCLR, CONV), (DINO, VIT)], ids=["simclr", "dino"])
def test_two_ranks_equal_one_process(tmp_path: Path, config: configs.Method, encoder: Encoder) -> None:
    """The ranks' weights also equal each other's, though only the first one's are kept."""
    ranks(2, _train_and_keep, config, encoder, tmp_path)
    alone = train(config, tmp_path / "alone", encoder, _EXACT).method.state_dict()
    start = make(config, encoder).state_dict()
    assert max((alone[name].float() - start[name].float()).abs().max().item() for name in start if name.endswith("weight")) > 0.01
    for rank in (0, 1):
        together = torch.load(tmp_path / f"rank{rank}.pt", weights_only=True)
        assert together.keys() == alone.keys()
        for name, value in alone.items():
            torch.testing.assert_close(together[name], value, rtol=1e-4, atol=1e-5, msg=name)


_EXACT = TRAIN.model_copy(update={"optimizer": SGD(learning_rate=0.005)})
"""Adam, or ten times this rate, would blow up the rounding by which two ranks differ from one process, step by step."""


def _train_and_keep(config: configs.Method, encoder: Encoder, folder: Path) -> None:
    learner = train(config, folder / "together", encoder, _EXACT)
    torch.save(learner.method.state_dict(), folder / f"rank{distributed.rank()}.pt")


def test_a_batch_that_ranks_cannot_share_is_refused(tmp_path: Path) -> None:
    ranks(2, _train_odd_batch, tmp_path)
    assert (tmp_path / "message0").read_text() == "train.batch_size 15 cannot be shared out among 2 devices: make it a multiple of 2"


def _train_odd_batch(folder: Path) -> None:
    try:
        train(SIMCLR, folder, settings=Train(epochs=1, batch_size=15))
    except UserError as error:
        (folder / f"message{distributed.rank()}").write_text(str(error))

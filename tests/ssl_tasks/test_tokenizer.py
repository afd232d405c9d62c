"""The tokenizer stage: what it makes, that a pretraining takes it, that it goes on where it stopped, and that a collapse is told."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from tiny_pipeline import made, plan
from tiny_training import Recorder, ranks, stripes, weights

from schemas.artifacts import Checkpoint, Tokenizer
from schemas.errors import Collapse
from schemas.stages import Tokenizer as Stage
from ssl_tasks import distributed
from ssl_tasks.checkpoints import load_tokenizer, load_training_state
from ssl_tasks.data.draw import Draw
from ssl_tasks.evaluate.leaks import trained_on
from ssl_tasks.lineage import behind
from ssl_tasks.methods import restored
from ssl_tasks.monitors import Look
from ssl_tasks.nn.dvae import DVAE
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.tokenizer.tokenizing import Tokenizing, measured
from ssl_tasks.train import fit

WORDS = """
  words: {kind: tokenizer, dataset: raw, train: {epochs: 2, batch_size: 8, monitors: 1, checkpoint_steps: 1},
          network: {image_size: 32, patch_size: 8, vocabulary: 12, dim: 6, width: 8, depth: 1}}
"""
TEACHER = """
  teacher: {kind: pretrain, dataset: raw, train: {epochs: 1, batch_size: 8, monitors: 1}, method: {kind: beit, tokenizer: words}, keep_training_state: true,
            encoder: {name: vit_tiny_patch16_224, image_size: 32, patch_size: 8, width: 16, depth: 1, heads: 2}}
"""


def stage(**fields: Any) -> Stage:
    """A small tokenizer of the stripes."""
    network = {"image_size": 8, "patch_size": 4, "channels": 1, "vocabulary": 16, "dim": 8, "width": 16, "depth": 1}
    train = {"epochs": 4, "batch_size": 16, "optimizer": {"kind": "adamw", "learning_rate": 3e-3}, "checkpoint_steps": 5, "monitors": 4}
    plain = {"dataset": "raw", "network": network, "train": train, "views": {"flip": 0.0, "scale": [0.6, 1.0]}}
    return Stage.model_validate({**plain, **fields, "train": {**train, **fields.pop("train", {})}})


SGD = stage(train={"optimizer": {"kind": "sgd", "learning_rate": 0.01}, "on_collapse": "warn"})
"""Adam would blow up the rounding by which two ranks differ from one process, step by step."""


def tokenizing(config: Stage, seed: int = 0) -> Tokenizing:
    torch.manual_seed(seed)
    return Tokenizing(config, DVAE(config.network))


def trained(config: Stage, workdir: Path, tracker: Recorder | None = None) -> Tokenizing:
    torch.set_num_threads(1)
    images, labels = stripes()
    learner = fit(tokenizing(config), images, config.train, seed=3, workdir=workdir, tracker=tracker or Recorder(), look=Look(images, labels, 0, "cpu"))
    assert isinstance(learner.method, Tokenizing)
    return learner.method


@pytest.mark.slow
def test_a_tokenizer_is_made_and_a_pretraining_learns_its_words(tmp_path: Path) -> None:
    other = "  other: {kind: curate, dataset: raw, steps: [integrity]}\n" + WORDS.replace("dataset: raw", "dataset: other")
    artifacts = made(plan(other + TEACHER, tmp_path))
    raw, seen, words, teacher = (artifacts[name] for name in ("raw", "other", "words", "teacher"))
    assert isinstance(words, Tokenizer)
    assert isinstance(teacher, Checkpoint)
    assert set(words.files) == {"model.safetensors", "reconstructions.png", "metrics.jsonl"}
    assert {"word_perplexity", "words_used", "reconstruction_error", "parameters", "train/loss", "monitor/word_perplexity"} <= set(words.metrics)
    assert 1 <= words.metrics["word_perplexity"] <= words.metrics["words_used"] <= 12
    network = load_tokenizer(words)
    assert network.config == words.network
    with Image.open(words.path("reconstructions.png")) as picture:
        assert picture.size == (2 * 12 * 32, 2 * 2 * 32)  # 12 images of 32 px at twice their size, in two rows
    again = plan(other + TEACHER, tmp_path)
    assert again.todo == []
    assert teacher.parents == {"raw": raw.key, "words": words.key}
    assert {dataset.key for dataset in trained_on(again.job(again.stages["teacher"]), teacher)} == {raw.key, seen.key}
    folder = {artifact.key: artifact.folder for artifact in artifacts.values()}
    said = {link.name: link.summary for link in behind({"teacher": teacher.key}, lambda key: folder[key])}
    assert list(said) == ["teacher", "words", "other", "raw"]
    assert "12 words of 8 px at 32 px" in said["words"]
    method: Any = restored(teacher.config["method"], TimmEncoder(teacher.encoder), load_training_state(teacher)["method"])
    assert weights(method.tokenizer) == weights(network)


def test_other_words_make_another_teacher(tmp_path: Path) -> None:
    keys = [plan(text + TEACHER, tmp_path).stages["teacher"].outputs[""] for text in (WORDS, WORDS.replace("vocabulary: 12", "vocabulary: 13"))]
    assert keys[0] != keys[1]


@pytest.mark.slow
def test_words_come_to_tell_images(tmp_path: Path) -> None:
    """Of a world of four kinds of patches: each has a word of its own, and is drawn again by it."""
    kinds = np.random.default_rng(0).integers(0, 4, (64, 1, 2, 2))
    images = (kinds * 85).astype(np.uint8).repeat(4, 2).repeat(4, 3)
    config = stage(
        views={"scale": [1.0, 1.0], "ratio": [1.0, 1.0], "flip": 0.0},
        kl_weight=0.1,
        train={"epochs": 40, "optimizer": {"kind": "adamw", "learning_rate": 0.01}},
    )
    method = tokenizing(config)
    fit(method, images, config.train, seed=3, workdir=tmp_path, tracker=Recorder())
    [crops, _] = method.views(torch.from_numpy(images), Draw(torch.Generator().manual_seed(0), 64))
    assert measured(method.network, crops)["reconstruction_error"] < 0.02
    words = method.network.words(crops).numpy().ravel()
    spoken = [set(words[kinds.ravel() == kind]) for kind in range(4)]
    assert all(not first & second for i, first in enumerate(spoken) for second in spoken[i + 1 :])


@pytest.mark.slow
def test_a_training_that_was_stopped_goes_on_bit_for_bit(tmp_path: Path) -> None:
    config = stage()
    whole = trained(config, tmp_path / "whole")
    newest = sorted((tmp_path / "whole" / "checkpoints" / "model").glob("step-*.pt"))
    newest[-1].unlink()
    again = Recorder()
    resumed = trained(config, tmp_path / "whole", again)
    assert any("goes on from step 15" in note for note in again.notes)
    assert weights(resumed) == weights(whole)


def test_the_temperature_falls_along_a_cosine_and_then_stays() -> None:
    method = tokenizing(stage(annealing=0.5))
    assert [method.temperature(progress) for progress in (0.0, 0.25, 0.5, 0.9)] == pytest.approx([1.0, (1 + 1 / 16) / 2, 1 / 16, 1 / 16])


def test_the_weight_of_the_divergence_rises_and_is_that_of_a_pixel_value() -> None:
    method = tokenizing(stage(kl_weight=6.6, kl_rise=0.2)).eval()
    views = method.views(torch.from_numpy(stripes()[0][:16]), Draw(torch.Generator().manual_seed(0), 16))
    kl = [method(views, progress)["kl"].item() for progress in (0.0, 0.1, 0.2, 0.9)]
    assert kl[0] == 0
    assert kl[1:] == pytest.approx([kl[2] / 2, kl[2], kl[2]])
    q = method.network.logits(views[0]).double().softmax(-1).detach().numpy()
    assert kl[2] == pytest.approx(6.6 / (1 * 4 * 4) * (q * np.log(q * 16)).sum(-1).mean(), rel=1e-4)


def test_two_halves_of_a_batch_have_the_mean_of_its_terms_and_of_its_gradients() -> None:
    """So that several ranks train as one: the loss is a mean over images, and each rank draws the whole batch's numbers."""
    method, images = tokenizing(stage()).double(), torch.from_numpy(stripes()[0][:16])

    def gradients(own: slice) -> dict[str, Any]:
        views = [view.double() for view in method.views(images[own], Draw(torch.Generator().manual_seed(0), 16, own))]
        method.zero_grad()
        sum(method(views, 0.5).values()).backward()
        return {name: p.grad.clone() for name, p in method.named_parameters() if p.grad is not None}

    whole, *halves = (gradients(own) for own in (slice(0, 16), slice(0, 8), slice(8, 16)))
    assert len(whole) == len(list(method.parameters()))
    for name, gradient in whole.items():
        assert torch.allclose((halves[0][name] + halves[1][name]) / 2, gradient, rtol=1e-9, atol=1e-12), name


def work(folder: Path) -> None:
    """What one of two processes does."""
    method = trained(SGD, folder)
    if distributed.is_main():
        torch.save(method.state_dict(), folder / "trained.pt")


@pytest.mark.slow
def test_two_ranks_train_as_one_process(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    ranks(2, work, tmp_path)
    for name, value in trained(SGD, tmp_path / "one").state_dict().items():
        assert torch.allclose(torch.load(tmp_path / "trained.pt")[name], value, atol=1e-4), name


def test_looking_changes_nothing_and_tells_how_many_words_are_used() -> None:
    method = tokenizing(stage()).eval()
    before = weights(method)
    views = method.views(torch.from_numpy(stripes()[0]), Draw(torch.Generator().manual_seed(0), 80))
    seen = method.monitored(views)
    counts = np.bincount(method.network.words(views[0]).numpy().ravel(), minlength=16) / (80 * 4)
    used = counts[counts > 0]
    assert seen["word_perplexity"] == pytest.approx(np.exp(-(used * np.log(used)).sum()))
    assert seen["words_used"] == len(used)
    assert weights(method) == before


def test_one_word_for_everything_is_told_as_a_collapse(tmp_path: Path) -> None:
    config = stage(train={"optimizer": {"kind": "sgd", "learning_rate": 1e-9}})
    method, (images, labels) = tokenizing(config), stripes()
    with torch.no_grad():
        method.network.told.bias[3] = 100.0
    with pytest.raises(Collapse, match=r"nearly all patches are told by the same word \(perplexity 1\.00\): .* lower kl_weight"):
        fit(method, images, config.train, seed=3, workdir=tmp_path, tracker=Recorder(), look=Look(images, labels, 0, "cpu"))


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"temperature": [0.1, 1.0]}, r"temperature \[0.1, 1\] must fall, to above 0"),
        ({"train": {"layer_decay": 0.9}}, "layer_decay is for an encoder, and a tokenizer has none: leave it out"),
        ({"train": {"accumulate": 2}}, "accumulate is for an encoder"),
        ({"views": {"count": 2}}, "this method"),
        ({"kl_rise": 0.0}, "kl_rise"),
    ],
)
def test_what_a_tokenizer_cannot_be_trained_by_is_refused(fields: dict[str, Any], line: str) -> None:
    with pytest.raises(ValidationError, match=line):
        stage(**fields)

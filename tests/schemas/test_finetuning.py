"""Finetune stages in a pipeline: what is refused and what is advised before anything runs."""

import pytest

from schemas.advice import advice
from schemas.errors import UserError
from schemas.load import loads
from schemas.pipeline import Pipeline
from schemas.references import encoder_of

PIPELINE = """
name: one
stages:
  raw: {kind: ingest, source: digits}
  conv: {kind: pretrain, dataset: raw, method: {kind: simclr, views: {flip: 0}}, encoder: {name: resnet18, image_size: 32, channels: 1, stem: half}}
  vit: {kind: pretrain, dataset: raw, method: {kind: simclr, views: {flip: 0}}, encoder: {name: vit_tiny_patch16_224, image_size: 32, channels: 1}}
  students:
    kind: distill
    dataset: raw
    teacher: vit
    method: feature
    students: {small: {name: resnet18, image_size: 32, channels: 1, stem: half}}
    views: {count: 1, flip: 0}
  white: {kind: whiten, dataset: raw, checkpoint: vit}
"""


def pipeline(stage: str) -> Pipeline:
    return loads(f"{PIPELINE}  tuned: {{kind: finetune, dataset: raw, {stage}}}\n")


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ("checkpoint: conv, strategy: lora", "stages.tuned.strategy: lora adapts the blocks of a vision transformer, and 'resnet18' has none"),
        ("checkpoint: students.small, strategy: lora", "lora adapts the blocks of a vision transformer, and 'resnet18' has none"),
        ("checkpoint: white, strategy: full", "'white' is whitened, which cannot be trained: take linear or mlp, or its checkpoint 'vit'"),
        ("checkpoint: vit, views: {count: 2}", "stages.tuned.views.count: a classifier sees one view of an image"),
        ("checkpoint: raw", "'raw' makes a Dataset, wanted a Checkpoint"),
        ("strategy: linear", "a checkpoint that it starts from, or an encoder that it trains from nothing"),
        ("checkpoint: vit, labels: 0", "stages.tuned.labels"),
    ],
)
def test_what_cannot_be_right_is_refused_where_it_is_written(stage: str, message: str) -> None:
    with pytest.raises(UserError) as raised:
        pipeline(stage)
    assert message in str(raised.value)


@pytest.mark.parametrize("stage", ["checkpoint: vit, strategy: lora", "checkpoint: students.small", "checkpoint: white, strategy: linear"])
def test_what_may_be_right_is_taken(stage: str) -> None:
    pipeline(stage)


@pytest.mark.parametrize(
    ("checkpoint", "name"),
    [("vit", "vit_tiny_patch16_224"), ("students.small", "resnet18"), ("white", "vit_tiny_patch16_224"), ("tuned", "resnet18"), ("raw", None)],
)
def test_the_encoder_of_a_checkpoint_is_known_before_it_is_made(checkpoint: str, name: str | None) -> None:
    encoder = encoder_of(checkpoint, pipeline("checkpoint: students.small").stages)
    assert (encoder.name if encoder else None) == name


def test_mirrored_digits_are_advised_against() -> None:
    messages = {loc[2:]: message for loc, message in advice(pipeline("checkpoint: vit, train: {batch_size: 64}"))}
    assert "mirrored character of 'digits'" in messages["views", "flip"]
    assert ("views", "flip") not in {loc[2:] for loc, _ in advice(pipeline("checkpoint: vit, views: {flip: 0}, train: {batch_size: 64}"))}


def test_a_batch_of_more_images_than_have_labels_is_told() -> None:
    messages = [message for _, message in advice(pipeline("checkpoint: vit, labels: 0.01, views: {flip: 0}, train: {batch_size: 64}"))]
    assert any("a batch of 64 is more than the 13 images that there are" in message for message in messages)

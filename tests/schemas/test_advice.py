"""Warnings before a run: each has a pipeline that gets it, and those that ship get none."""

import re
from pathlib import Path

import pytest
import yaml

from schemas.advice import advice
from schemas.load import loads, warnings
from schemas.methods import Method, MethodSpec
from schemas.pipeline import Pipeline
from schemas.shapes import kinds

ROOT = Path(__file__).resolve().parents[2]
BASE = """
name: one
stages:
  raw: {{kind: ingest, source: {source}}}
  model:
    kind: pretrain
    dataset: raw
    method: {method}
    encoder: {encoder}
    train: {train}
"""
VIT, RESNET = "{name: vit_small_patch16_224}", "{name: resnet50}"
FOLDER, DIGITS = "{kind: folder, path: images}", "digits"
GREY = "{name: resnet18, image_size: 16, channels: 1, stem: half}"
SOUND = "{batch_size: 512, warmup: 0.1, optimizer: {kind: adamw, learning_rate: 1.0e-3}}"
SHORT = "{batch_size: 128, epochs: 20}"
LONG = "{batch_size: 128, epochs: 400}"
NO_FLIP = "views: {flip: 0}"


def pipeline(method: str, encoder: str = VIT, train: str = SOUND, source: str = FOLDER) -> Pipeline:
    return loads(BASE.format(method=method, encoder=encoder, train=train, source=source))


def told(*parts: str) -> dict[str, str]:
    """Messages by their place within the stage."""
    return {".".join(map(str, loc[2:])): message for loc, message in advice(pipeline(*parts))}


@pytest.mark.parametrize(
    ("parts", "place", "reason"),
    [
        (("simclr", RESNET, "{batch_size: 32}"), "train.batch_size", "simclr is weak with batches of 32: .* below 256"),
        (("simclr", GREY, "{batch_size: 2000}", DIGITS), "train.batch_size", "more than the 1,297 images"),
        (("simclr", GREY, LONG, DIGITS), "method.views.flip", "mirrored character of 'digits'"),
        (("simclr", GREY, LONG, "{kind: torchvision, name: MNIST}"), "method.views.flip", "mirrored character of 'MNIST'"),
        (("{kind: simclr, views: {jitter: 0, grey: 0}}", RESNET), "method.views", "histogram alone"),
        (("{kind: byol, momentum: 1.0}", RESNET), "method.momentum", "never leaves its random start"),
        (("{kind: byol, momentum: 0.0}", RESNET), "method.momentum", "nearly the student itself"),
        (("{kind: moco_v2, momentum: 0.5}", RESNET), "method.momentum", "nearly the student itself"),
        (("{kind: dino, prototypes: 512, views: {flip: 0}}", GREY, SHORT, DIGITS), "method.momentum", "after 200 steps .* still 67% its random start"),
        (("{kind: moco_v2, queue: 4096}", GREY, LONG, DIGITS), "method.queue", "4,096 is longer than the 1,297 images"),
        (("{kind: moco_v2, momentum: 0.99, queue: 65536}", RESNET), "method.queue", "128 steps, 72% of the key encoder is replaced"),
        (("dino", GREY, LONG, DIGITS), "method.prototypes", "65,536 prototypes for 1,297 images"),
        (("{kind: dino, prototypes: 4}",), "method.prototypes", "no more groups"),
        (("{kind: simclr, temperature: 0.001}", RESNET), "method.temperature", "sees only the nearest negative"),
        (("{kind: simclr, temperature: 20.0}", RESNET), "method.temperature", "hardly tells"),
        (("{kind: dino, teacher_temperature: 0.09}",), "method.teacher_temperature", "hardly sharper than the student's 0.1"),
        (("{kind: vicreg, variance: 0}", RESNET), "method.variance", "collapse to one point"),
        (("{kind: vicreg, covariance: 0}", RESNET), "method.covariance", "all dimensions may say the same"),
        (("{kind: barlow_twins, redundancy: 0}", RESNET), "method.redundancy", "all dimensions may say the same"),
        (("{kind: dino, center_momentum: 1}",), "method.center_momentum", "one prototype win every image"),
        (("byol", RESNET, "{optimizer: {kind: sgd, weight_decay: 0}}"), "train.optimizer.weight_decay", "BYOL without weight decay"),
        (("{kind: mae, mask_ratio: 0.1}",), "method.mask_ratio", "too easy"),
        (("{kind: mae, mask_ratio: 0.95}",), "method.mask_ratio", "too hard"),
        (("dino", "{name: vit_small_patch16_224, patch_size: 4}"), "encoder.image_size", "3,136 patches .* 256 times"),
        (("{kind: dino, views: {local_size: 32}}",), "method.views.local_size", "2x2 patches of 16 px"),
        (("simclr", "{name: resnet18, image_size: 32}"), "encoder.stem", "leaves 1x1 positions of 32 px"),
        (("dino", VIT, "{batch_size: 512, warmup: 0}"), "train.warmup", "without a warm-up"),
        (("dino", VIT, "{optimizer: {kind: adamw, learning_rate: 0.1}}"), "train.optimizer.learning_rate", "more than 10 times what DINO"),
        (("dino", VIT, "{optimizer: {kind: adamw, learning_rate: 1.0e-6}}"), "train.optimizer.learning_rate", "less than a thirtieth"),
        (("simsiam", RESNET, "{optimizer: {kind: sgd, learning_rate: 30.0}}"), "train.optimizer.learning_rate", "more than 10 times what SimSiam"),
    ],
    ids=lambda value: None if isinstance(value, tuple) else value,
)
def test_what_papers_found_weak_is_told_with_its_reason(parts: tuple[str, ...], place: str, reason: str) -> None:
    found = told(*parts)
    assert place in found
    assert re.search(reason, found[place])
    assert "\n" not in found[place]


@pytest.mark.parametrize(
    "parts",
    [
        ("simclr", RESNET),
        ("moco_v2", RESNET),
        ("moco_v3", VIT),
        ("{kind: swav, queue: 3840}", RESNET),
        ("barlow_twins", RESNET),
        ("vicreg", RESNET),
        ("byol", RESNET),
        ("simsiam", RESNET, "{batch_size: 512, optimizer: {kind: sgd, learning_rate: 0.1}}"),
        ("dino", VIT),
        ("ibot", VIT),
        ("dinov2", VIT),
        ("dinov3", VIT),
        ("mae", VIT),
        ("{kind: simclr, views: {flip: 0}}", GREY, LONG, DIGITS),
        ("{kind: simclr, views: {flip: 0.5}}", GREY, "{batch_size: 256}", "{kind: torchvision, name: FashionMNIST}"),
        ("simclr", "{name: resnet18, image_size: 32, stem: cifar}", "{batch_size: 256}", "{kind: torchvision, name: CIFAR10}"),
        ("{kind: dino, prototypes: 512, momentum: 0.99, views: {flip: 0}}", GREY, LONG, DIGITS),
    ],
    ids=lambda parts: f"{parts[0]} on {parts[-1]}",
)
def test_what_papers_do_gets_no_warning(parts: tuple[str, ...]) -> None:
    assert told(*parts) == {}


def test_the_pipelines_that_ship_get_no_warning() -> None:
    shipped = sorted((ROOT / "workflows").glob("*.yaml"))
    assert shipped
    assert {path.name: warnings(path) for path in shipped} == {path.name: [] for path in shipped}


def test_a_warning_stands_where_what_it_is_about_is_written(tmp_path: Path) -> None:
    file = tmp_path / "one.yaml"
    file.write_text(BASE.format(method="{kind: dino, prototypes: 4}", encoder=VIT, train=SOUND, source=FOLDER))
    (found,) = warnings(file)
    assert str(found).startswith(f"{file}:8:38 stages.model.method.prototypes: 4 prototypes can tell")


def test_a_warning_about_a_default_stands_at_the_nearest_that_is_written(tmp_path: Path) -> None:
    file = tmp_path / "one.yaml"
    file.write_text(BASE.format(method="dino", encoder=GREY, train=LONG, source=DIGITS))
    assert [str(found).removeprefix(f"{file}:").split(": ")[0] for found in warnings(file)] == ["8:13 stages.model.method"] * 2


def test_an_upper_bound_of_images_is_followed_through_curation() -> None:
    text = BASE.format(method="{kind: dino, prototypes: 1000}", encoder=VIT, train=SOUND, source=FOLDER).replace("dataset: raw", "dataset: few")
    text += "  few: {kind: curate, dataset: raw, steps: [{kind: balance, keep: 900}]}\n"
    assert any("1,000 prototypes for 900 images" in message for _, message in advice(loads(text)))


def test_every_student_is_looked_at() -> None:
    document = yaml.safe_load((ROOT / "workflows/quickstart.yaml").read_text())
    document["stages"]["students"]["train"]["warmup"] = 0
    document["stages"]["students"]["students"]["odd"] = {"name": "resnet18", "image_size": 32, "channels": 1}
    places = [loc for loc, _ in advice(loads(yaml.safe_dump(document)))]
    assert places == [("stages", "students", "students", "odd", "stem"), ("stages", "students", "train", "warmup")]


SMOOTHED = """
name: one
stages:
  raw: {kind: ingest, source: {kind: folder, path: images}}
  tuned: {kind: finetune, dataset: raw, encoder: {name: resnet18}, smoothing: SHARE}
  first: {kind: distill, dataset: raw, method: {kind: cross_entropy, smoothing: SHARE}, students: {s: {name: resnet18}}}
  model: {kind: distill, dataset: raw, teacher: TEACHER, method: METHOD, students: {small: {name: resnet10t}}, train: {warmup: 0.1}}
"""


@pytest.mark.parametrize("teacher", ["tuned", "first.s"])
def test_students_of_class_scores_are_warned_of_a_teacher_trained_with_label_smoothing(teacher: str) -> None:
    def warned(share: str, method: str) -> list[str]:
        written = SMOOTHED.replace("SHARE", share).replace("TEACHER", teacher).replace("METHOD", method)
        return [message for loc, message in advice(loads(written)) if loc == ("stages", "model", "teacher")]

    (message,) = warned("0.1", "hinton")
    assert re.search(f"'{teacher}' was trained with label smoothing 0.1, .* set its smoothing to 0", message)
    assert warned("0.0", "hinton") == []
    assert warned("0.1", "feature") == []


ABLE = {"vit": VIT, "swin": "{name: swin_tiny_patch4_window7_224}", "convnextv2": "{name: convnextv2_atto}"}


@pytest.mark.parametrize("kind", kinds(Method))
def test_no_method_is_warned_of_as_its_paper_has_it(kind: str) -> None:
    spec = kinds(Method)[kind]
    assert issubclass(spec, MethodSpec)
    method = f"{{kind: {kind}, tokenizer: words}}" if "tokenizer" in spec.takes else kind
    encoder = ABLE[spec.architectures[0]] if spec.architectures else RESNET
    text = BASE.format(method=method, encoder=encoder, train="{batch_size: 1024, epochs: 300}", source=FOLDER)
    assert advice(loads(text + "  words: {kind: tokenizer, dataset: raw}\n")) == []


def test_a_queue_longer_than_the_images_is_told_by_what_it_is_for() -> None:
    told_of = told("{kind: nnclr, queue: 4096}", GREY, LONG, DIGITS)["method.queue"]
    assert told_of.endswith("also the query's own image as its own nearest neighbour")

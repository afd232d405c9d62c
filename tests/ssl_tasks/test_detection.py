"""Detection: COCO's average precision, the feature pyramid, and what a short training finds."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from evaluated import done, job
from numpy.typing import NDArray
from PIL import Image
from small_world import SmallWorld, protocol

from schemas.annotations import places
from schemas.encoders import Encoder
from schemas.errors import UserError
from schemas.protocols.dense import Detection
from ssl_tasks.data.annotations.interfaces import Objects
from ssl_tasks.evaluate.dense.coco_ap import COCOScores, Found
from ssl_tasks.evaluate.dense.detection import detector, find, judge
from ssl_tasks.evaluate.dense.pyramid import Pyramid
from ssl_tasks.evaluate.findings import Skipped
from ssl_tasks.evaluate.protocols import apply
from ssl_tasks.nn.encoder import TimmEncoder

SIDE = 64
Boxes = NDArray[np.float32]


def truth(boxes: Any, labels: Any, crowd: Any = None, masks: NDArray[np.bool_] | None = None) -> Objects:
    flags = np.zeros(len(labels), bool) if crowd is None else np.array(crowd)
    return Objects(np.array(boxes, np.float32).reshape(-1, 4), np.array(labels, np.int64), flags, masks)


def found(boxes: Any, labels: Any, scores: Any, masks: NDArray[np.bool_] | None = None) -> Found:
    return Found(np.array(boxes, np.float32).reshape(-1, 4), np.array(labels, np.int64), np.array(scores, np.float32), masks)


def scored(images: list[tuple[Objects, Found]], classes: int, what: Any = "bbox") -> tuple[float, float]:
    scores = COCOScores(classes)
    for true, said in images:
        scores.add(true, said, (SIDE, SIDE))
    return scores.average_precision(what)


def overlap(a: Boxes, b: Boxes) -> float:
    width, height = (max(0.0, min(a[i + 2], b[i + 2]) - max(a[i], b[i])) for i in range(2))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return width * height / (areas[0] + areas[1] - width * height)


def average_precision(images: list[tuple[Objects, Found]], label: int, threshold: float) -> float:
    """From the definition: surest first, each takes the best object left; precision at 101 recalls is the best at that recall or beyond."""
    order = sorted(((-s, i, k) for i, (_, said) in enumerate(images) for k, s in enumerate(said.scores.tolist()) if said.labels[k] == label))
    taken: set[tuple[int, int]] = set()
    hits = []
    for _, i, k in order:
        true = images[i][0]
        rivals = [(overlap(true.boxes[o], images[i][1].boxes[k]), o) for o in np.flatnonzero(true.labels == label).tolist() if (i, o) not in taken]
        best = max(rivals, default=(0.0, -1))
        hits.append(best[0] >= threshold)
        taken |= {(i, best[1])} if hits[-1] else set()
    total = sum(int((true.labels == label).sum()) for true, _ in images)
    right = np.cumsum(np.array(hits, np.float64))
    precision, recall = right / np.arange(1, len(hits) + 1), right / total
    return float(np.mean([precision[recall >= r].max(initial=0.0) for r in np.linspace(0, 1, 101)]))


def jittered(seed: int) -> list[tuple[Objects, Found]]:
    """Objects that are found more or less exactly, some not at all, and some where nothing is."""
    random, images = np.random.default_rng(seed), []
    for _ in range(12):
        corners = random.integers(0, 30, (random.integers(0, 4), 2))
        boxes = np.concatenate([corners, corners + random.integers(8, 30, corners.shape)], 1).astype(np.float64)
        labels = random.integers(0, 2, len(boxes))
        kept = random.random(len(boxes)) < 0.8
        near = boxes[kept] + random.normal(0, 2, (int(kept.sum()), 4))
        stray = np.array([[1.0, 2.0, 12.0, 14.0]]) + random.integers(0, 40)
        images.append((truth(boxes, labels), found([*near, *stray], [*labels[kept], random.integers(0, 2)], random.random(len(near) + 1))))
    return images


@pytest.mark.parametrize("seed", range(4))
def test_average_precision_is_that_of_its_definition(seed: int) -> None:
    images = jittered(seed)
    at = {t: np.mean([average_precision(images, label, t) for label in range(2)]) for t in np.linspace(0.5, 0.95, 10).round(2)}
    ap, ap50 = scored(images, 2)
    assert ap == pytest.approx(np.mean(list(at.values())), abs=1e-9)
    assert ap50 == pytest.approx(at[0.5], abs=1e-9)


def test_perfect_boxes_and_masks_give_one() -> None:
    masks = np.zeros((2, SIDE, SIDE), bool)
    masks[0, 4:20, 6:30], masks[1, 30:60, 32:50] = True, True
    true = truth([[6, 4, 30, 20], [32, 30, 50, 60]], [0, 1], masks=masks)
    said = found(true.boxes, true.labels, [0.9, 0.8], masks)
    assert scored([(true, said)], 2) == pytest.approx((1.0, 1.0), abs=1e-12)
    assert scored([(true, said)], 2, "segm") == pytest.approx((1.0, 1.0), abs=1e-12)
    shifted = said._replace(masks=np.roll(masks, 20, axis=2))
    assert scored([(true, shifted)], 2, "segm")[0] < 0.1


def test_one_of_two_objects_is_half_of_the_recalls() -> None:
    true = truth([[0, 0, 20, 20], [30, 30, 60, 60]], [0, 0])
    assert scored([(true, found(true.boxes[:1], [0], [0.9]))], 1) == pytest.approx((51 / 101, 51 / 101))


def test_what_is_found_in_a_crowd_counts_for_nothing() -> None:
    true = truth([[0, 0, 20, 20], [30, 30, 60, 60]], [0, 0], crowd=[False, True])
    surer = found([[31, 31, 50, 50], [0, 0, 20, 20]], [0, 0], [0.9, 0.5])
    assert scored([(true, surer)], 1) == pytest.approx((1.0, 1.0), abs=1e-12)


def test_what_is_found_in_an_image_without_objects_costs() -> None:
    true, empty = truth([[0, 0, 20, 20]], [0]), truth([], [])
    right, stray = found(true.boxes, [0], [0.5]), found([[5, 5, 30, 30]], [0], [0.9])
    assert scored([(true, right), (empty, stray)], 1) == pytest.approx((0.5, 0.5))
    assert scored([(true, right), (empty, found([], [], []))], 1) == pytest.approx((1.0, 1.0), abs=1e-12)
    assert scored([(true, found([], [], []))], 1) == (0.0, 0.0)
    with pytest.raises(UserError, match=r"the 1 annotated test images show no object; annotate some"):
        scored([(empty, stray)], 1)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SmallWorld:
    return SmallWorld(tmp_path_factory.mktemp("detection"))


@pytest.mark.parametrize(("name", "strides"), [("vit", [2, 4, 8, 16, 32]), ("convnet", [1, 2, 4, 8, 16])])
def test_an_encoder_gives_maps_of_several_strides(world: SmallWorld, name: str, strides: list[int]) -> None:
    pyramid = Pyramid(world.subject(name).encoder, 12).eval()
    assert pyramid.strides == strides
    maps = list(pyramid(torch.randn(1, 3, 64, 96)).values())
    assert [tuple(m.shape) for m in maps] == [(1, 12, -(-64 // s), -(-96 // s)) for s in strides]


def test_patches_of_14_pixels_stand_for_16_of_the_image() -> None:
    """Detectors pool at strides that are powers of two; a map of another stride would be read at the wrong places."""
    config: dict[str, Any] = {"name": "vit_tiny_patch16_224", "image_size": 28, "patch_size": 14, "width": 24, "depth": 1, "heads": 2}
    pyramid = Pyramid(TimmEncoder(Encoder(**config)).eval(), 12).eval()
    assert pyramid.strides == [4, 8, 16, 32, 64]
    assert [tuple(m.shape[2:]) for m in pyramid(torch.randn(1, 3, 64, 96)).values()] == [(16, 24), (8, 12), (4, 6), (2, 3), (1, 2)]


def test_a_frozen_encoder_is_not_trained(world: SmallWorld) -> None:
    subject = world.subject("vit")
    for frozen in (True, False):
        asked = protocol("detection", frozen=frozen)
        assert isinstance(asked, Detection)
        model: Any = detector(subject, 3, asked).train()
        target = {"boxes": torch.tensor([[4.0, 4.0, 30.0, 30.0]]), "labels": torch.tensor([1])}
        sum(model([torch.rand(3, 48, 48)], [target]).values()).backward()
        got = [p.grad is not None for p in model.backbone.encoder.backbone.blocks.parameters()]
        assert not any(got) if frozen else all(got)
        assert not model.backbone.encoder.training


def test_boxes_are_in_the_pixels_of_the_image_whatever_it_is_resized_to(world: SmallWorld) -> None:
    asked = protocol("detection", size=80)
    assert isinstance(asked, Detection)
    model = detector(world.subject("vit"), 3, asked).eval()
    model.roi_heads.score_thresh = 0.0  # type: ignore[union-attr]  # a network that nobody trained is sure of nothing
    said = find(model, torch.zeros(3, 40, 50, dtype=torch.uint8))
    assert len(said.boxes)
    assert 40 < said.boxes[:, 2].max() <= 50
    assert said.boxes[:, 3].max() <= 40


def squares(workspace: Path) -> str:
    """A world of one bright square an image, annotated as COCO does it; six of the train images have none. Gives the data set's key."""
    random, images, annotations = np.random.default_rng(0), [], []
    for number in range(40):
        name = f"{'train' if number < 30 else 'test'}/{number:02d}.png"
        picture = random.integers(0, 60, (40, 40, 3)).astype(np.uint8)
        images.append({"id": number, "file_name": name, "width": 40, "height": 40})
        if number >= 6:
            side, (left, top) = int(random.integers(14, 22)), random.integers(0, 18, 2).tolist()
            picture[top : top + side, left : left + side] += 180
            box = [left, top, side, side]
            annotations.append({"id": number, "image_id": number, "category_id": 7, "bbox": box, "area": side * side, "iscrowd": 0})
        (workspace / "squares" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(workspace / "squares" / name)
    told = {"images": images, "annotations": annotations, "categories": [{"id": 7, "name": "square"}]}
    (workspace / "squares.json").write_text(json.dumps(told))
    source = {"kind": "folder", "path": "squares", "splits": True}
    return done(job(workspace, "squares", {"kind": "ingest", "source": source}, {}))[""].key


SQUARES = {"kind": "coco", "file": "squares.json"}


@pytest.fixture(scope="module")
def squared(tmp_path_factory: pytest.TempPathFactory) -> SmallWorld:
    world = SmallWorld(tmp_path_factory.mktemp("squared"))
    world.inputs["raw"] = squares(world.workspace)
    return world


def test_images_without_any_box_may_be_trained_on(squared: SmallWorld) -> None:
    numbers, _ = apply(protocol("detection", annotations=SQUARES, steps=3, batch_size=12), squared.subject("vit"))
    assert {number.metric: number.n for number in numbers} == {"box_ap": 10, "box_ap50": 10}


def test_masks_that_nobody_drew_are_missed_in_a_line(squared: SmallWorld) -> None:
    with pytest.raises(Skipped, match=r"^cannot be judged: .*masks"):
        apply(protocol("detection", annotations=SQUARES, masks=True), squared.subject("vit"))


def test_whether_masks_are_wanted_is_no_file() -> None:
    assert places([protocol("detection", annotations=SQUARES, masks=True)]) == [("detection", "annotations.file", "squares.json")]


@pytest.mark.slow
def test_a_short_training_finds_big_squares(squared: SmallWorld) -> None:
    asked = protocol("detection", annotations=SQUARES, steps=60, batch_size=4, width=16, learning_rate=3e-3)
    found = {number.metric: number.values[0] for number in judge(asked, squared.subject("vit"))}  # type: ignore[arg-type]  # a Detection
    assert found["box_ap50"] > 0.5
    assert found["box_ap50"] >= found["box_ap"] > 0.1


@pytest.mark.slow
def test_a_mask_is_judged_as_its_box_is(world: SmallWorld) -> None:
    numbers, _ = apply(protocol("detection", masks=True), world.subject("convnet"))
    assert [number.metric for number in numbers] == ["box_ap", "box_ap50", "mask_ap", "mask_ap50"]

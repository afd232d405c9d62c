"""Scenes: deterministic pictures of which everything is known."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from schemas.sources import Scenes
from ssl_tasks.data import scenes, shapes, sources
from ssl_tasks.data.images import open_image


def test_a_scene_is_a_function_of_seed_and_index() -> None:
    first, again = scenes.draw(3, 5, 48), scenes.draw(3, 5, 48)
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.mask, again.mask)
    assert np.array_equal(first.depth, again.depth)
    assert (first.boxes, first.label) == (again.boxes, again.label)
    assert not np.array_equal(first.image, scenes.draw(3, 6, 48).image)
    assert not np.array_equal(first.image, scenes.draw(4, 5, 48).image)


def test_another_size_is_the_same_scene() -> None:
    for index in range(8):
        small, large = scenes.draw(0, index, 32), scenes.draw(0, index, 128)
        shrunk = np.asarray(Image.fromarray(large.image).resize((32, 32), Image.Resampling.BOX)).astype(float)
        assert np.abs(shrunk - small.image).mean() < 10  # edges and fine texture differ; another scene is more than 30 away
        assert (large.mask[2::4, 2::4] == small.mask).mean() > 0.9


@pytest.mark.parametrize("index", range(12))
def test_mask_boxes_depth_and_label_agree(index: int) -> None:
    scene = scenes.draw(1, index, 64)
    assert scene.image.shape == (64, 64, 3)
    assert scene.image.dtype == scene.mask.dtype == np.uint8
    ground = scene.mask == 0
    assert 3.8 < scene.depth[ground].min() < scene.depth.max() <= 10
    assert scene.depth[~ground].max() < 3.8
    assert {box.name for box in scene.boxes} == {scenes.CLASSES[value] for value in np.unique(scene.mask[~ground])}
    assert scene.label in {box.name for box in scene.boxes}
    covered = np.zeros_like(ground)
    for box in scene.boxes:
        inside = scene.mask[box.top : box.bottom, box.left : box.right] == scenes.CLASSES.index(box.name)
        assert inside.any()
        assert 0 < box.visible <= 1
        covered[box.top : box.bottom, box.left : box.right] = True
    assert not (~ground & ~covered).any()


def test_a_nearer_shape_hides_a_farther_one() -> None:
    found = [scenes.draw(0, i, 64) for i in range(60)]
    hidden = [scene for scene in found if any(box.visible < 0.7 for box in scene.boxes)]
    assert len(hidden) > 5
    for scene in hidden:
        nearest = scene.boxes[-1]
        assert nearest.visible == 1
        values = scene.depth[scene.mask > 0]
        inside = scene.depth[nearest.top : nearest.bottom, nearest.left : nearest.right]
        assert values.min() == inside.min()


@pytest.mark.parametrize("name", shapes.SHAPES)
def test_each_shape_is_filled_where_its_distance_is_negative(name: str) -> None:
    y, x = np.meshgrid(np.linspace(-1.3, 1.3, 131), np.linspace(-1.3, 1.3, 131), indexing="ij")
    inside = shapes.distance(name, x, y) < 0
    assert 0.3 < inside.mean() * 2.6**2 < 3.2  # a visible part of the unit circle, whose area is 3.14
    assert not inside[np.hypot(x, y) > 1.11].any()


def test_the_area_of_polygons_is_that_of_geometry() -> None:
    y, x = np.meshgrid(np.linspace(-1.3, 1.3, 521), np.linspace(-1.3, 1.3, 521), indexing="ij")
    pixel = (2.6 / 520) ** 2
    for name, area in {
        "square": 2 * 1.05**2,
        "triangle": 3 * np.sqrt(3) / 4 * 1.1**2,
        "hexagon": 3 * np.sqrt(3) / 2 * 0.95**2,
        "cross": 4 * 0.92 * 0.6 - 0.36,
        "star": 5 * 1.1 * 0.45 * np.sin(np.pi / 5),
    }.items():
        assert (shapes.distance(name, x, y) < 0).sum() * pixel == pytest.approx(area, rel=0.01)


def test_all_classes_occur_and_none_prevails() -> None:
    labels = [scenes.draw(0, i, 16).label for i in range(400)]
    counts = {name: labels.count(name) for name in shapes.SHAPES}
    assert min(counts.values()) > 10
    assert max(counts.values()) < 120


def test_the_source_writes_images_and_what_is_known_of_them_once(tmp_path: Path) -> None:
    source = Scenes(count=10, size=24, test=0.3, seed=2)
    sources.materialise(source, tmp_path)
    found = sources.files(source, tmp_path)
    assert sorted((f.path.stem, f.split) for f in found) == [(f"{i:05d}", "train" if i < 7 else "test") for i in range(10)]
    root = scenes.place(source, tmp_path)
    assert root.parent == tmp_path / ".sslflow/generated"
    boxes = json.loads((root / "boxes.json").read_text())
    for file in found:
        scene = scenes.draw(2, int(file.path.stem), 24)
        assert file.label == scene.label
        assert np.array_equal(np.asarray(open_image(file.path)), scene.image)
        assert np.array_equal(np.asarray(Image.open(root / "masks" / file.path.name)), scene.mask)
        assert np.abs(np.asarray(Image.open(root / "depth" / file.path.name)) / 1000 - scene.depth).max() <= 0.001
        assert boxes[file.path.name] == [box._asdict() for box in scene.boxes]
    before = {p: p.stat().st_mtime_ns for p in root.rglob("*")}
    sources.materialise(source, tmp_path)
    assert {p: p.stat().st_mtime_ns for p in root.rglob("*")} == before
    assert scenes.place(Scenes(count=10, size=24, test=0.3, seed=3), tmp_path) != root

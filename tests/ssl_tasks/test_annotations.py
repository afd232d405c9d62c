"""Annotations: what folders, COCO files, VOC files and drawn scenes say of an image, and a line for each fault in them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_masks

from schemas.annotations import COCO, VOC, DepthFolder, Drawn, MaskFolder
from schemas.artifacts import sha256
from schemas.errors import UserError
from schemas.sources import Scenes
from ssl_tasks.data import manifest, scenes, sources
from ssl_tasks.data.annotations.interfaces import VOID
from ssl_tasks.data.annotations.load import boxes, depths, masks
from ssl_tasks.data.annotations.pictures import Pictures

WIDTH, HEIGHT = 10, 8


def listed(workspace: Path, uris: list[str]) -> Pictures:
    """Pictures of files that are there."""
    fields = {"bytes": 0, "width": None, "height": None, "mode": None, "label": None, "split": "train"}
    table = manifest.build([{"uri": uri, "sha256": sha256(workspace / uri), **fields} for uri in uris])
    return Pictures(table, workspace, uris)


def save(path: Path, values: Any, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values)).save(path, **options)


@pytest.fixture
def pictures(tmp_path: Path) -> Pictures:
    """Two grey pictures, 10 wide and 8 high."""
    uris = ["images/train/cat/1.jpg", "images/test/dog/2.png"]
    for uri in uris:
        save(tmp_path / uri, np.full((HEIGHT, WIDTH), 99, np.uint8))
    return listed(tmp_path, uris)


class TestMaskFolders:
    def test_a_value_is_its_class_and_void_values_are_none(self, pictures: Pictures) -> None:
        values = np.zeros((HEIGHT, WIDTH), np.uint8)
        values[:2], values[2:4], values[4:5] = 1, 2, 255
        save(pictures.workspace / "masks/1.png", values)
        found = masks(MaskFolder(path="masks", classes=["sky", "cat", "dog"]), pictures)
        assert found.classes == ["sky", "cat", "dog"]
        assert found.of(0)[:, 0].tolist() == [1, 1, 2, 2, VOID, 0, 0, 0]
        assert [found.has(row) for row in (0, 1)] == [True, False]

    def test_a_class_that_is_void_leaves_no_gap(self, pictures: Pictures) -> None:
        save(pictures.workspace / "masks/1.png", np.repeat(np.arange(4, dtype=np.uint8), 20).reshape(HEIGHT, WIDTH))
        found = masks(MaskFolder(path="masks", classes=["sky", "void", "cat", "dog"], void=[1]), pictures)
        assert found.classes == ["sky", "cat", "dog"]
        assert found.of(0)[:, 0].tolist() == [0, 0, VOID, VOID, 1, 1, 2, 2]

    def test_an_indexed_picture_gives_its_indices_not_its_colours(self, pictures: Pictures) -> None:
        indexed = Image.fromarray(np.tile(np.arange(WIDTH, dtype=np.uint8) % 3, (HEIGHT, 1)), mode="P")
        indexed.putpalette([200, 0, 0, 0, 200, 0, 0, 0, 200])
        (pictures.workspace / "masks").mkdir()
        indexed.save(pictures.workspace / "masks/1.png")
        found = masks(MaskFolder(path="masks"), pictures)
        assert found.of(0)[0].tolist() == [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]
        assert found.classes == ["0", "1", "2"]  # as many as occur

    def test_a_mask_is_found_by_the_end_of_its_images_path(self, tmp_path: Path) -> None:
        uris = ["a/cat/1.png", "a/dog/1.png"]
        for value, uri in enumerate(uris):
            save(tmp_path / uri, np.zeros((4, 4), np.uint8))
            save(tmp_path / "masks" / Path(uri).relative_to("a"), np.full((4, 4), value, np.uint8))
        found = masks(MaskFolder(path="masks"), listed(tmp_path, uris))
        assert [int(found.of(row).max()) for row in (0, 1)] == [0, 1]

    def test_an_image_is_as_it_is_seen_upright(self, tmp_path: Path) -> None:
        turned = Image.Exif()
        turned[0x0112] = 6
        save(tmp_path / "1.jpg", np.zeros((8, 10), np.uint8), exif=turned)
        save(tmp_path / "masks/1.png", np.zeros((10, 8), np.uint8))
        pictures = listed(tmp_path, ["1.jpg"])
        assert pictures.size(0) == (10, 8)
        assert pictures.pixels(0, 3).shape == (3, 10, 8)
        assert masks(MaskFolder(path="masks"), pictures).of(0).shape == (10, 8)


class TestDepthFolders:
    def test_16_bits_are_millimetres_and_0_is_unknown(self, pictures: Pictures) -> None:
        values = np.full((HEIGHT, WIDTH), 2_500, np.uint16)
        values[0] = 0
        save(pictures.workspace / "depth/1.png", values)
        found = depths(DepthFolder(path="depth"), pictures).of(0)
        assert found[0].tolist() == [0] * WIDTH
        assert found[1:].tolist() == [[2.5] * WIDTH] * (HEIGHT - 1)

    def test_an_array_may_be_in_metres_and_what_is_no_number_is_unknown(self, pictures: Pictures) -> None:
        (pictures.workspace / "depth").mkdir()
        values = np.full((HEIGHT, WIDTH), 3.25, np.float32)
        values[0, :3] = np.nan, np.inf, -1
        np.save(pictures.workspace / "depth/1.npy", values)
        found = depths(DepthFolder(path="depth", metre=1), pictures).of(0)
        assert found[0].tolist() == [0, 0, 0] + [3.25] * 7


def coco(**parts: Any) -> dict[str, Any]:
    """Of picture 1 a rectangle as a polygon, the left column of a crowd as run lengths, and a box without area; of picture 2 nothing."""
    column = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
    column[:, 0] = 1
    packed = coco_masks.encode(column)
    objects = [
        {"image_id": 5, "category_id": 7, "bbox": [2, 1, 4, 3], "segmentation": [[2, 1, 6, 1, 6, 4, 2, 4]]},
        {"image_id": 5, "category_id": 3, "bbox": [0, 0, 1, 8], "iscrowd": 1, "segmentation": {"counts": [0, 8, 72], "size": [8, 10]}},
        {"image_id": 5, "category_id": 3, "bbox": [0, 0, 1, 8], "segmentation": {"counts": packed["counts"].decode(), "size": [8, 10]}},
        {"image_id": 5, "category_id": 3, "bbox": [3, 3, 0, 2], "segmentation": [[3, 3, 3, 5, 3, 4]]},
    ]
    images = [{"id": i, "file_name": name, "width": WIDTH, "height": HEIGHT} for i, name in ((5, "cat/1.jpg"), (6, "2.png"))]
    return {"images": images, "annotations": objects, "categories": [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}]} | parts


class TestCOCO:
    def test_boxes_are_from_edge_to_edge_with_their_masks(self, pictures: Pictures) -> None:
        (pictures.workspace / "coco.json").write_text(json.dumps(coco()))
        found = boxes(COCO(file="coco.json"), pictures)
        assert (found.classes, found.masked) == (["cat", "dog"], True)
        objects = found.of(0)
        assert objects.boxes.tolist() == [[2, 1, 6, 4], [0, 0, 1, 8], [0, 0, 1, 8]]
        assert objects.labels.tolist() == [1, 0, 0]
        assert objects.crowd.tolist() == [False, True, False]
        assert objects.masks is not None
        for mask, (left, top, right, bottom) in zip(objects.masks, objects.boxes.astype(int), strict=True):
            expected = np.zeros((HEIGHT, WIDTH), bool)
            expected[top:bottom, left:right] = True
            assert np.array_equal(mask, expected)

    def test_an_image_without_objects_is_annotated(self, pictures: Pictures) -> None:
        (pictures.workspace / "coco.json").write_text(json.dumps(coco()))
        found = boxes(COCO(file="coco.json"), pictures)
        assert found.has(1)
        objects = found.of(1)
        assert (objects.boxes.shape, objects.labels.shape) == ((0, 4), (0,))
        assert objects.masks is not None
        assert objects.masks.shape == (0, HEIGHT, WIDTH)

    def test_as_classes_of_pixels_the_smallest_object_is_on_top(self, pictures: Pictures) -> None:
        whole = {"image_id": 5, "category_id": 3, "bbox": [0, 0, 10, 8], "segmentation": [[0, 0, 10, 0, 10, 8, 0, 8]]}
        (pictures.workspace / "coco.json").write_text(json.dumps(coco(annotations=[coco()["annotations"][0], whole])))
        found = masks(COCO(file="coco.json"), pictures)
        assert found.classes == ["background", "cat", "dog"]
        expected = np.ones((HEIGHT, WIDTH), int)
        expected[1:4, 2:6] = 2
        assert np.array_equal(found.of(0), expected)
        assert not found.of(1).any()


VOC_XML = """<annotation><size><width>10</width><height>8</height></size>
<object><name>dog</name><difficult>1</difficult><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>10</xmax><ymax>8</ymax></bndbox></object>
<object><name>cat</name><bndbox><xmin>3</xmin><ymin>2</ymin><xmax>6</xmax><ymax>4</ymax></bndbox></object></annotation>"""


def test_voc_counts_pixels_from_one_and_includes_the_last(pictures: Pictures) -> None:
    (pictures.workspace / "xml").mkdir()
    (pictures.workspace / "xml/1.xml").write_text(VOC_XML)
    found = boxes(VOC(path="xml"), pictures)
    assert (found.classes, found.masked, found.has(1)) == (["cat", "dog"], False, False)
    objects = found.of(0)
    assert objects.boxes.tolist() == [[0, 0, 10, 8], [2, 1, 6, 4]]
    assert objects.labels.tolist() == [1, 0]
    assert objects.crowd.tolist() == [True, False]
    assert objects.masks is None


def test_of_drawn_scenes_all_is_known_as_it_was_drawn(tmp_path: Path) -> None:
    source = Scenes(count=12, size=32, seed=4)
    sources.materialise(source, tmp_path)
    uris = [str(found.path.relative_to(tmp_path)) for found in sources.files(source, tmp_path)]
    pictures = listed(tmp_path, uris)
    known, depth, objects = masks(Drawn(), pictures), depths(Drawn(), pictures), boxes(Drawn(), pictures)
    for row, uri in enumerate(uris):
        scene, found = scenes.draw(4, int(Path(uri).stem), 32), objects.of(row)
        assert np.array_equal(known.of(row), scene.mask)
        assert np.abs(depth.of(row) - scene.depth).max() <= 0.001
        assert found.boxes.tolist() == [list(box[1:5]) for box in scene.boxes]
        assert [objects.classes[label] for label in found.labels] == [box.name for box in scene.boxes]
        assert found.masks is not None
        assert np.array_equal(found.masks.sum(0), scene.mask > 0)  # every pixel of a shape is one shape's
        for mask, box in zip(found.masks, scene.boxes, strict=True):
            assert len(np.unique(scene.depth[mask])) == 1
            assert set(scene.mask[mask]) == {scenes.CLASSES.index(box.name)}


def _written(name: str, text: str) -> Callable[[Path], None]:
    def write(workspace: Path) -> None:
        (workspace / name).parent.mkdir(exist_ok=True)
        (workspace / name).write_text(text)

    return write


def _mask(values: Any) -> Callable[[Path], None]:
    return lambda workspace: save(workspace / "masks/1.png", values)


MASKS, DEPTHS, FILE, XML = MaskFolder(path="masks", classes=["a", "b"]), DepthFolder(path="depth"), COCO(file="coco.json"), VOC(path="xml")


@pytest.mark.parametrize(
    ("load", "config", "write", "told"),
    [
        (masks, MASKS, lambda _: None, r"no folder of annotations .*masks; the path is relative to the workspace"),
        (masks, MASKS, _written("masks/read.me", ""), r"masks holds no \.png, .* file"),
        (masks, MASKS, _written("masks/1.png", "text"), r"cannot read .*masks/1\.png \(it is no picture\)"),
        (masks, MASKS, _mask(np.zeros((4, 5), np.uint8)), r"masks/1\.png is 5 x 4 pixels, but its image .*cat/1\.jpg 10 x 8: make them the same"),
        (masks, MASKS, _mask(np.full((8, 10), 2, np.uint8)), r"masks/1\.png has the value 2, but there are 2 classes: add to `classes`, or to `void`"),
        (masks, MASKS, _mask(np.zeros((8, 10, 3), np.uint8)), r"masks/1\.png has colours \(RGB\)"),
        (masks, MASKS, lambda w: save(w / "masks/2.png", np.zeros((8, 10), np.uint8)), r"masks has nothing for image .*cat/1\.jpg: annotate it"),
        (depths, DEPTHS, _written("depth/1.npy", "text"), r"depth/1\.npy is no NumPy file of numbers"),
        (masks, Drawn(), lambda _: None, r"annotations `drawn` are known of images of the source `scenes` alone \(.*cat/1\.jpg is none\)"),
        (boxes, FILE, lambda _: None, r"cannot read .*coco\.json \(No such file or directory\); the path is relative to the workspace"),
        (boxes, FILE, _written("coco.json", '{"images": [\n1, }'), r"coco\.json is no JSON: line 2, column 4"),
        (boxes, FILE, _written("coco.json", "[]"), r"coco\.json is no COCO file: it has no list `images`"),
        (boxes, FILE, _written("coco.json", json.dumps(coco(annotations=[{"image_id": 5}]))), r"annotations\[0\] has no 'category_id'"),
        (boxes, FILE, _written("coco.json", json.dumps(coco(annotations=[{"image_id": 1, "category_id": 3}]))), r"annotations\[0\] is of image 1, which"),
        (boxes, FILE, _written("coco.json", json.dumps(coco(annotations=[{"image_id": 5, "category_id": 3, "bbox": 1}]))), r"annotations\[0\]\.bbox is no"),
        (masks, FILE, _written("coco.json", json.dumps(coco(annotations=[{"image_id": 5, "category_id": 3}]))), r"annotations\[0\] has no `segmentation`"),
        (boxes, FILE, _written("coco.json", json.dumps(coco()).replace("2.png", "9.png")), r"names images that are not in the data set \(9\.png\): mend"),
        (boxes, FILE, _written("coco.json", json.dumps(coco()).replace('"width": 10', '"width": 11')), r"image cat/1\.jpg in .* is 11 x 8 pixels, but"),
        (boxes, XML, _written("xml/1.xml", "<annotation>"), r"xml/1\.xml is no XML: .*line 1, column 12"),
        (boxes, XML, _written("xml/1.xml", "<a><object><name>x</name></object></a>"), r"xml/1\.xml: an object has no bndbox/xmin"),
        (boxes, XML, _written("xml/9.xml", VOC_XML), r"xml has files of images that are not in the data set \(9\): remove them"),
    ],
)  # fmt: skip
def test_a_fault_is_one_line(pictures: Pictures, load: Any, config: Any, write: Callable[[Path], None], told: str) -> None:
    write(pictures.workspace)
    with pytest.raises(UserError, match=told) as error:
        load(config, pictures).of(0)
    assert "\n" not in str(error.value)


def test_a_name_that_is_of_two_images_is_refused(tmp_path: Path) -> None:
    for uri in ("cat/1.png", "dog/1.png", "masks/1.png"):
        save(tmp_path / uri, np.zeros((4, 4), np.uint8))
    with pytest.raises(UserError, match=r"'1' of .*masks is of two images, .*cat/1\.png and .*dog/1\.png: name it by more of the path"):
        masks(MaskFolder(path="masks"), listed(tmp_path, ["cat/1.png", "dog/1.png"]))

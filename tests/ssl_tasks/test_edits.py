"""Edits of a picture, as copies of it are made."""

import numpy as np
import pytest
from PIL import Image

from ssl_tasks.data.edits import CALIBRATION, EDITS, HELD_OUT, copy


def picture(mode: str, size: tuple[int, int] = (60, 40)) -> Image.Image:
    coarse = Image.fromarray(np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8))
    return coarse.resize(size, Image.Resampling.BICUBIC).convert(mode)


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("name", EDITS)
def test_an_edit_changes_the_picture_but_not_its_mode_and_leaves_the_original_alone(name: str, mode: str) -> None:
    image = picture(mode)
    before = image.tobytes()
    made = copy(image, name, 0, 3)
    assert made.mode == mode
    assert image.tobytes() == before
    assert (made.tobytes() != before or made.size != image.size) != (name == "grey" and mode == "L")


@pytest.mark.parametrize("name", EDITS)
def test_a_copy_follows_from_seed_and_id_alone(name: str) -> None:
    first, again = (copy(picture("RGB"), name, 1, 5) for _ in range(2))
    assert (first.size, first.tobytes()) == (again.size, again.tobytes())
    others = [copy(picture("RGB"), name, 1, image_id) for image_id in range(6, 12)]
    assert any((o.size, o.tobytes()) != (first.size, first.tobytes()) for o in others) != (name in ("flipped", "grey"))


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (3, 50), (50, 2)])
@pytest.mark.parametrize("name", EDITS)
def test_no_picture_is_too_small_for_an_edit(name: str, size: tuple[int, int]) -> None:
    for image_id in range(4):
        assert min(copy(picture("RGB", size), name, 0, image_id).size) >= 1


def test_what_descriptors_are_judged_on_is_not_what_thresholds_are_calibrated_on() -> None:
    assert not CALIBRATION.keys() & HELD_OUT.keys()
    assert EDITS.keys() == CALIBRATION.keys() | HELD_OUT.keys()


def test_a_crop_is_a_part_of_the_picture() -> None:
    image = picture("L")
    made = np.asarray(copy(image, "cropped", 0, 0))
    whole, (height, width) = np.asarray(image), made.shape
    assert 0.55 < made.size / whole.size < 0.97
    places = [(top, left) for top in range(40 - height + 1) for left in range(60 - width + 1)]
    assert any(np.array_equal(whole[top : top + height, left : left + width], made) for top, left in places)


def test_a_border_surrounds_the_whole_picture() -> None:
    image = picture("RGB")
    made = copy(image, "bordered", 0, 0)
    margin = (made.width - image.width) // 2
    assert margin in range(1, 5)
    assert np.array_equal(np.asarray(made)[margin:-margin, margin:-margin], np.asarray(image))

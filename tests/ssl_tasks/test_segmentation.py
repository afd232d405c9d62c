"""Segmentation by a linear head: mIoU against a count pixel by pixel, windows over images of any size, and what a planted encoder reaches."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from colour_world import MASKS, ColourWorld, Planted
from PIL import Image
from small_world import protocol
from torch import Tensor
from torch.nn.functional import cross_entropy, interpolate

from ssl_tasks.data.annotations.interfaces import VOID
from ssl_tasks.evaluate.dense.examples import cut
from ssl_tasks.evaluate.dense.head import bands, starts, upsampled
from ssl_tasks.evaluate.dense.segmentation import confusion, ious, judge, loss, scaled
from ssl_tasks.evaluate.findings import Skipped
from ssl_tasks.evaluate.protocols import apply


class TestMeanIoU:
    def test_it_agrees_with_a_count_pixel_by_pixel(self) -> None:
        random = np.random.default_rng(0)
        truth, said = random.integers(-1, 5, (30, 40)), random.integers(0, 5, (30, 40))
        truth[truth == 3] = 2  # class 3 is only ever predicted
        pairs = [(t, s) for t, s in zip(truth.ravel().tolist(), said.ravel().tolist(), strict=True) if t != VOID]
        expected = [sum(t == s == k for t, s in pairs) / sum(k in (t, s) for t, s in pairs) for k in range(5)]
        assert ious(confusion(truth, said, 5)) == pytest.approx(expected, rel=1e-12)
        assert expected[3] == 0

    def test_a_perfect_prediction_has_one_and_a_class_that_nowhere_occurs_does_not_count(self) -> None:
        truth = np.repeat([[0, 1, 3]], 4, axis=0)
        found = ious(confusion(truth, truth, 5))
        assert found[[0, 1, 3]].tolist() == [1, 1, 1]
        assert np.isnan(found[[2, 4]]).all()

    def test_a_constant_prediction_has_the_share_of_its_class(self) -> None:
        truth = np.array([0] * 60 + [1] * 30 + [2] * 10)
        assert ious(confusion(truth, np.zeros_like(truth), 3)).tolist() == [0.6, 0, 0]

    def test_void_counts_for_nothing_whatever_is_said_of_it(self) -> None:
        truth, said = np.array([0, 0, 1, VOID, VOID]), np.array([0, 0, 1, 0, 1])
        assert confusion(truth, said, 2).tolist() == [[2, 0], [0, 1]]


class TestWindows:
    @pytest.mark.parametrize(("height", "width"), [(16, 16), (16, 41), (33, 16), (50, 37)])
    @pytest.mark.parametrize("stride", [5, 11, 16])
    def test_they_cover_an_image_of_any_size_and_agree_with_a_mean_over_a_whole_canvas(self, height: int, width: int, stride: int) -> None:
        image = torch.rand(2, height, width, generator=torch.Generator().manual_seed(0))

        def look(windows: Tensor) -> Tensor:  # what is said depends on the place in the window
            return torch.cat([windows.cumsum(-1), windows.cumsum(-2)], dim=1)

        sums, counts = np.zeros((4, height, width)), np.zeros((height, width))
        for top in starts(height, 16, stride):
            for left in starts(width, 16, stride):
                sums[:, top : top + 16, left : left + 16] += look(image[None, :, top : top + 16, left : left + 16])[0].numpy()
                counts[top : top + 16, left : left + 16] += 1
        assert counts.min() >= 1
        found = torch.cat(list(bands(image, 16, stride, look)), dim=1).numpy()
        assert found == pytest.approx(sums / counts, abs=1e-4)

    def test_the_last_window_ends_at_the_edge(self) -> None:
        assert starts(16, 16, 11) == [0]
        assert starts(17, 16, 11) == [0, 1]
        assert starts(38, 16, 11) == [0, 11, 22]
        assert starts(40, 16, 11) == [0, 11, 22, 24]


class TestCrops:
    def test_image_and_mask_stay_aligned_and_beyond_the_edge_nothing_is_known(self) -> None:
        classes = np.kron(np.arange(6).reshape(2, 3) % 2, np.ones((20, 20), int))
        image = np.repeat((classes * 255).astype(np.uint8)[None], 3, axis=0)
        for top, left, length in ((0, 0, 40), (7, 13, 24), (-10, -6, 70), (3, 5, 9)):
            pixels, truth = cut(image, classes, top, left, length, 32, VOID)
            assert (pixels.shape, truth.shape) == ((3, 32, 32), (32, 32))
            sharp = (pixels[0] < 5) | (pixels[0] > 250)
            known = (truth != VOID) & sharp
            assert torch.equal((pixels[0] > 127)[known].long(), truth[known])
        outside = cut(image, classes, -10, -10, 80, 32, VOID)[1]
        assert (outside[:4] == VOID).all()
        assert (outside[4:20, 4:28] != VOID).all()

    def test_an_image_is_scaled_by_a_half_to_twofold_and_a_small_one_is_first_enlarged(self) -> None:
        assert [scaled(32, 400, draw) for draw in (0.0, 1 / 3, 1.0)] == [64, 32, 16]
        assert [scaled(32, 16, draw) for draw in (0.0, 1 / 3, 1.0)] == [32, 16, 8]


def test_the_loss_is_the_cross_entropy_of_upsampled_logits_and_so_is_its_gradient() -> None:
    random = torch.Generator().manual_seed(0)
    said = torch.randn(3, 5, 4, 4, generator=random).double().requires_grad_()
    truth = torch.randint(-1, 5, (3, 16, 16), generator=random)
    whole = cross_entropy(interpolate(said, size=(16, 16), mode="bilinear", align_corners=False), truth, ignore_index=VOID)
    assert loss(said, truth).item() == pytest.approx(whole.item())
    gradients = [torch.autograd.grad(value, said)[0] for value in (loss(said, truth), whole)]
    assert torch.allclose(*gradients)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> ColourWorld:
    return ColourWorld(tmp_path_factory.mktemp("colours"))


SETTINGS = {"annotations": MASKS, "steps": 60, "batch_size": 8, "learning_rate": 0.1}


def test_an_encoder_that_tells_the_classes_is_near_perfect_at_any_image_size_and_one_that_does_not_is_far_from_it(world: ColourWorld) -> None:
    miou, accuracy, plate = judge(protocol("segmentation", **SETTINGS), world.seen_by(Planted()))
    blind, _, _ = judge(protocol("segmentation", **SETTINGS), world.seen_by(Planted(channels=1)))
    assert (miou.metric, accuracy.metric) == ("miou", "pixel_accuracy")
    assert all(number.n == 8 and number.values[0] > 0.93 for number in (miou, accuracy))
    assert miou.values[0] > blind.values[0] + 0.3
    assert re.search(r"IoU in percent: (\w+ (9\d|100)(, |\.)){3}$", plate.caption)


def test_a_collapsed_encoder_is_said_to_be_one(world: ColourWorld) -> None:
    with pytest.raises(Skipped, match="gives every patch the same feature: it has collapsed"):
        list(judge(protocol("segmentation", **SETTINGS), world.seen_by(Planted(scale=0))))
    with pytest.raises(Skipped, match="has features that are not finite"):
        list(judge(protocol("segmentation", **SETTINGS), world.seen_by(Planted(scale=float("nan")))))


def test_faults_of_masks_are_a_line_and_the_other_protocols_go_on(world: ColourWorld) -> None:
    folder = world.workspace / "known/masks"
    (folder / "31.png").rename(folder / "31.away")
    with pytest.raises(Skipped, match=r"^cannot be judged: 1 of 8 test images have no mask, such as .*test/31\.png: annotate them"):
        apply(protocol("segmentation", **SETTINGS), world.subject("vit"))
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(folder / "31.png")
    with pytest.raises(Skipped, match=r"^cannot be judged: .*31\.png is 9 x 9 pixels, but its image .*31\.png 32 x 32"):
        apply(protocol("segmentation", **{**SETTINGS, "steps": 2}), world.subject("vit"))
    (folder / "31.away").replace(folder / "31.png")
    empty: Path = world.workspace / "known/none"
    empty.mkdir()
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(empty / "other.png")
    with pytest.raises(Skipped, match=r"none of the 24 train images has a mask, such as .*train/0\.png"):
        apply(protocol("segmentation", **{**SETTINGS, "annotations": {"kind": "masks", "path": "known/none"}}), world.subject("vit"))


def test_patches_are_upsampled_as_pytorch_does() -> None:
    maps = torch.rand(2, 3, 5, 7, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(upsampled(maps, 32), interpolate(maps, size=(32, 32), mode="bilinear", align_corners=False), atol=1e-6)

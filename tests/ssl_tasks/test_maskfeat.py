"""MaskFeat: histograms of oriented gradients against loops, what they are blind to, and which patches are to be told."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from numpy.typing import NDArray
from pydantic import ValidationError
from small_methods import ENCODERS
from torch import Tensor

from schemas.encoders import Encoder
from schemas.errors import UserError
from schemas.methods import MaskFeat as MaskFeatConfig
from schemas.stages import Pretrain
from schemas.views import Views
from ssl_tasks.data.draw import Draw
from ssl_tasks.data.hog import hog
from ssl_tasks.losses.masked import masked_mse
from ssl_tasks.methods.masked.maskfeat import MaskFeat
from ssl_tasks.nn.encoder import TimmEncoder


def make(encoder: Encoder = ENCODERS["vit"], **config: Any) -> MaskFeat:
    torch.manual_seed(0)
    return MaskFeat(MaskFeatConfig(**config), TimmEncoder(encoder)).double().eval()


def seen(method: MaskFeat, samples: int = 8) -> tuple[Tensor, Tensor]:
    """Views in float64, and their masks."""
    pictures = torch.randint(0, 256, (samples, method.encoder.config.channels, 20, 20), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    crops, mask = method.views(pictures, Draw(torch.Generator().manual_seed(0), samples))
    return crops.double(), mask


def textures(channels: int = 3, side: int = 16) -> Tensor:
    return torch.randn(2, channels, side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


# Histograms


def by_loops(image: NDArray[np.float64], cell: int) -> NDArray[np.float64]:
    """Histograms (9, H / cell, W / cell) of one channel: Sobel's gradient, its angle without sign in 9 bins of 20 degrees, length 1."""
    height, width = image.shape

    def at(row: int, column: int) -> float:
        """A pixel; beyond an edge, its mirror image about the outermost row or column."""
        row, column = abs(row), abs(column)
        return float(image[min(row, 2 * height - 2 - row), min(column, 2 * width - 2 - column)])

    found = np.zeros((9, height // cell, width // cell))
    for y in range(height):
        for x in range(width):
            right = sum(weight * (at(y + k, x + 1) - at(y + k, x - 1)) for k, weight in ((-1, 1), (0, 2), (1, 1)))
            below = sum(weight * (at(y + 1, x + k) - at(y - 1, x + k)) for k, weight in ((-1, 1), (0, 2), (1, 1)))
            degrees = math.degrees(math.atan2(below, right)) % 180
            found[int(degrees // 20) % 9, y // cell, x // cell] += math.sqrt(right**2 + below**2)
    found /= np.sqrt((found**2).sum(0, keepdims=True))
    return found


@pytest.mark.parametrize("cell", [8, 4])
def test_histograms_are_those_of_loops(cell: int) -> None:
    images = textures()
    found = hog(images, cell).view(2, 3, 9, 16 // cell, 16 // cell)
    for b in range(2):
        for c in range(3):
            assert_allclose(found[b, c], by_loops(images[b, c].numpy(), cell), rtol=1e-9, atol=1e-12)


def ramp(degrees: float) -> Tensor:
    """An image that becomes brighter in one direction: 0 to the right, 90 downwards."""
    y, x = torch.meshgrid(torch.arange(24.0, dtype=torch.float64), torch.arange(24.0, dtype=torch.float64), indexing="ij")
    return (math.cos(math.radians(degrees)) * x + math.sin(math.radians(degrees)) * y)[None, None]


@pytest.mark.parametrize("number", range(9))
def test_all_energy_of_an_edge_is_in_the_bin_of_its_direction(number: int) -> None:
    inner = hog(ramp(20 * number + 10), 8)[0, :, 1, 1]  # whose pixels have no reflected neighbours
    assert inner.tolist() == [float(k == number) for k in range(9)]
    assert torch.equal(hog(ramp(20 * number + 190), 8)[0, :, 1, 1], inner)  # the sign of a direction does not count


def test_a_vertical_edge_has_all_its_energy_in_one_bin() -> None:
    image = torch.zeros(1, 1, 16, 16)
    image[..., 4:] = 1
    found = hog(image, 8)[0]
    assert found[:, :, 0].T.tolist() == [[1.0] + 8 * [0.0]] * 2
    assert not found[:, :, 1].any()
    assert hog(image.mT, 8)[0, 4, 0].tolist() == [1.0, 1.0]  # a horizontal one: 90 degrees


def test_contrast_and_brightness_are_not_seen_and_channels_are_apart() -> None:
    images = textures()
    torch.testing.assert_close(hog(5 - 3 * images, 8), hog(images, 8), rtol=1e-9, atol=1e-12)
    other = images.clone()
    other[:, 1] = 0
    changed = (hog(other, 8) != hog(images, 8)).view(2, 3, 9, 2, 2)
    assert changed[:, 1].any()
    assert not changed[:, [0, 2]].any()


def test_each_histogram_has_length_one_and_a_flat_cell_zeros() -> None:
    images = textures()
    images[0, 0] = 7
    lengths = hog(images, 8).view(2, 3, 9, 4).norm(dim=2)
    assert not lengths[0, 0].any()
    assert_allclose(lengths.flatten()[4:], 1, rtol=1e-12)


# Target


def test_a_patch_of_the_paper_has_108_numbers() -> None:
    """Four cells of 8 px, 9 bins and 3 channels."""
    method = make(Encoder(name="vit_tiny_patch16_224", image_size=32, width=32, depth=1, heads=2))
    assert method.cell == 8
    assert method.target(torch.randn(1, 3, 32, 32)).shape == (1, 4, 108)


def test_the_target_of_a_patch_is_of_its_own_cells() -> None:
    method = make(Encoder(name="vit_tiny_patch16_224", image_size=32, width=32, depth=1, heads=2, channels=1))
    images = textures(1, 32)
    found, maps = method.target(images), hog(images, 8)
    for row in range(2):
        for column in range(2):
            cells = [maps[:, :, 2 * row + i, 2 * column + j] for i in range(2) for j in range(2)]
            assert torch.equal(found[:, 2 * row + column], torch.cat(cells, dim=1))


def test_four_in_ten_patches_are_masked() -> None:
    method = make(Encoder(name="vit_tiny_patch16_224", width=32, depth=1, heads=2)).float()
    mask = seen(method)[1]
    assert mask.shape == (8, 196)
    assert set(mask.sum(1).tolist()) == {78}


def test_masks_are_blocks() -> None:
    """Two neighbours are both masked far more often than the 16% of single patches at random."""
    method = make(Encoder(name="vit_tiny_patch16_224", width=32, depth=1, heads=2)).float()
    mask = seen(method, 64)[1].view(-1, 14, 14)
    assert (mask[:, 1:] & mask[:, :-1]).float().mean() > 0.28


def test_the_encoder_sees_every_visible_pixel_and_no_masked_one() -> None:
    method = make()
    images, mask = seen(method)
    images.requires_grad_()
    torch.autograd.backward(method.output(method.encoder.tokens(images, mask, method.mask_token).patches).sin().sum())
    assert images.grad is not None
    assert torch.equal(images.grad != 0, ~mask.view(-1, 1, 4, 4).repeat_interleave(4, 2).repeat_interleave(4, 3))


def test_the_loss_is_the_squared_error_over_masked_patches() -> None:
    method = make()
    images, mask = seen(method)
    told = method.output(method.encoder.tokens(images, mask, method.mask_token).patches).detach().numpy()
    target = hog(images, 4).numpy()
    errors = [((told[b, n] - target[b, :, n // 4, n % 4]) ** 2).mean() for b, n in np.argwhere(mask.numpy())]
    assert_allclose(method([images, mask], 0.5)["hog"].item(), np.mean(errors), rtol=1e-10)
    assert method([images, mask], 0.5)["hog"] == masked_mse(torch.from_numpy(told), method.target(images), mask)


# Bad input


@pytest.mark.parametrize(
    ("config", "said"),
    [({"mask_ratio": 0.0}, "greater than 0"), ({"views": Views(count=2)}, "this method .* count must be 1"), ({"cell": 0}, "greater than 0")],
)
def test_what_cannot_be_trained_is_refused(config: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        MaskFeatConfig(**config)


def test_an_encoder_without_patches_is_refused_at_load() -> None:
    with pytest.raises(ValidationError, match="maskfeat masks patches, and 'resnet18' has none: take a ViT"):
        Pretrain.model_validate({"kind": "pretrain", "dataset": "d", "encoder": {"name": "resnet18"}, "method": "maskfeat"})


def test_cells_that_do_not_fill_a_patch_are_refused() -> None:
    encoder = Encoder(name="vit_tiny_patch16_224", image_size=28, patch_size=14, width=32, depth=1, heads=2)
    with pytest.raises(UserError, match=r"^maskfeat: method.cell 8 does not divide the encoder's patch of 14 px: set it to a divisor, such as 7$"):
        make(encoder)
    assert make(encoder, cell=7).cell == 7


def test_a_single_patch_cannot_be_masked() -> None:
    with pytest.raises(UserError, match=r"^maskfeat: encoder.image_size 16 cannot be cut in two or more parts of 16 px"):
        make(ENCODERS["vit"].model_copy(update={"patch_size": 16}))

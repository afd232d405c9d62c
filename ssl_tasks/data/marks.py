"""What copies of an image have that it has not: text and shapes over it, and compression. A whole batch at once.

Text is a pattern of blocks in lines, a shape a box or an ellipse; both of any colour, more or less see-through, turned by any angle.
Compression is JPEG's: cosine transform of blocks of 8 x 8 pixels, rounded to steps that grow as quality falls.
https://www.w3.org/Graphics/JPEG/itu-t81.pdf, annexes A and K; how quality scales the steps: https://github.com/libjpeg-turbo/libjpeg-turbo

Differs from JPEG: colour is not subsampled, and nothing is rounded to 8 bits. Pixels lie in [0, 1].
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, pad

from ssl_tasks.data.colours import luma
from ssl_tasks.data.draw import Draw

LINES, LETTERS = 2, 24
"""Of a text, in blocks: lines with as much space between them, and blocks along a line."""
BLOCK = 8

_LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61), (12, 12, 14, 19, 26, 58, 60, 55), (14, 13, 16, 24, 40, 57, 69, 56), (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77), (24, 35, 55, 64, 81, 104, 113, 92), (49, 64, 78, 87, 103, 121, 120, 101), (72, 92, 95, 98, 112, 100, 103, 99),
)  # fmt: skip
_CHROMINANCE = (
    (17, 18, 24, 47, 99, 99, 99, 99), (18, 21, 26, 66, 99, 99, 99, 99), (24, 26, 56, 99, 99, 99, 99, 99), (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8 for _ in range(4)),
)  # fmt: skip


class Mark(NamedTuple):
    """Something drawn over each image of a batch.

    Attributes:
        opacity: (B,), 0 where there is nothing.
        colour: (B, C).
        frame: (B, 2, 3), from places in the image to places in the mark, both from -1 to 1.
        pattern: (B, 1, h, w), true where a text has ink; None for shapes.
        round: (B,), whether a shape is an ellipse.
    """

    opacity: Tensor
    colour: Tensor
    frame: Tensor
    pattern: Tensor | None
    round: Tensor

    def of(self, rows: slice) -> "Mark":
        """Those of some of the images."""
        pattern = None if self.pattern is None else self.pattern[rows]
        return Mark(self.opacity[rows], self.colour[rows], self.frame[rows], pattern, self.round[rows])


def drawn(draw: Draw, channels: int, text: float, shape: float) -> list[Mark]:
    """A text and a shape, each over an image with the probability given; none that can never be."""
    found = []
    if text:
        frame = _frame(draw, width=(0.3, 1.0), height=(0.1, 0.3))
        pattern = draw.uniforms(1, 2 * LINES - 1, LETTERS) < 0.6
        pattern[:, :, 1::2] = False
        found.append(Mark(draw.chance(text) * draw.uniform(0.1, 1), draw.uniforms(channels), frame, pattern, draw.chance(0)))
    if shape:
        frame = _frame(draw, width=(0.1, 0.5), height=(0.1, 0.5))
        found.append(Mark(draw.chance(shape) * draw.uniform(0.7, 1), draw.uniforms(channels), frame, None, draw.chance(0.5)))
    return found


def marked(x: Tensor, mark: Mark) -> Tensor:
    """Images (B, C, H, W) with a mark over each."""
    places = affine_grid(mark.frame, list(x.shape), align_corners=False)
    if mark.pattern is None:
        u, v = places.unbind(-1)
        outside = torch.where(mark.round.view(-1, 1, 1), u**2 + v**2, torch.maximum(u.abs(), v.abs()))
        ink = (outside <= 1).float()[:, None]
    else:
        ink = grid_sample(mark.pattern.float(), places, mode="nearest", align_corners=False)
    return torch.lerp(x, mark.colour[..., None, None].expand_as(x), ink * mark.opacity.view(-1, 1, 1, 1))


def compressed(x: Tensor, quality: Tensor) -> Tensor:
    """Images (B, C, H, W) after JPEG compression of a quality (B,) from 1 to 100 each; infinity leaves a sample as it is.

    Other than RGB images are compressed channel by channel, each as brightness is.
    """
    # On a GPU to know which samples are compressed would mean to wait for it.
    chosen = quality.isfinite().nonzero()[:, 0] if x.device.type == "cpu" else torch.arange(len(x), device=x.device)
    if not len(chosen):
        return x
    some, kept = x[chosen].clamp(0, 1), quality[chosen]
    lossy = _from_ycc(_quantised(_to_ycc(some), kept.clamp(1, 100))).clamp(0, 1)
    return x.index_copy(0, chosen, torch.where(kept.isfinite().view(-1, 1, 1, 1), lossy, x[chosen]))


def _frame(draw: Draw, width: tuple[float, float], height: tuple[float, float]) -> Tensor:
    """A frame (B, 2, 3) anywhere in the image, turned by any angle; its sides as shares of the image's."""
    x, y = draw.uniform(-1, 1), draw.uniform(-1, 1)
    across, down, angle = draw.uniform(*width), draw.uniform(*height), draw.uniform(0, 2 * math.pi)
    first = torch.stack([angle.cos(), angle.sin()], dim=1) / across[:, None]
    second = torch.stack([-angle.sin(), angle.cos()], dim=1) / down[:, None]
    turned = torch.stack([first, second], dim=1)
    return torch.cat([turned, -turned @ torch.stack([x, y], dim=1)[..., None]], dim=2)


def _quantised(x: Tensor, quality: Tensor) -> Tensor:
    """Channels (B, C, H, W), brightness first, with every block's coefficients rounded to steps."""
    height, width = x.shape[2:]
    padded = pad(x, (0, -width % BLOCK, 0, -height % BLOCK), mode="replicate")
    rows, columns = (side // BLOCK for side in padded.shape[2:])
    blocks = padded.view(*x.shape[:2], rows, BLOCK, columns, BLOCK).transpose(3, 4)
    transform = _cosines(x)
    steps = _steps(x, quality)[:, :, None, None]
    rounded = (transform @ blocks @ transform.T / steps).round() * steps
    whole: Tensor = (transform.T @ rounded @ transform).transpose(3, 4).flatten(4, 5).flatten(2, 3)
    return whole[:, :, :height, :width]


def _steps(x: Tensor, quality: Tensor) -> Tensor:
    """Size of a coefficient's step (B, C, 8, 8), for pixels in [0, 1]."""
    tables = [_LUMINANCE, _CHROMINANCE, _CHROMINANCE] if x.shape[1] == 3 else [_LUMINANCE] * x.shape[1]
    table = torch.tensor(tables, device=x.device, dtype=x.dtype)
    percent = torch.where(quality < 50, 5000 / quality, 200 - 2 * quality).view(-1, 1, 1, 1)
    return ((table * percent + 50) / 100).floor().clamp(1, 255) / 255


def _cosines(x: Tensor) -> Tensor:
    """The orthonormal cosine transform (8, 8) of a block's rows."""
    place = torch.arange(BLOCK, device=x.device, dtype=x.dtype)
    waves = (math.pi / BLOCK * place[:, None] * (place + 0.5)).cos() * math.sqrt(2 / BLOCK)
    waves[0] /= math.sqrt(2)
    return waves


def _to_ycc(x: Tensor) -> Tensor:
    """Brightness and the distances of blue and red from it, around 0; of other than RGB images, channels around 0."""
    if x.shape[1] != 3:
        return x - 0.5
    y = luma(x)
    return torch.cat([y - 0.5, (x[:, 2:] - y) / 1.772, (x[:, :1] - y) / 1.402], dim=1)


def _from_ycc(x: Tensor) -> Tensor:
    if x.shape[1] != 3:
        return x + 0.5
    y, blue, red = x[:, :1] + 0.5, x[:, 1:2] * 1.772, x[:, 2:] * 1.402
    red, blue = red + y, blue + y
    return torch.cat([red, (y - 0.299 * red - 0.114 * blue) / 0.587, blue], dim=1)

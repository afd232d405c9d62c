"""A linear head on frozen patch features: how it is trained on crops, and what it says of a whole image by sliding windows.

As DINOv2 (https://arxiv.org/abs/2304.07193, section 7.4) and DINOv3 (https://arxiv.org/abs/2508.10104, section 6.1) judge patch features.
Shapes: B crops of S x S pixels, K channels of the head, N patches on a grid of h x w, D width of a patch's feature.
"""

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from ssl_tasks.evaluate.findings import Skipped
from ssl_tasks.evaluate.subject import Subject
from ssl_tasks.nn.maps import as_map

DROPOUT, SPREAD = 0.1, 0.01
"""Share of a feature that is dropped while the head is trained; standard deviation of its weights at first (DINOv3)."""
AT_ONCE = 16
"""Windows that go through the encoder at a time."""


class Head(nn.Module):
    """Batch norm and a linear layer: of each patch K numbers, (B, K, h, w)."""

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.norm, self.dropout, self.linear = nn.BatchNorm2d(width), nn.Dropout(DROPOUT), nn.Conv2d(width, channels, 1)
        nn.init.normal_(self.linear.weight, std=SPREAD)
        nn.init.constant_(self.linear.get_parameter("bias"), 0)

    def forward(self, patches: Tensor) -> Tensor:
        found: Tensor = self.linear(self.norm(self.dropout(as_map(patches))))
        return found


def upsampled(maps: Tensor, size: int) -> Tensor:
    """Maps (B, K, h, w) on S x S pixels, bilinear. As products of matrices, whose gradient CUDA adds up in the same order each time."""
    down, across = (interpolate(torch.eye(n, device=maps.device, dtype=maps.dtype)[None], size=size, mode="linear")[0] for n in maps.shape[-2:])
    return down.mT @ maps @ across


@torch.no_grad()
def patches(subject: Subject, images: Tensor) -> Tensor:
    """Frozen features (B, N, D) of squares (B, C, S, S) with values 0 to 255. Raises Skipped where some are no numbers."""
    assert subject.artifact
    pixels = images.to(subject.world.device).float() / 255
    mean, std = (pixels.new_tensor(values)[:, None, None] for values in (subject.artifact.mean, subject.artifact.std))
    found = subject.encoder.tokens((pixels - mean) / std).patches.float()
    if not found.isfinite().all():
        raise Skipped("has features that are not finite")
    return found


def train(
    head: Head,
    subject: Subject,
    crops: Iterable[tuple[Tensor, Tensor]],
    loss: Callable[[Tensor, Tensor, float], Tensor],
    *,
    steps: int,
    learning_rate: float,
    weight_decay: float,
    warmup: float,
) -> Head:
    """The head, trained by AdamW under one cycle of learning rates, in eval mode.

    Args:
        crops: `steps` batches of squares and targets.
        loss: of what the head says (B, K, h, w), the targets (B, S, S), and the share of the training that lies behind.
        warmup: share of the training until the highest rate.

    Raises:
        Skipped: where every patch has the same feature, or training does not stay finite.
    """
    head.to(subject.world.device).train()
    optimizer = torch.optim.AdamW(head.parameters(), lr=learning_rate, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=max(steps, 2), pct_start=warmup, cycle_momentum=False)
    for step, (images, targets) in enumerate(crops):
        features = patches(subject, images)
        if step == 0 and features.shape[1] > 1 and (features - features[:1, :1]).abs().max() <= 1e-6 * features.abs().max():
            raise Skipped("gives every patch the same feature: it has collapsed")
        value = loss(head(features), targets.to(features.device), step / steps)
        if not value.isfinite():
            raise Skipped("has patch features on which the head's training does not stay finite")
        optimizer.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]  # PyTorch's
        optimizer.step()
        schedule.step()
    return head.eval()


def bands(image: Tensor, size: int, stride: int, look: Callable[[Tensor], Tensor]) -> Iterator[Tensor]:
    """What windows say of an image, a mean where they overlap: (K, rows, W), from top to bottom, of as many rows as are done.

    Args:
        image: (C, H, W), both at least S.
        size: S, of a window's side.
        stride: between two windows, in pixels.
        look: what is said of windows (B, C, S, S): (B, K, S, S).
    """
    height, width = image.shape[-2:]
    tops, lefts = starts(height, size, stride), starts(width, size, stride)
    sums, counts = image.new_zeros(1, size, width), image.new_zeros(size, width)
    for top, following in zip(tops, [*tops[1:], height], strict=True):
        for first in range(0, len(lefts), AT_ONCE):
            some = lefts[first : first + AT_ONCE]
            for left, said in zip(some, look(torch.stack([image[:, top : top + size, left : left + size] for left in some])), strict=True):
                if len(sums) != len(said):
                    sums = said.new_zeros(len(said), size, width)
                sums[..., left : left + size] += said
                counts[:, left : left + size] += 1
        done = following - top
        yield sums[:, :done] / counts[:done].to(sums.device)
        sums = torch.cat([sums[:, done:], sums.new_zeros(len(sums), done, width)], dim=1)
        counts = torch.cat([counts[done:], counts.new_zeros(done, width)])


def starts(length: int, size: int, stride: int) -> list[int]:
    """Where windows begin along a side: every `stride` pixels, and the last at the end."""
    return [*range(0, length - size, stride), length - size]


def resized(image: Tensor, height: int, width: int) -> Tensor:
    """An image or map (C, H, W) of another size, bilinear."""
    if image.shape[-2:] == (height, width):
        return image
    return interpolate(image[None].float(), size=(height, width), mode="bilinear", antialias=True, align_corners=False)[0]

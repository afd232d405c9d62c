"""A world that a planted encoder sees through: images of two colours side by side, whose masks and depths follow from the colour."""

from pathlib import Path
from typing import Any

import numpy as np
from evaluated import done, job
from PIL import Image
from small_world import SmallWorld
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from ssl_tasks.evaluate.subject import Subject
from ssl_tasks.nn.vit import Features

COLOURS = np.array([[220, 30, 30], [30, 220, 30], [30, 30, 220]], np.uint8)
METRES = np.array([2.0, 5.0, 8.0])
CLASSES = ["red", "green", "blue"]
MASKS: dict[str, Any] = {"kind": "masks", "path": "known/masks", "classes": CLASSES}
DEPTHS: dict[str, Any] = {"kind": "depths", "path": "known/depth"}
SIZES = ((40, 56), (70, 36), (20, 24), (32, 32))
"""Of images, height and width: an encoder is fed 32 x 32."""


class ColourWorld(SmallWorld):
    """24 train and 8 test images of several sizes; the first four rows of each mask are void."""

    def __init__(self, workspace: Path) -> None:
        super().__init__(workspace)
        random = np.random.default_rng(0)
        for i in range(32):
            height, width = SIZES[i % len(SIZES)]
            classes = np.zeros((height, width), np.int64)
            left, right = random.choice(3, 2, replace=False)
            classes[:, : width // 2], classes[:, width // 2 :] = left, right
            mask = classes.astype(np.uint8)
            mask[:4] = 255
            files = {f"images/{'train' if i < 24 else 'test'}/{i}": COLOURS[classes], f"known/masks/{i}": mask}
            files[f"known/depth/{i}"] = (METRES[classes] * 1000).astype(np.uint16)
            for name, values in files.items():
                (workspace / name).parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(values).save(workspace / f"{name}.png")
        self.inputs["raw"] = done(job(workspace, "colours", {"kind": "ingest", "source": {"kind": "folder", "path": "images", "splits": True}}, {}))[""].key

    def seen_by(self, encoder: nn.Module) -> Subject:
        """A subject that sees by an encoder of its own."""
        subject = self.subject("vit")
        subject.__dict__["encoder"] = encoder
        return subject


class Planted(nn.Module):
    """The mean colour of each patch, of the first `channels`, times `scale`."""

    def __init__(self, scale: float = 1.0, channels: int = 3) -> None:
        super().__init__()
        self.scale, self.width = scale, channels

    def tokens(self, images: Tensor) -> Features:
        means = self.scale * avg_pool2d(images[:, : self.width], 4).flatten(2).mT
        return Features(means.mean(1), means)

"""Features of augmented views of train images: the same views for every model that is fed images of one size.

The views are SimCLR's (https://arxiv.org/abs/2002.05709, appendix A), whatever a model was trained with: numbers of different models compare.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from schemas.views import Views
from ssl_tasks.data.draw import Draw
from ssl_tasks.data.views import MEAN_STD, augment
from ssl_tasks.evaluate.neighbours import Ints
from ssl_tasks.evaluate.subject import Subject

_VIEWS = 256
"""Views that are made and embedded at a time."""


@torch.inference_mode()
def views(subject: Subject, rows: Ints, count: int) -> Iterator[Tensor]:
    """Pooled features of `count` views of each image, a batch of images at a time: (B, count, D), float64, on the device."""
    assert subject.artifact
    device, encoder = subject.world.device, subject.encoder
    generator = torch.Generator().manual_seed(subject.world.seed)
    for images in subject.batches(rows, max(1, _VIEWS // count)):
        crops = torch.cat(augment(Views(count=count), images, subject.size, Draw(generator, len(images))))
        own, wanted = MEAN_STD[crops.shape[1]], (subject.artifact.mean, subject.artifact.std)
        (mean, std), (new_mean, new_std) = ((torch.tensor(v).view(-1, 1, 1) for v in pair) for pair in (own, wanted))
        pooled = encoder(((crops * std + mean - new_mean) / new_std).to(device))
        yield pooled.double().view(count, len(images), -1).transpose(0, 1)

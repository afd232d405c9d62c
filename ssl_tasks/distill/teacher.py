"""FrozenTeacher: what a sealed checkpoint says of a batch's views, once for all students."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from schemas.artifacts import Checkpoint
from schemas.errors import UserError
from schemas.methods import PROTOTYPES
from ssl_tasks import methods
from ssl_tasks.checkpoints import TRAINING, load_classifier, load_encoder, load_training_state
from ssl_tasks.data.views import MEAN_STD, resized
from ssl_tasks.distill.network import Network, Seen, Shapes
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.nn.patch_distillation import Heads


class FrozenTeacher:
    """A checkpoint's encoder, and its classifier where it has one and scores are wanted. It is never trained, and in eval mode.

    A teacher that was trained on images prepared with another mean and standard deviation gets the same views, prepared as its own.

    Attributes:
        shapes: the sizes of what it says.
        note: what was adapted, in a line; empty where nothing was.
    """

    def __init__(self, artifact: Checkpoint, device: torch.device, *, scores: bool, taps: Iterable[str], places: bool) -> None:
        """Raises UserError where the weights are damaged or a path names no layer."""
        classifier = load_classifier(artifact) if scores else None
        encoder = classifier.encoder if classifier else load_encoder(artifact)
        self.network = Network(encoder, classifier.head if classifier else None, taps, places).requires_grad_(False).eval().to(device)
        self.shapes: Shapes = self.network.shapes()
        self._size = artifact.encoder.image_size
        mean, std = MEAN_STD[artifact.encoder.channels]
        given = (artifact.mean, artifact.std)
        self._scale, self._shift = (torch.tensor(v, device=device).view(-1, 1, 1) for v in _between((mean, std), given))
        self._adapts = given != (mean, std)
        self.note = f"the teacher was trained on images less mean {artifact.mean} over {artifact.std}: it gets the views prepared so" * self._adapts

    @torch.no_grad()
    def __call__(self, views: list[Tensor]) -> Seen:
        """What it says of global views (B, C, S, S) each, normalised as students get them."""
        own = [resized(view, self._size) for view in views]
        seen: Seen = self.network([view * self._scale + self._shift for view in own] if self._adapts else own)
        return seen


def prototype_heads(artifact: Checkpoint) -> Heads:
    """The EMA teacher's heads of an encoder that was pretrained by DINO or an heir of it, frozen: of crops, and of patches where it has one.

    Raises:
        UserError: where the teacher was made otherwise, or its training state was not kept.
    """
    method = artifact.config.get("method")
    kind = method.get("kind") if artifact.kind == "pretrain" and isinstance(method, dict) else None
    if kind not in PROTOTYPES:
        made = f"pretrained by {kind}" if kind else f"made by a {artifact.kind} stage"
        raise UserError(f"dinov2 learns from the prototypes of a teacher that was pretrained by {', '.join(PROTOTYPES)}, and '{artifact.stage}' was {made}")
    if TRAINING not in artifact.files:
        raise UserError(
            f"dinov2 needs the prototype heads of the teacher '{artifact.stage}', which did not keep its training state: "
            f"set stages.{artifact.stage}.keep_training_state to true"
        )
    trained: Any = methods.restored(method, TimmEncoder(artifact.encoder), load_training_state(artifact)["method"])
    if kind == "dino":
        return Heads(trained.teacher_head.network, None).requires_grad_(False).eval()
    heads: Heads = trained.pair.teacher_heads.network
    return Heads(heads.crops, heads.patches or heads.crops).eval()


def _between(ours: tuple[list[float], list[float]], theirs: tuple[list[float], list[float]]) -> tuple[list[float], list[float]]:
    """Factor and summand of each channel that turn what was normalised our way into what is normalised theirs."""
    scale = [a / b for a, b in zip(ours[1], theirs[1], strict=True)]
    return scale, [(a - b) / s for a, b, s in zip(ours[0], theirs[0], theirs[1], strict=True)]

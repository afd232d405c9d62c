"""Network: a teacher or a student as a distillation sees it, and what it says of a batch."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from schemas.errors import UserError, did_you_mean
from ssl_tasks.nn.encoder import TimmEncoder


@dataclass(frozen=True)
class Seen:
    """What a network says of the global views, joined one after the other: n = V x B rows.

    Attributes:
        pooled: (n, dim), one feature an image.
        places: (n, N, width), one a patch or place, row by row; None where nobody asked for them.
        taps: feature maps (n, C, H, W) of inner layers, by the paths of their modules.
        logits: (n, classes), of a classifier.
        local: (L x B, dim), pooled features of the local crops; None where there are none, as for a teacher.
    """

    pooled: Tensor
    places: Tensor | None = None
    taps: dict[str, Tensor] = field(default_factory=dict)
    logits: Tensor | None = None
    local: Tensor | None = None


@dataclass(frozen=True)
class Shapes:
    """The sizes of what a network says: see `Seen`. `grid` is rows and columns of places; (0, 0) where nobody asked for them."""

    dim: int
    width: int
    grid: tuple[int, int]
    taps: dict[str, tuple[int, int, int]]
    classes: int
    image_size: int


class Network(nn.Module):
    """An encoder, a classifier over it where there is one, and inner layers that are looked at.

    Attributes:
        classifier: None for an encoder alone.
        taps: paths of modules of timm's model whose outputs are wanted.
    """

    def __init__(self, encoder: TimmEncoder, classifier: nn.Module | None = None, taps: Iterable[str] = (), places: bool = False) -> None:
        """Raises UserError where a path names no module."""
        super().__init__()
        self.encoder, self.classifier = encoder, classifier
        self.taps, self.places = tuple(dict.fromkeys(taps)), places
        known = [name for name, _ in encoder.backbone.named_modules() if name]
        for path in self.taps:
            if path not in known:
                near = did_you_mean(path, known) or f"there may be: {', '.join(known[:12])}"
                raise UserError(f"'{encoder.config.name}' has no layer '{path}'; {near}")
        if self.taps:
            encoder.run_whole_blocks()

    def forward(self, views: Sequence[Tensor], local: Sequence[Tensor] = (), mask: Tensor | None = None, mask_token: Tensor | None = None) -> Seen:
        """What it says of global views (B, C, S, S) each, and of local crops.

        Args:
            mask: (V x B, N), true where a patch of the global views is replaced by `mask_token` (width,).
        """
        joined, maps = torch.cat(list(views)), dict[str, Tensor]()
        with self._tapped(maps):
            if self.places or mask is not None:
                features = self.encoder.tokens(joined, mask, mask_token)
                pooled, places = features.pooled, features.patches
            else:
                pooled, places = self.encoder(joined), None
        logits = None if self.classifier is None else self.classifier(pooled)
        return Seen(pooled, places, maps, logits, self.encoder(torch.cat(list(local))) if local else None)

    @torch.no_grad()
    def shapes(self) -> Shapes:
        """Found by looking at a black image, in eval mode."""
        config, training = self.encoder.config, self.training
        device = next(self.parameters()).device
        seen = self.eval()([torch.zeros(2, config.channels, config.image_size, config.image_size, device=device)])
        self.train(training)
        count = 0 if seen.places is None else seen.places.shape[1]
        side = round(count**0.5)
        grid = (side, side) if side * side == count else (1, count)
        taps = {path: (int(m.shape[1]), int(m.shape[2]), int(m.shape[3])) for path, m in seen.taps.items()}
        width = self.encoder.width if seen.places is None else int(seen.places.shape[2])
        return Shapes(self.encoder.dim, width, grid, taps, 0 if seen.logits is None else int(seen.logits.shape[1]), config.image_size)

    @contextmanager
    def _tapped(self, maps: dict[str, Tensor]) -> Iterator[None]:
        """While it is open, outputs of the modules that are looked at go into `maps`, as maps (n, C, H, W)."""

        def see(path: str, _module: nn.Module, _inputs: Any, output: Tensor) -> None:
            maps[path] = self._as_map(output)

        hooks = [self.encoder.backbone.get_submodule(path).register_forward_hook(partial(see, path)) for path in self.taps]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _as_map(self, output: Tensor) -> Tensor:
        """A layer's output as (n, C, H, W): tokens lose their prefix and take their places in the grid."""
        if output.ndim == 4:
            channels_last = getattr(self.encoder.backbone, "output_fmt", "NCHW") == "NHWC"
            return output.permute(0, 3, 1, 2) if channels_last else output
        tokens = output[:, self.encoder.prefix_tokens :] if output.ndim == 3 else output[:, None]
        side = round(tokens.shape[1] ** 0.5)
        rows = side if side * side == tokens.shape[1] else 1
        return tokens.transpose(1, 2).reshape(len(tokens), tokens.shape[2], rows, -1)

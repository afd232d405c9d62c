"""TimmEncoder: any timm backbone behind one face: pooled features, tokens, and their dimension."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from schemas.encoders import Encoder
from schemas.errors import UserError
from schemas.training import Train
from ssl_tasks.nn import inside, vit
from ssl_tasks.nn.backbone import create, unpool
from ssl_tasks.nn.batchnorm import GlobalBatchNorm
from ssl_tasks.nn.descriptor import Unit, Whitening, gem
from ssl_tasks.nn.heads import mlp
from ssl_tasks.nn.lightness import without_colours
from ssl_tasks.nn.packed import through_blocks
from ssl_tasks.nn.vit import Features


class TimmEncoder(nn.Module):
    """A timm model without classifier and without pretrained weights, initialised by the caller's random state.

    Attributes:
        config: what it was made from.
        backbone: the timm model; its state dict is what a checkpoint holds, with the neck's.
        neck: what the pooled feature goes through: `config.neck`, `head` and `whitening` in this order; nothing where none is given.
        dim: length of the feature vector that comes out.

    Raises:
        UserError: if timm knows no such model, or the model takes no such argument.
    """

    def __init__(self, config: Encoder) -> None:
        super().__init__()
        self.config = config
        backbone = create(config)
        self.backbone = backbone
        if config.sees == "lightness":
            without_colours(backbone, config.name)
        self.dim = self._pooled_dim()
        self.neck = nn.Sequential()
        for width, layers in ((config.neck, self._neck), (config.head, self._head), (config.whitening, self._whitening)):
            if width:
                self._append(layers(width), width)
        self._pieces, self._checkpointing, self._through_blocks = 1, False, through_blocks
        self._momenta: list[tuple[Any, float | None]] = []

    def add_neck(self, width: int) -> None:
        """Let the pooled feature go through a linear layer, batch norm and ReLU; `config` and `dim` tell of it from then on.

        Raises:
            UserError: where there is a neck already.
        """
        if set_already := next((name for name in ("neck", "head") if getattr(self.config, name)), None):
            raise UserError(f"encoder.{set_already} is set, and the method keeps the first layer of its projector as the neck: leave encoder.{set_already} out")
        self.config = self.config.model_copy(update={"neck": width})
        self._append(self._neck(width), width)

    def add_head(self, width: int) -> None:
        """Pool by GeM, and let the pooled feature go through a linear layer to length 1, where the config does not say so already.

        Raises:
            UserError: where a neck or head is there that follows another pooling.
        """
        if not self.config.pooling:
            if self.config.neck or self.config.head:
                raise UserError("encoder.neck and encoder.head follow a pooling that the method replaces by gem: set encoder.pooling to gem, or leave them out")
            unpool(self.backbone)
            self.config = self.config.model_copy(update={"pooling": "gem"})
            self.dim = self._pooled_dim()
        if not self.config.head:
            self.config = self.config.model_copy(update={"head": width})
            self._append(self._head(width), width)

    def see_lightness(self) -> None:
        """See images without their colours; `config` tells of it from then on."""
        if self.config.sees == "colours":
            self.config = self.config.model_copy(update={"sees": "lightness"})
            without_colours(self.backbone, self.config.name)

    def add_whitening(self, mean: Tensor, matrix: Tensor) -> None:
        """Let features less `mean` (dim,) be multiplied by `matrix` (K, dim), and brought to length 1, at the end.

        Raises:
            UserError: where they are whitened already.
        """
        if self.config.whitening:
            raise UserError("the checkpoint is whitened already: name the one that it was made from")
        kept = len(matrix)
        layers = self._whitening(kept)
        layers[0].load_state_dict({"mean": mean, "matrix": matrix})
        self.config = self.config.model_copy(update={"whitening": kept})
        self._append(layers, kept)

    def _append(self, layers: list[nn.Module], width: int) -> None:
        self.neck.extend(layers)
        self.dim = width

    def _neck(self, width: int) -> list[nn.Module]:
        return [*mlp(self.dim, width, last_norm=True), nn.ReLU()]

    def _head(self, width: int) -> list[nn.Module]:
        return [nn.Linear(self.dim, width), Unit()]

    def _whitening(self, width: int) -> list[nn.Module]:
        return [Whitening(self.dim, width), Unit()]

    def _pooled_dim(self) -> int:
        dim: int = getattr(self.backbone, "head_hidden_size", None) or self.backbone.num_features
        return 2 * dim if self.config.pooling and self._has_cls_token else dim

    @property
    def _has_cls_token(self) -> bool:
        return getattr(self.backbone, "cls_token", None) is not None

    @property
    def width(self) -> int:
        """Length of a patch's or place's feature."""
        return int(self.backbone.num_features)

    def forward(self, images: Tensor) -> Tensor:
        """Features (B, dim) of normalised images (B, C, H, W): CLS token of a ViT, global average of a ConvNet, or what the config makes of them.

        Plain ViTs also take crops of another size than `config.image_size`, as long as it is a multiple of the patch.
        """
        if self.is_vit:
            return self.tokens(images).pooled
        pooled: Tensor = self.neck(self._pooled(self._in_pieces(lambda crops: [self.backbone(crop) for crop in crops], [images])[0]))
        return pooled

    def tokens(self, images: Tensor, mask: Tensor | None = None, mask_token: Tensor | None = None) -> Features:
        """Pooled features (B, dim), and one feature a patch or place, row by row: (B, N, width of the last block).

        Args:
            mask: (B, N), true where a patch is replaced by `mask_token` (D,) after the patch embedding of a ViT or Swin; of a ConvNeXt, where a
                place of the last stage stays empty through all layers.
        """
        return self.multi_crop([images], [mask], mask_token)[0]

    def multi_crop(
        self, crops: list[Tensor], masks: Sequence[Tensor | None] = (), mask_token: Tensor | None = None, kept: Sequence[Tensor | None] = ()
    ) -> list[Features]:
        """Features of crops (B_i, C, S_i, S_i) of any sizes, in their order; a ViT sees all of them in one pass.

        Args:
            masks: (B_i, N_i) or None a crop, true where a patch is masked as `tokens` says; none masked where empty.
            kept: (B_i, n_i) or None a crop, numbers of the patches that go in; all where None or empty. ViTs only.
        """
        given = list(masks) or [None] * len(crops)

        def passed(crops: list[Tensor], masks: list[Tensor | None]) -> list[Tensor]:
            return [inside.features(self.backbone, crop, mask, mask_token) for crop, mask in zip(crops, masks, strict=True)]

        if self.is_vit:
            return [self._features(tokens) for tokens in self._tokens(crops, given, kept or [None] * len(crops), mask_token)]
        return [self._features(features) for features in self._in_pieces(passed, crops, given)]

    def visible(self, images: Tensor, kept: Tensor) -> Tensor:
        """Tokens (B, prefix_tokens + n, width) of an image of which only some patches go in: prefix tokens first, then those patches.

        Args:
            kept: (B, n), numbers of the patches that go in. ViTs only.
        """
        return self._tokens([images], [None], [kept])[0]

    def train_as(self, config: Train) -> None:
        """Take on what a config says of memory and compilation; call it when the module is on its device and before the first step."""
        self.memory(config.accumulate, config.activation_checkpointing)
        if config.compile and self.is_vit:
            self._through_blocks = torch.compile(through_blocks)
        elif config.compile:
            self.backbone.forward_features = torch.compile(self.backbone.forward_features)

    def run_whole_blocks(self) -> None:
        """Let a ViT call its blocks as modules, so that forward hooks on them are called."""
        self._through_blocks = partial(through_blocks, whole=True)

    def memory(self, pieces: int = 1, checkpointing: bool = False) -> None:
        """Let training take more time and less memory: losses and gradients stay the same, and evaluation is not touched.

        Args:
            pieces: a batch goes through in so many pieces, each computed again in the backward pass: memory for one of them, and for
                the features of all. The loss sees the whole batch (the idea of GradCache, https://arxiv.org/abs/2101.06983).
            checkpointing: only the outputs of blocks are kept, and what is inside of them is computed again.

        Raises:
            UserError: where pieces would change the result, as batch norms would see one piece each, or timm cannot checkpoint the model.
        """
        norms = [module for module in self.backbone.modules() if isinstance(module, (_BatchNorm, GlobalBatchNorm))]
        if pieces > 1 and norms:
            raise UserError(
                f"train.accumulate {pieces} does not fit encoder '{self.config.name}': its batch norms would see one piece of the batch at a "
                "time; take an encoder without batch norm, such as a ViT, or set train.activation_checkpointing instead"
            )
        if checkpointing and not self.is_vit:
            try:
                self.backbone.set_grad_checkpointing()
            except (AttributeError, AssertionError) as error:
                raise UserError(f"train.activation_checkpointing: timm cannot do so with encoder '{self.config.name}'; leave it out") from error
        self._pieces, self._checkpointing = pieces, checkpointing
        self._momenta = [(norm, norm.momentum) for norm in norms] if checkpointing else []

    def patches_only(self) -> None:
        """Hold still what only pooled features go through, for a method that trains patches alone: it would get no gradient."""
        for name, module in self.backbone.named_modules():
            if name in ("fc_norm", "attn_pool", "head.norm"):
                module.requires_grad_(False)

    @property
    def is_vit(self) -> bool:
        """Whether it has patch tokens that can be masked and dropped."""
        return vit.is_vit(self.backbone)

    @property
    def patch(self) -> int:
        """Side of a patch in pixels, of a ViT or Swin."""
        return int(self.backbone.patch_embed.patch_size[0])

    @property
    def prefix_tokens(self) -> int:
        """How many tokens come before the patches: CLS and registers."""
        return getattr(self.backbone, "num_prefix_tokens", 0)

    def grid(self, size: int) -> int:
        """Patches along a side of a crop of `size`, of a ViT or Swin."""
        return size // self.patch

    def _tokens(self, crops: list[Tensor], masks: list[Tensor | None], kept: Sequence[Tensor | None], mask_token: Tensor | None = None) -> list[Tensor]:
        """A ViT's tokens (B_i, P + N_i, width) after the last block and its norm."""

        def passed(crops: list[Tensor], masks: list[Tensor | None], kept: list[Tensor | None]) -> list[Tensor]:
            each = zip(crops, masks, kept, strict=True)
            sequences = [vit.embed(self.backbone, crop, mask, mask_token, rows) for crop, mask, rows in each]
            return self._through_blocks(self.backbone, sequences, self._checkpointing and self._saves_memory)

        return self._in_pieces(passed, crops, masks, list(kept))

    @property
    def _saves_memory(self) -> bool:
        return self.training and torch.is_grad_enabled()

    def _in_pieces(self, run: Callable[..., list[Tensor]], crops: list[Tensor], *others: list[Any]) -> list[Tensor]:
        """What `run` makes of crops and what belongs to them, of a piece of their rows at a time where memory is to be saved."""
        pieces = min(self._pieces, *map(len, crops)) if self._saves_memory else 1
        with self._counting_once():
            if pieces == 1:
                return run(crops, *others)
            shares: list[list[Any]] = [[[None] * pieces if rows is None else rows.tensor_split(pieces) for rows in each] for each in (crops, *others)]
            parts = [checkpoint(run, *([rows[i] for rows in each] for each in shares), use_reentrant=False) for i in range(pieces)]
        return [torch.cat(tokens) for tokens in zip(*parts, strict=True)]

    @contextmanager
    def _counting_once(self) -> Iterator[None]:
        """Batch norms move their running statistics in here only: not when a checkpoint is computed again in the backward pass."""
        for norm, momentum in self._momenta:
            norm.momentum = momentum
        yield
        for norm, _ in self._momenta:
            norm.momentum = 0.0

    def _features(self, features: Tensor) -> Features:
        pooled: Tensor = self.neck(self._pooled(self.backbone.forward_head(features, pre_logits=True)))
        return Features(pooled, self._places(features))

    def _pooled(self, features: Tensor) -> Tensor:
        """What comes out of the timm model, pooled by GeM where it does not pool itself: a ViT's CLS token is put in front."""
        if not self.config.pooling:
            return features
        if features.ndim == 2:
            raise UserError(f"encoder.pooling gem: '{self.config.name}' pools in a way of its own; leave it out or take another encoder")
        pooled = gem(self._places(features))
        return torch.cat([features[:, 0], pooled], dim=1) if self._has_cls_token else pooled

    def _places(self, features: Tensor) -> Tensor:
        """One feature a patch or place, (B, N, width), of what timm gives."""
        if features.ndim == 3:
            return features[:, self.prefix_tokens :]
        if getattr(self.backbone, "output_fmt", "NCHW") == "NHWC":
            return features.flatten(1, 2)
        return features.flatten(2).transpose(1, 2)


def encoders_that_learn(module: nn.Module) -> list[TimmEncoder]:
    """The encoders in a module that have anything to train: no teachers."""
    return [m for m in module.modules() if isinstance(m, TimmEncoder) and any(p.requires_grad for p in m.parameters())]


def parameters(module: nn.Module) -> int:
    """How many numbers the module's parameters hold, trainable or not."""
    return sum(p.numel() for p in module.parameters())

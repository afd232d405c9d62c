"""Training steps with lightly, for `benchmarks/step.py`: run by the Python of an environment that has lightly and timm.

    python lightly_step.py METHOD FOLDER SPEC_JSON   ->   {"images_per_second": ..., "versions": {...}}

The encoder, the widths of the heads, the batch, the optimizer and the sizes of the views are those of `SPEC_JSON`, the same that sslflow
gets. Everything else is lightly's own: data set, transforms in workers of a DataLoader, heads, losses.
"""

import copy
import json
import sys
import time
from typing import Any

import lightly
import timm
import torch
from lightly.data import LightlyDataset
from lightly.loss import BarlowTwinsLoss, DINOLoss, IBOTPatchLoss, NegativeCosineSimilarity, NTXentLoss, SwaVLoss, VICRegLoss
from lightly.models.modules import MAEDecoderTIMM, MaskedVisionTransformerTIMM
from lightly.models.modules import heads as h
from lightly.models.utils import deactivate_requires_grad, get_at_index, patchify, random_block_mask, random_token_mask, set_at_index, update_momentum
from lightly.transforms import DINOTransform, IBOTTransform, MAETransform, MoCoV2Transform, SimCLRTransform, SimSiamTransform, SwaVTransform, VICRegTransform
from lightly.transforms.byol_transform import BYOLTransform, BYOLView1Transform, BYOLView2Transform
from torch import Tensor, nn


def convnet(spec: dict[str, Any]) -> nn.Module:
    """The ResNet of the spec, its stem as `stem: half` of sslflow makes it."""
    model = timm.create_model(spec["name"], num_classes=0, **spec["options"])
    first = model.stem.conv
    model.stem.conv = type(first)(3, first.out_channels, 3, stride=2, padding=1, bias=False)
    model.stem.pool = nn.Identity()
    return model


def vit(spec: dict[str, Any]) -> nn.Module:
    """The ViT of the spec."""
    sizes = {"img_size": spec["image_size"], "patch_size": spec["patch_size"], "embed_dim": spec["width"], "depth": spec["depth"], "num_heads": spec["heads"]}
    return timm.create_model(spec["name"], num_classes=0, dynamic_img_size=True, **sizes)


class Contrast(nn.Module):
    """SimCLR, Barlow Twins, VICReg: encoder, head, loss of two views."""

    def __init__(self, encoder: nn.Module, head: nn.Module, loss: nn.Module) -> None:
        super().__init__()
        self.encoder, self.head, self.loss = encoder, head, loss

    def forward(self, views: list[Tensor]) -> Tensor:
        return self.loss(*(self.head(self.encoder(view)) for view in views))


class MoCo(nn.Module):
    """MoCo v2 with a queue."""

    def __init__(self, encoder: nn.Module, head: nn.Module, queue: int, dim: int) -> None:
        super().__init__()
        self.online = nn.Sequential(encoder, head)
        self.target = copy.deepcopy(self.online)
        deactivate_requires_grad(self.target)
        self.loss = NTXentLoss(temperature=0.2, memory_bank_size=(queue, dim))

    def forward(self, views: list[Tensor]) -> Tensor:
        update_momentum(self.online, self.target, 0.999)
        with torch.no_grad():
            keys = self.target(views[1])
        return self.loss(self.online(views[0]), keys)


class BYOL(nn.Module):
    """BYOL, and SimSiam where `target` is false."""

    def __init__(self, encoder: nn.Module, projector: nn.Module, predictor: nn.Module, target: bool) -> None:
        super().__init__()
        self.online, self.predictor = nn.Sequential(encoder, projector), predictor
        self.target = copy.deepcopy(self.online) if target else None
        if self.target is not None:
            deactivate_requires_grad(self.target)
        self.loss = NegativeCosineSimilarity()

    def forward(self, views: list[Tensor]) -> Tensor:
        online = [self.online(view) for view in views]
        if self.target is None:
            targets = [z.detach() for z in online]
        else:
            update_momentum(self.online, self.target, 0.99)
            with torch.no_grad():
                targets = [self.target(view) for view in views]
        first, second = (self.predictor(z) for z in online)
        return (self.loss(first, targets[1]) + self.loss(second, targets[0])) / 2


class SwAV(nn.Module):
    """SwAV without queue."""

    def __init__(self, encoder: nn.Module, head: nn.Module, prototypes: nn.Module) -> None:
        super().__init__()
        self.encoder, self.head, self.prototypes = encoder, head, prototypes
        self.loss = SwaVLoss()

    def forward(self, views: list[Tensor]) -> Tensor:
        self.prototypes.normalize()
        logits = [self.prototypes(nn.functional.normalize(self.head(self.encoder(view)), dim=1)) for view in views]
        return self.loss(logits[:2], logits[2:])


class DINO(nn.Module):
    """DINO; with `masked` also iBOT's loss of masked patches, by lightly's own masked transformer."""

    def __init__(self, encoder: nn.Module, dim: int, spec: dict[str, Any], masked: bool) -> None:
        super().__init__()
        widths = (dim, spec["hidden"], spec["bottleneck"], spec["prototypes"])
        self.masked = masked
        self.student = MaskedVisionTransformerTIMM(vit=encoder) if masked else encoder
        self.head, self.teacher_head = h.DINOProjectionHead(*widths), h.DINOProjectionHead(*widths)
        self.teacher_head.load_state_dict(self.head.state_dict())
        self.teacher = copy.deepcopy(self.student)
        deactivate_requires_grad(self.teacher)
        deactivate_requires_grad(self.teacher_head)
        self.loss, self.patch_loss = DINOLoss(output_dim=spec["prototypes"]), IBOTPatchLoss(output_dim=spec["prototypes"])

    def forward(self, views: list[Tensor]) -> Tensor:
        update_momentum(self.student, self.teacher, 0.996)
        update_momentum(self.head, self.teacher_head, 0.996)
        if not self.masked:
            with torch.no_grad():
                teacher = [self.teacher_head(self.teacher(view)) for view in views[:2]]
            return self.loss(teacher, [self.head(self.student(view)) for view in views], epoch=0)
        crops = torch.cat(views[:2])
        side = self.student.vit.patch_embed.grid_size
        mask = random_block_mask(size=(len(crops), *side))
        prefixed = torch.cat([mask.new_zeros(len(mask), 1), mask.flatten(1)], dim=1)
        with torch.no_grad():
            seen = self.teacher.encode(crops)
            teacher_cls, teacher_patches = self.teacher_head(seen[:, 0]), self.teacher_head(seen[prefixed])
        student = self.student.encode(crops, mask=prefixed)
        student_cls = [*self.head(student[:, 0]).chunk(2), *self.head(self.student.encode(torch.cat(views[2:]))[:, 0]).chunk(len(views) - 2)]
        return self.loss(list(teacher_cls.chunk(2)), student_cls, epoch=0) + self.patch_loss(teacher_patches, self.head(student[prefixed]), mask)


class MAE(nn.Module):
    """MAE."""

    def __init__(self, encoder: nn.Module, spec: dict[str, Any], decoder: dict[str, Any]) -> None:
        super().__init__()
        self.encoder = MaskedVisionTransformerTIMM(vit=encoder)
        self.patch = spec["patch_size"]
        self.decoder = MAEDecoderTIMM(
            num_patches=encoder.patch_embed.num_patches,
            patch_size=self.patch,
            embed_dim=spec["width"],
            decoder_embed_dim=decoder["width"],
            decoder_depth=decoder["depth"],
            decoder_num_heads=decoder["heads"],
        )

    def forward(self, views: list[Tensor]) -> Tensor:
        images = views[0]
        kept, masked = random_token_mask((len(images), self.encoder.sequence_length), mask_ratio=0.75)
        seen = self.decoder.embed(self.encoder.encode(images, idx_keep=kept))
        tokens = set_at_index(self.decoder.mask_token.repeat(len(images), self.encoder.sequence_length, 1), kept, seen.type_as(seen))
        predicted = self.decoder.predict(get_at_index(self.decoder.decode(tokens), masked))
        target = get_at_index(patchify(images, self.patch), masked - 1)
        target = (target - target.mean(-1, keepdim=True)) / (target.var(-1, keepdim=True) + 1e-6).sqrt()
        return nn.functional.mse_loss(predicted, target)


def build(method: str, spec: dict[str, Any]) -> tuple[nn.Module, Any]:
    """Model and transform of a method."""
    side, hidden, output = spec["size"], spec["hidden"], spec["output"]
    encoder = vit(spec["encoder"]) if method in ("dino", "ibot", "mae") else convnet(spec["encoder"])
    dim = encoder.num_features
    match method:
        case "simclr":
            return Contrast(encoder, h.SimCLRProjectionHead(dim, hidden, output), NTXentLoss(0.1)), SimCLRTransform(side, gaussian_blur=0.5)
        case "barlow_twins":
            transform = BYOLTransform(BYOLView1Transform(side), BYOLView2Transform(side))
            return Contrast(encoder, h.BarlowTwinsProjectionHead(dim, hidden, output), BarlowTwinsLoss()), transform
        case "vicreg":
            return Contrast(encoder, h.VICRegProjectionHead(dim, hidden, output), VICRegLoss()), VICRegTransform(side)
        case "moco_v2":
            return MoCo(encoder, h.MoCoProjectionHead(dim, hidden, output), spec["queue"], output), MoCoV2Transform(side)
        case "byol":
            heads = h.BYOLProjectionHead(dim, hidden, output), h.BYOLPredictionHead(output, hidden, output)
            return BYOL(encoder, *heads, target=True), BYOLTransform(BYOLView1Transform(side), BYOLView2Transform(side))
        case "simsiam":
            heads = h.SimSiamProjectionHead(dim, hidden, output), h.SimSiamPredictionHead(output, hidden // 4, output)
            return BYOL(encoder, *heads, target=False), SimSiamTransform(side)
        case "swav":
            transform = SwaVTransform((side, spec["local_size"]), (2, 6))
            return SwAV(encoder, h.SwaVProjectionHead(dim, hidden, output), h.SwaVPrototypes(output, spec["prototypes"])), transform
        case "dino" | "ibot":
            make = DINOTransform if method == "dino" else IBOTTransform
            transform = make(global_crop_size=side, local_crop_size=spec["local_size"], n_local_views=6)
            return DINO(encoder, dim, spec, masked=method == "ibot"), transform
        case "mae":
            return MAE(encoder, spec["encoder"], spec["decoder"]), MAETransform(side)
    raise SystemExit(f"no such method: {method}")


def main() -> None:
    method, folder, spec = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    torch.set_num_threads(spec["threads"])
    torch.manual_seed(0)
    model, transform = build(method, spec)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3, weight_decay=0.05)
    data = LightlyDataset(folder, transform=transform)
    loader = torch.utils.data.DataLoader(data, spec["batch"], shuffle=True, drop_last=True, num_workers=spec["threads"], persistent_workers=True)
    done, started = 0, 0.0
    while done < spec["steps"] + spec["warmup"]:
        for views, *_ in loader:
            loss = model(views if isinstance(views, list) else [views])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            done += 1
            if done == spec["warmup"]:
                started = time.perf_counter()
            if done == spec["steps"] + spec["warmup"]:
                break
    seconds = time.perf_counter() - started
    versions = {"lightly": lightly.__version__, "torch": torch.__version__, "timm": timm.__version__}
    print(json.dumps({"images_per_second": spec["steps"] * spec["batch"] / seconds, "loss": loss.item(), "versions": versions}))


if __name__ == "__main__":
    main()

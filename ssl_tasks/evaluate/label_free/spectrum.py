"""Dimensional collapse: Jing, Vincent, LeCun, Tian, 2021, https://arxiv.org/abs/2110.09348, section 3.

The singular values of the covariance of the features, C = sum_i (z_i - mean)(z_i - mean)^T / N, on a logarithmic scale: where some are near
zero the features fill a subspace only. Contrastive methods collapse so at the projector's output, less at the backbone; both are shown where the
checkpoint keeps its training state. Needs no labels.

Differs from the paper: which values count as collapsed is read off its figures; here those below a share of the largest are.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import nn

from schemas.artifacts import Checkpoint
from schemas.encoders import Encoder
from schemas.protocols.label_free import Spectrum
from ssl_tasks import methods
from ssl_tasks.checkpoints import TRAINING, load_training_state
from ssl_tasks.evaluate.findings import Finding, Number, Plate
from ssl_tasks.evaluate.label_free.covariance import eigenvalues
from ssl_tasks.evaluate.neighbours import Floats
from ssl_tasks.evaluate.report.palette import WIDTH, dress
from ssl_tasks.evaluate.sampling import drawn
from ssl_tasks.evaluate.subject import Subject
from ssl_tasks.method import Method
from ssl_tasks.nn.ema import Teacher
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.nn.heads import PrototypeHead
from ssl_tasks.nn.patch_distillation import Heads
from ssl_tasks.report.theme import Theme

Values = NDArray[np.float64]

_NAMES = "projector", "expander", "teacher_head", "head"
"""Of the network behind the encoder that methods export."""


def judge(protocol: Spectrum, subject: Subject) -> Iterator[Finding]:
    world = subject.world
    rows = drawn(world.parts.train, protocol.samples, world.seed)
    features = subject.features[rows]
    spectra = {"backbone": eigenvalues(features, world.device)}
    if subject.is_model and subject.artifact and (head := projector(subject.artifact)):
        spectra["projector"] = eigenvalues(_projected(head.to(world.device), features, world.device), world.device)
    values = spectra["backbone"]
    yield Number("dimensions", [float(dimensions(values, protocol.share))], len(rows))
    yield Number("condition", [float(np.log10(values[0] / values[values > 0].min()))], len(rows))
    if "projector" in spectra:
        yield Number("dimensions_projector", [float(dimensions(spectra["projector"], protocol.share))], len(rows))
    if subject.is_model:
        told = "; ".join(f"{part}: {dimensions(found, protocol.share)} of {len(found)} dimensions" for part, found in spectra.items())
        caption = (
            f"Singular values of the covariance of {len(rows):,} train features as shares of the largest, the largest first. {told} are above the "
            f"dotted line at {protocol.share:g}; a curve that falls off a cliff tells a dimensional collapse. Values that are rounding are not drawn."
        )
        yield Plate(f"spectrum_{subject.name}", "health", f"Spectrum of {subject.name}", caption, lambda theme: draw(spectra, protocol.share, theme))


def meaning(protocol: Spectrum) -> str:
    return (
        f"Singular values of the covariance of up to {protocol.samples:,} train features; no labels. Dimensions: how many are above "
        f"{protocol.share:g} of the largest, at most the feature's dimension. Log condition: powers of ten from the smallest above rounding to the "
        "largest. At the projector's output too where the checkpoint keeps its training state (`keep_training_state`)."
    )


def dimensions(values_D: Values, share: float) -> int:
    """How many singular values are above a share of the largest."""
    return int((values_D > share * values_D[0]).sum())


def projector(artifact: Checkpoint) -> nn.Module | None:
    """What a pretraining put between the exported encoder and its loss; None where the checkpoint does not keep it, or its method has none."""
    if artifact.kind != "pretrain" or TRAINING not in artifact.files:
        return None
    encoder = TimmEncoder(Encoder.model_validate(artifact.config["encoder"]))
    return head(methods.restored(artifact.config["method"], encoder, load_training_state(artifact)["method"]))


def head(method: Method) -> nn.Module | None:
    """What a method puts behind the encoder that it exports, in eval mode: of a head with prototypes the layers before them. None where it has none."""
    pair = getattr(method, "pair", None)
    found = pair.teacher_heads if pair else next((getattr(method, name) for name in _NAMES if hasattr(method, name)), None)
    found = found.network if isinstance(found, Teacher) else found
    found = found.crops if isinstance(found, Heads) else found
    found = found.mlp if isinstance(found, PrototypeHead) else found
    return found.eval() if isinstance(found, nn.Module) and _takes(found, method.exported().dim) else None


def _takes(head: nn.Module, dim: object) -> bool:
    """Whether a head works on features of so many dimensions: one that looks at places, or at several parts of an image, does not."""
    first = next((layer for layer in head.modules() if isinstance(layer, (nn.Linear, nn.Conv2d))), None)
    return isinstance(first, nn.Linear) and first.in_features == dim


@torch.inference_mode()
def _projected(head: nn.Module, features: Floats, device: str) -> Floats:
    blocks = [torch.from_numpy(np.array(features[start : start + 4096])).to(device) for start in range(0, len(features), 4096)]
    found: Floats = np.concatenate([head(block).float().cpu().numpy() for block in blocks])
    return found


def draw(spectra: Mapping[str, Values], share: float, theme: Theme) -> Figure:
    """The shares of the largest singular value, a line a part of the network."""
    figure = Figure(figsize=(WIDTH, 2.3), layout="constrained")
    axes = figure.subplots()
    dress(axes, "singular values, shares of the largest", theme)
    for hue, (part, values) in zip((theme.hues[0], theme.hues[1]), spectra.items(), strict=False):
        shown = values[values > 0] / values[0]
        axes.plot(np.arange(1, len(shown) + 1), shown, color=hue, linewidth=1.6, label=part)
    axes.axhline(share, color=theme.muted, linewidth=1, linestyle=":")
    axes.set_yscale("log")
    axes.set_xlim(1, max(len(values) for values in spectra.values()))
    axes.set_xlabel("rank", fontsize=8, color=theme.muted)
    axes.legend(frameon=False, fontsize=8, labelcolor=theme.ink)
    return figure

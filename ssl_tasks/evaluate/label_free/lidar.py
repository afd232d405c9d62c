"""LiDAR: Thilak, Huang, Saremi, Dinh, Goh, Nakkiran, Susskind, Littwin, 2023, https://arxiv.org/abs/2312.04000, section 3.

Each image is a class, its augmented views are the class's members. What tells images apart, whitened by what differs between views of one
image (linear discriminant analysis), has an effective rank: unlike RankMe's it does not count dimensions that hold the augmentation alone.
Shapes: n images, q views, D dimensions.

Differs from the paper: features are the encoder's, not the projector's, since many checkpoints have none; 10 views unless stated (50);
SimCLR's views for every model, not those of its own training.
"""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from schemas.errors import UserError
from schemas.protocols.label_free import LiDAR
from ssl_tasks.evaluate.findings import Number
from ssl_tasks.evaluate.label_free.augmented import views
from ssl_tasks.evaluate.sampling import drawn
from ssl_tasks.evaluate.subject import Subject

EPSILON = 1e-8
"""Added to each eigenvalue, as in the paper."""


def judge(protocol: LiDAR, subject: Subject) -> Iterator[Number]:
    parts, world = subject.world.parts, subject.world
    rows = drawn(parts.train, protocol.images, world.seed)
    if len(rows) < 2:
        raise UserError("lidar needs two images or more of the train split")
    yield Number("lidar", [lidar(views(subject, rows, protocol.views), protocol.delta)], len(rows))


def meaning(protocol: LiDAR) -> str:
    return (
        f"LiDAR: the effective rank of what tells up to {protocol.images:,} train images apart, whitened by what differs between {protocol.views} "
        f"augmented views of one image; no labels. SimCLR's views, {protocol.delta:g} on the diagonal within images, so that the scale of the "
        "features counts. At most the feature's dimension, and the images less one: compare only models of one width, at equal images and views."
    )


def lidar(features: Iterable[Tensor], delta: float) -> float:
    """Effective rank of the LDA matrix of features (B, q, D) that come in batches of images: between 1 and min(D, n - 1).

    S_b = sum_i (mu_i - mu)(mu_i - mu)^T / (n - 1), S_w = sum_ij (x_ij - mu_i)(x_ij - mu_i)^T / (n (q - 1)) + delta I, and with the
    eigenvalues l of S_w^-1/2 S_b S_w^-1/2 and p = (l + eps) / sum(l + eps) the value is exp(-sum p log p).

    Raises:
        UserError: where no image differs from another, by which all dimensions would count alike.
    """
    means, within, spread = [], torch.zeros(()), 0
    for x_BqD in features:
        mean_B1D = x_BqD.mean(1, keepdim=True)
        around = (x_BqD - mean_B1D).flatten(0, 1)
        within = within.to(x_BqD.device) + around.T @ around
        spread += len(x_BqD) * (x_BqD.shape[1] - 1)
        means.append(mean_B1D[:, 0])
    mu_nD = torch.cat(means)
    among = mu_nD - mu_nD.mean(0)
    if among.abs().max() <= 1e-6 * mu_nD.abs().max():
        raise UserError("its features are the same for all images that were looked at: the model has collapsed")
    between = among.T @ among / (len(mu_nD) - 1)
    values, vectors = torch.linalg.eigh(within / spread + delta * torch.eye(mu_nD.shape[1], dtype=mu_nD.dtype, device=mu_nD.device))
    whitening = vectors * values.rsqrt()
    found = torch.linalg.eigvalsh(whitening.T @ between @ whitening).clamp(min=0) + EPSILON
    shares = found / found.sum()
    return float(torch.exp(-torch.xlogy(shares, shares).sum()))

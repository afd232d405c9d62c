"""Losses on clusters of the whole data set: DeepCluster's, SeLa's and PCL's. Shapes: B samples, N images, K clusters, D dimensions."""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, log_softmax, normalize

from ssl_tasks.losses.precision import full_precision
from ssl_tasks.losses.sinkhorn import sinkhorn


@full_precision
def tell_label(logits_BK: Tensor, labels_B: Tensor) -> Tensor:
    """Cross-entropy of the softmax with the label of each sample's image, a mean over samples."""
    return cross_entropy(logits_BK, labels_B)


@torch.no_grad()
def balanced_labels(logits_NK: Tensor, sharpness: float, iterations: int) -> Tensor:
    """SeLa's labels (N,): the largest entry of each image in the transport that uses all labels alike.

    Probabilities to the power of lambda, with rows and columns scaled until each image has 1 and each label N / K.
    https://arxiv.org/abs/1911.05371, equations 5 to 7
    """
    return sinkhorn(log_softmax(logits_NK, dim=1), 1 / sharpness, iterations).argmax(dim=1)


@full_precision
@torch.no_grad()
def concentrations(features_ND: Tensor, centroids_KD: Tensor, labels_N: Tensor, alpha: float, mean: float) -> Tensor:
    """PCL's phi (K,): sum of the distances of a cluster's Z features to its centroid, over Z log(Z + alpha).

    A tight cluster, or a large one, is asked for more sharply. A cluster of one feature gets the largest phi of all; then the lowest and
    the highest tenth are cut off, and all are scaled to their `mean`.
    https://arxiv.org/abs/2005.04966, equation 12; https://github.com/salesforce/PCL/blob/master/main_pcl.py, `run_kmeans`
    """
    distances = (features_ND - centroids_KD[labels_N]).norm(dim=1)
    sizes = torch.bincount(labels_N, minlength=len(centroids_KD)).to(distances.dtype)
    sums = torch.zeros_like(sizes).index_add_(0, labels_N, distances)
    phi = torch.where(sizes > 1, sums / (sizes.clamp(min=1) * (sizes + alpha).log()), 0.0)
    phi = torch.where(sizes > 1, phi, phi.max())
    phi = phi.clamp(phi.quantile(0.1), phi.quantile(0.9))
    return mean * phi / phi.mean() if phi.max() > 0 else torch.full_like(phi, mean)


@full_precision
def proto_nce(q_BD: Tensor, centroids_KD: Tensor, phi_K: Tensor, labels_B: Tensor) -> Tensor:
    """Each query must find the centroid of its image's cluster among all others, each at its own temperature phi.

    One granularity of equation 11 of https://arxiv.org/abs/2005.04966.

    Args:
        q_BD: queries of any length.
        centroids_KD: of length 1.
    """
    return cross_entropy(normalize(q_BD, dim=1) @ centroids_KD.T / phi_K, labels_B)

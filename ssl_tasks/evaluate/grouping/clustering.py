"""k-means on the test images' features against their classes: ACC, ARI, NMI, FMI. iBOT: Zhou et al., 2021, https://arxiv.org/abs/2111.07832.

ACC: the share of images whose cluster is the class's own, under the one-to-one assignment of clusters to classes that makes it largest
(Kuhn, 1955, https://doi.org/10.1002/nav.3800020109). Where clusters and classes are not as many, those left over get no partner, and
their images are wrong: more clusters than classes cannot raise it at will, as they raise purity.

Differs from the paper: iBOT's clusters are the largest output of its projection head, which an exported encoder has no more; here they are
those of k-means (scikit-learn's, k-means++, Lloyd) on L2-normalised features, as all else here judges by cosine.
"""

import warnings
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from schemas.errors import UserError
from schemas.protocols.grouping import Clustering
from ssl_tasks.evaluate.findings import Number, right
from ssl_tasks.evaluate.neighbours import Floats, Ints
from ssl_tasks.evaluate.subject import Subject


def judge(protocol: Clustering, subject: Subject) -> Iterator[Number]:
    from sklearn import metrics

    parts = subject.world.parts
    labels = parts.labels[parts.queries]
    drawn = clusters(subject.features[parts.queries], protocol.clusters or len(np.unique(labels)), protocol.restarts, protocol.draws, subject.world.seed)
    each = np.stack([right(matched(of, labels), labels) for of in drawn])
    yield Number("clustering_accuracy", each.mean(1).tolist(), len(labels), each.mean(0))
    yield Number("ari", [float(metrics.adjusted_rand_score(labels, of)) for of in drawn], len(labels))
    yield Number("nmi", [float(metrics.normalized_mutual_info_score(labels, of)) for of in drawn], len(labels))
    yield Number("fmi", [float(metrics.fowlkes_mallows_score(labels, of)) for of in drawn], len(labels))


def meaning(protocol: Clustering) -> str:
    count = f"{protocol.clusters} clusters" if protocol.clusters else "as many clusters as classes"
    return (
        f"k-means on the L2-normalised features of the test images, {count}, the best of {protocol.restarts} initialisations by inertia; mean and "
        f"standard deviation over {protocol.draws} seeds. ACC: percent of images whose cluster is assigned to their class, under the best "
        "one-to-one assignment; a cluster left over has no class, and its images are wrong. ARI: pairs that both put together or apart, less "
        "what chance gives. NMI: mutual information over the mean of both entropies. FMI: the geometric mean of precision and recall of pairs."
    )


def clusters(features: Floats, count: int, restarts: int, draws: int, seed: int) -> list[Ints]:
    """Of each draw the cluster of every image, (N,).

    Args:
        features: (N, D), of any length.

    Raises:
        UserError: where there are fewer images than clusters.
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.preprocessing import normalize

    if count > len(features):
        raise UserError(f"clustering: clusters is {count}, but only {len(features)} test images are there; lower clusters")
    directions = normalize(np.asarray(features, np.float32))
    seeds = np.random.SeedSequence(seed).generate_state(draws)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct features than clusters: the scores tell
        return [KMeans(count, n_init=restarts, random_state=int(own)).fit(directions).labels_ for own in seeds]


def matched(of: Ints, labels: Ints) -> NDArray[np.int64]:
    """The class that each image's cluster is assigned to, (N,); -1 where it is assigned to none.

    Args:
        of, labels: cluster and class of each image, (N,).
    """
    from scipy.optimize import linear_sum_assignment
    from sklearn.metrics.cluster import contingency_matrix

    classes, numbers = np.unique(labels), np.unique(of)
    rows, columns = linear_sum_assignment(contingency_matrix(labels, of), maximize=True)
    assigned = np.full(len(numbers), -1)
    assigned[columns] = classes[rows]
    found: NDArray[np.int64] = assigned[np.searchsorted(numbers, of)]
    return found

"""DeepCluster v2, SeLa and PCL: losses against the papers' formulas, what keeps them from one cluster for all, and planted clusters found."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from formulas import Matrix, random, softmax, unit
from numpy.testing import assert_allclose
from planted import BATCH, DIM, on_points
from pydantic import ValidationError
from sklearn.metrics import normalized_mutual_info_score
from torch import Tensor

from schemas.errors import UserError
from schemas.methods import PCL as PCLConfig
from schemas.methods import DeepClusterV2 as DeepClusterV2Config
from schemas.methods import SeLa as SeLaConfig
from schemas.views import Views
from ssl_tasks.losses.clusters import balanced_labels, concentrations, proto_nce, tell_label
from ssl_tasks.losses.contrastive import moco
from ssl_tasks.methods.clustering.deepcluster_v2 import DeepClusterV2
from ssl_tasks.methods.clustering.pcl import PCL
from ssl_tasks.methods.clustering.sela import SeLa

IMAGES, CLUSTERS = 4 * BATCH, 8
OF = torch.arange(IMAGES) % CLUSTERS
"""Of which planted cluster each image is."""
SMALL: dict[str, Any] = {"hidden": 32, "output": 16}


def balanced_by_formula(logits: Matrix, sharpness: float) -> Matrix:
    """Equations 5 to 7 of https://arxiv.org/abs/1911.05371: diag(alpha) P^lambda diag(beta), scaled until both margins hold."""
    p = softmax(logits) ** sharpness
    n, k = p.shape
    alpha, beta = np.ones(n), np.ones(k)
    for _ in range(5000):
        beta = (n / k) / (p.T @ alpha)
        alpha = 1 / (p @ beta)
    transport: Matrix = alpha[:, None] * p * beta
    return transport


def phi_by_formula(features: Matrix, centroids: Matrix, labels: list[int], alpha: float, mean: float) -> Matrix:
    """Equation 12 of https://arxiv.org/abs/2005.04966 with loops, and what the authors' code does to it."""
    phi = []
    for c in range(len(centroids)):
        members = [features[i] for i, of in enumerate(labels) if of == c]
        distance = sum(float(np.linalg.norm(v - centroids[c])) for v in members)
        phi.append(distance / (len(members) * math.log(len(members) + alpha)) if len(members) > 1 else None)
    largest = max(value for value in phi if value is not None)
    whole = np.array([largest if value is None else value for value in phi])
    cut = whole.clip(np.percentile(whole, 10), np.percentile(whole, 90))
    scaled: Matrix = mean * cut / cut.mean()
    return scaled


def test_telling_a_label_is_cross_entropy_and_chance_is_the_logarithm_of_the_labels() -> None:
    logits, labels = random(6, 5), torch.tensor([0, 4, 2, 2, 1, 3])
    assert_allclose(tell_label(logits, labels), -np.mean(np.log(softmax(logits.numpy()))[np.arange(6), labels]), rtol=1e-12)
    for count in (4, 8, 100):
        assert_allclose(tell_label(torch.zeros(3, count, dtype=torch.float64), torch.tensor([0, 1, 2])), math.log(count), rtol=1e-12)


def test_selas_labels_are_those_of_the_optimal_transport() -> None:
    logits = 0.3 * random(24, 4)
    expected = balanced_by_formula(logits.numpy(), 5.0)
    assert_allclose(expected.sum(axis=0), 6, rtol=1e-6)
    assert balanced_labels(logits, 5.0, iterations=2000).tolist() == expected.argmax(axis=1).tolist()


def test_labels_are_used_alike_though_a_head_prefers_one_for_all_images() -> None:
    """The way out of labels that one finds oneself: the same one for everything is told perfectly, and is not allowed."""
    logits = random(400, 5)
    logits[:, 2] += 10
    assert set(logits.argmax(dim=1).tolist()) == {2}
    sizes = torch.bincount(balanced_labels(logits, 25.0, iterations=500), minlength=5)
    assert sizes.min() > 60
    assert sizes.max() < 100


def test_pcls_concentration_is_the_papers_equation() -> None:
    features, centroids = torch.from_numpy(unit(random(30, 4))), torch.from_numpy(unit(random(6, 4)))
    labels = torch.tensor([0] * 12 + [1] * 8 + [2] * 5 + [3] * 4 + [4])  # one of a single feature, one of none
    expected = phi_by_formula(features.numpy(), centroids.numpy(), labels.tolist(), 10.0, 0.2)
    found = concentrations(features, centroids, labels, 10.0, 0.2)
    assert_allclose(found, expected, rtol=1e-12)
    assert_allclose(found.mean(), 0.2, rtol=1e-12)


def test_a_tight_cluster_and_of_two_alike_a_large_one_is_asked_for_more_sharply() -> None:
    centroids = torch.eye(3, dtype=torch.float64)
    offsets = [0.1] * 4 + [0.5] * 4 + [0.5] * 40
    labels = torch.tensor([0] * 4 + [1] * 4 + [2] * 40)
    features = centroids[labels] + torch.tensor(offsets, dtype=torch.float64)[:, None] * torch.tensor([0.0, 0.0, 0.0, 1.0])[:3].new_ones(3) / math.sqrt(3)
    phi = concentrations(features, centroids, labels, 10.0, 0.2)
    assert phi[0] < phi[2] < phi[1]


def test_clusters_without_any_width_get_the_mean_temperature() -> None:
    centroids = torch.eye(3)
    assert concentrations(centroids, centroids, torch.arange(3), 10.0, 0.2).tolist() == pytest.approx([0.2] * 3)


def test_proto_nce_is_the_papers_equation() -> None:
    q, centroids, phi = random(5, 4), torch.from_numpy(unit(random(7, 4))), 0.1 + random(7).abs()
    labels = torch.tensor([6, 0, 3, 3, 1])
    expected = []
    for row, label in zip(unit(q), labels.tolist(), strict=True):
        each = [math.exp(float(row @ c) / float(p)) for c, p in zip(centroids.numpy(), phi, strict=True)]
        expected.append(-math.log(each[label] / sum(each)))
    assert_allclose(proto_nce(q, centroids, phi, labels), np.mean(expected), rtol=1e-12)


def batches(epochs: int, views: int) -> Iterator[tuple[list[Tensor], Tensor]]:
    """Noisy looks at points of the planted clusters, with which images they are of."""
    generator = torch.Generator().manual_seed(1)
    middles = 2 * torch.randn(CLUSTERS, DIM, generator=torch.Generator().manual_seed(0))
    points = middles[OF] + 0.5 * torch.randn(IMAGES, DIM, generator=generator)
    for _ in range(epochs):
        for rows in torch.randperm(IMAGES, generator=generator).split(BATCH):
            yield [points[rows] + 0.3 * torch.randn(BATCH, DIM, generator=generator) for _ in range(views)], rows


def trained(method: Any, epochs: int, views: int = 2, rate: float = 3e-3) -> Any:
    """A method after some epochs, as the loop trains it."""
    optimizer = torch.optim.Adam([p for p in method.parameters() if p.requires_grad], rate)
    steps = epochs * (IMAGES // BATCH)
    for step, (crops, rows) in enumerate(batches(epochs, views)):
        loss = torch.stack(list(method([*crops, rows], step / steps).values())).sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # of torch
        optimizer.step()
        method.after_step(step / steps)
    return method


def of_points(method: Callable[..., Any], config: Any) -> Any:
    return on_points(lambda config, encoder: method(config, encoder, images=IMAGES), config)


def deepcluster(**settings: Any) -> Any:
    return of_points(DeepClusterV2, DeepClusterV2Config(**SMALL, clusters=CLUSTERS, heads=2, views=Views(count=2), **settings))


def sela(**settings: Any) -> Any:
    return of_points(SeLa, SeLaConfig(**{"clusters": CLUSTERS, "heads": 2, **settings}))


def pcl(**settings: Any) -> Any:
    return of_points(PCL, PCLConfig(**SMALL, **{"granularities": (CLUSTERS, 16), "queue": BATCH, "momentum": 0.9, **settings}))


def told(labels: Tensor) -> float:
    """Mutual information of found labels and planted clusters, normalised."""
    return float(normalized_mutual_info_score(OF.numpy(), labels.numpy()))


def test_deepcluster_finds_planted_clusters() -> None:
    method = deepcluster()
    assert told(method.labels[0]) < 0.3
    trained(method, epochs=12)
    assert min(told(labels) for labels in method.labels) > 0.8
    assert int(method.rounds.done) == 12


def test_sela_finds_planted_clusters_and_uses_labels_alike() -> None:
    method = trained(sela(), epochs=30, views=1)
    assert max(told(labels) for labels in method.labels) > 0.7
    for labels in method.labels:
        assert torch.bincount(labels, minlength=CLUSTERS).min() > IMAGES / CLUSTERS / 4


def test_pcl_finds_planted_clusters() -> None:
    method = trained(pcl(), epochs=12)
    assert told(method.granularities[0].labels) > 0.8


def test_deepclusters_labels_are_the_nearest_prototypes_of_what_the_banks_remember() -> None:
    method = trained(deepcluster(), epochs=2)
    for head in range(2):
        nearest = (method.banks[head].rows @ method.prototypes[head].T).argmax(dim=1)
        assert torch.equal(nearest, method.labels[head])
    torch.testing.assert_close(method.prototypes.norm(dim=-1), torch.ones(2, CLUSTERS))
    assert not any("prototypes" in name for name, _ in method.named_parameters())


def test_deepclusters_loss_is_the_cross_entropy_of_all_crops_over_the_heads() -> None:
    method = deepcluster(temperature=0.2).eval()
    crops, rows = next(batches(1, 3))
    z = [unit(method.projector(method.encoder(crop))).astype(np.float64) for crop in crops]
    expected = []
    for prototypes, labels in zip(method.prototypes.double().numpy(), method.labels[:, rows], strict=True):
        for crop in z:
            expected.append(-np.log(softmax(crop @ prototypes.T / 0.2)[np.arange(BATCH), labels]).mean())
    assert_allclose(float(method([*crops, rows], 0.5)["deepcluster"].detach()), np.mean(expected), rtol=1e-5)


def test_clusters_stay_as_they_are_within_an_epoch_and_are_those_of_all_its_images_at_the_end() -> None:
    method, seen = deepcluster(), []
    for crops, rows in batches(2, 2):
        method([*crops, rows], 0.5)
        method.after_step(0.5)
        seen.append(method.labels.clone())
    changed = [not torch.equal(before, after) for before, after in zip([seen[0], *seen], seen, strict=False)]
    assert changed == [False, False, False, True, False, False, False, True]


def test_each_image_has_the_row_of_its_number() -> None:
    method = deepcluster()
    crops, rows = next(batches(1, 2))
    before = method.banks[1].rows.clone()
    method([*crops, rows], 0.5)
    others = torch.ones(IMAGES, dtype=torch.bool)
    others[rows] = False
    assert torch.equal(method.banks[1].rows[others], before[others])
    with torch.no_grad():
        z = torch.nn.functional.normalize(method.projector(method.encoder(torch.cat(crops))), dim=1)
    torch.testing.assert_close(method.banks[1].rows[rows], z[BATCH:])


def test_selas_labels_stand_until_every_image_was_seen_and_then_change_at_its_times() -> None:
    method, changes = sela(updates=5), []
    for step, (crops, rows) in enumerate(batches(8, 1)):
        before = method.labels.clone()
        method([*crops, rows], step / 32)
        method.after_step(step / 32)
        changes.append(not torch.equal(method.labels, before))
    assert [step for step, changed in enumerate(changes) if changed] == [4, 8, 18]  # 32 i^2 / 16: 2, before all were seen, is made up for
    assert int(method.updated) == 3


def test_pcl_is_moco_until_its_images_are_clustered_after_the_warm_up() -> None:
    method = pcl(warmup=0.5)
    for step, ((query, key), rows) in enumerate(batches(4, 2)):
        progress = step / 16
        queries, keys = method.head(method.encoder(query)), method.key_head(method.key_encoder(key))
        alone = moco(queries, keys, method.queue.rows, 0.2)
        found = method([query, key, rows], progress)["pcl"]
        protos = [proto_nce(queries, each.centroids, each.phi, each.labels[rows]) for each in method.granularities]
        torch.testing.assert_close(found, alone + (sum(protos) / 2 if step > 11 else 0))
        method.after_step(progress)
        assert bool(method.clustered) == (step >= 11)


@pytest.mark.parametrize(
    ("method", "config", "line"),
    [
        (DeepClusterV2, DeepClusterV2Config(), r"method\.clusters: 3000 clusters of 256 images"),
        (SeLa, SeLaConfig(), r"method\.clusters: 3000 clusters of 256 images"),
        (PCL, PCLConfig(granularities=(10, 300, 20)), r"method\.granularities: 300 clusters of 256 images"),
    ],
)
def test_more_clusters_than_images_are_refused(method: Callable[..., Any], config: Any, line: str) -> None:
    with pytest.raises(UserError, match=line):
        of_points(method, config)


def test_views_that_hold_no_cluster_are_refused() -> None:
    for config, views in ((DeepClusterV2Config, Views(count=1)), (SeLaConfig, Views(count=1, local_count=2)), (PCLConfig, Views(count=3))):
        with pytest.raises(ValidationError, match="this method"):
            config(views=views)
    with pytest.raises(ValidationError, match="granularities"):
        PCLConfig(granularities=())

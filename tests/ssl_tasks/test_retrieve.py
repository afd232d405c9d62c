"""Retrieval: from a pool, what lies near a seed set."""

from pathlib import Path

import numpy as np
import pytest
from concept_pools import concept_pool, concepts, seed_set, unit
from test_curate import curated

from schemas.curation import Retrieve
from ssl_tasks.curate.retrieve import by_seed
from ssl_tasks.data import manifest

IDS = np.arange(100, 106)
POOL = unit(np.array([[10.0, 0], [10, 1], [10, 2], [0, 10], [1, 10], [-5, -5]]))


def nearest(seeds: list[list[float]], **config: object) -> tuple[list[int], object]:
    found = by_seed(IDS, POOL, np.arange(len(seeds)) + 7, unit(np.array(seeds, float)), Retrieve.model_validate({"seeds": "s", **config}))
    return IDS[~found.removed].tolist(), found


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A pool of four concepts, and other pictures of the second and the third as seeds."""
    concept_pool(tmp_path, [10, 8, 4, 4])
    seed_set(tmp_path, [4, 1], first=1)
    return tmp_path


def test_the_neighbours_of_each_seed_are_kept(workspace: Path) -> None:
    dataset, table, _ = curated(workspace, [{"kind": "retrieve", "seeds": "seeds", "neighbours": 2}], seeds="seeds")
    kept = manifest.kept(table)
    assert set(concepts(kept)) == {1, 2}
    assert np.sum(concepts(kept) == 2) == 2
    told = {name: dataset.metrics[f"curate/1_retrieve/{name}"] for name in ("seeds", "found", "collisions")}
    assert told == {"seeds": 5, "found": dataset.kept, "collisions": 10 - dataset.kept}
    assert set(table.filter(table["1_retrieve.seed"].is_null())["why"].to_pylist()) == {"retrieve: not among the 2 nearest of any seed"}


def test_each_image_names_its_nearest_seed() -> None:
    kept, found = nearest([[10, 0.1], [10, 2.1], [0, 10]], neighbours=2)
    assert kept == [100, 101, 102, 103, 104]
    assert found.said["seed"].to_pylist() == [7, 7, 8, 9, 9, None]
    assert found.said["rank"].to_pylist() == [1, 2, 1, 1, 2, None]
    cosine = float(POOL[1].astype(np.float64) @ unit(np.array([[10, 0.1]]))[0].astype(np.float64))
    assert found.said["similarity"].to_pylist()[1] == pytest.approx(cosine, abs=1e-6)
    assert found.metrics == {"seeds": 3, "found": 5, "collisions": 1}


def test_seeds_take_turns_so_that_none_floods_the_set() -> None:
    assert nearest([[10, 0], [0, 10]], neighbours=3, keep=4)[0] == [100, 101, 103, 104]
    assert nearest([[10, 0], [0, 10]], neighbours=3, keep=2)[0] == [100, 103]


def test_a_pool_image_equal_to_a_seed_counts_as_any_other() -> None:
    kept, found = nearest([[10, 0]], neighbours=1)
    assert kept == [100]
    assert found.said["similarity"].to_pylist()[0] == 1


def test_clusters_that_hold_enough_seeds_are_sampled(workspace: Path) -> None:
    step = {"kind": "retrieve", "seeds": "seeds", "mode": "clusters", "clusters": 4, "seeds_per_cluster": 2, "per_cluster": 5}
    dataset, table, _ = curated(workspace, [step], seeds="seeds")
    assert concepts(manifest.kept(table)).tolist() == [1] * 5
    assert dataset.metrics["curate/1_retrieve/sampled_clusters"] == 1
    seeds = manifest.column(table, "1_retrieve.seeds")
    assert [set(seeds[concepts(table) == concept]) for concept in range(4)] == [{0}, {4}, {1}, {0}]
    why = dict(zip(concepts(table).tolist(), table["why"].to_pylist(), strict=True))
    assert why[3] == "retrieve: fewer than 2 seeds in its cluster"


def test_clusters_take_turns(workspace: Path) -> None:
    step = {"kind": "retrieve", "seeds": "seeds", "mode": "clusters", "clusters": 4, "seeds_per_cluster": 1, "keep": 6}
    _, table, _ = curated(workspace, [step], seeds="seeds")
    assert np.bincount(concepts(manifest.kept(table))).tolist() == [0, 3, 3]

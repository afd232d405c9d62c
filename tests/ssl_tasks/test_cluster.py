"""The cluster step: it removes nothing, and what it says is a tree that later steps can read."""

import json
from pathlib import Path

import numpy as np
import pytest
from concept_pools import concept_pool, concepts, planted
from numpy.typing import NDArray
from test_curate import curated

from ssl_tasks.curate.cluster import largest, level_report, tree
from ssl_tasks.data import manifest

STEP = {"kind": "cluster", "clusters": [6, 2]}


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """Six concepts, of 12, 6, 4, 3, 2 and 2 pictures."""
    return concept_pool(tmp_path, [12, 6, 4, 3, 2, 2])


def same_parts(one: NDArray[np.int64], other: NDArray[np.int64]) -> bool:
    return np.array_equal(one[:, None] == one, other[:, None] == other)


def test_each_concept_is_a_cluster_and_no_image_is_removed(workspace: Path) -> None:
    dataset, table, _ = curated(workspace, [STEP])
    assert dataset.kept == 29
    assert same_parts(manifest.column(table, "cluster"), concepts(table))
    assert dataset.metrics["curate/1_cluster/level_1/clusters"] == 6
    assert dataset.metrics["curate/1_cluster/level_1/largest"] == 12


def test_the_levels_are_a_tree(workspace: Path) -> None:
    _, table, _ = curated(workspace, [STEP])
    fine, coarse = (manifest.column(table, f"1_cluster.level_{level}") for level in (1, 2))
    assert np.array_equal(fine, manifest.column(table, "cluster"))
    assert all(len(set(coarse[fine == cluster])) == 1 for cluster in range(6))
    assert set(coarse) == {0, 1}


def test_a_single_number_is_one_level(workspace: Path) -> None:
    _, table, _ = curated(workspace, [{"kind": "cluster", "clusters": 6}])
    assert [name for name in table.column_names if "." in name] == ["1_cluster.kept", "1_cluster.level_1", "1_cluster.distance"]
    assert same_parts(manifest.column(table, "cluster"), concepts(table))


def test_the_report_names_the_largest_clusters_by_the_images_nearest_to_their_centroid(workspace: Path) -> None:
    dataset, table, _ = curated(workspace, [STEP])
    (step,) = json.loads(dataset.path("report.json").read_text())["steps"]
    first = step["largest_clusters"][0][0]
    assert [cluster["size"] for cluster in step["largest_clusters"][0]] == [12, 6, 4, 3, 2, 2]
    assert set(concepts(table)[first["images"]]) == {0}
    distances = manifest.column(table, "1_cluster.distance")[first["images"]]
    assert len(distances) == 12
    assert np.all(np.diff(distances) >= 0)
    assert [level["clusters"] for level in step["levels"]] == [6, 2]


def test_a_later_curation_finds_the_tree_of_the_last_cluster_step(workspace: Path) -> None:
    _, table, _ = curated(workspace, [{"kind": "cluster", "clusters": 3}, STEP, {"kind": "balance", "keep": 20}])
    found = tree(manifest.kept(table))
    assert found
    assert len(found[0]) == 2
    assert np.array_equal(found[0][0], manifest.kept(table)["2_cluster.level_1"].to_numpy())
    assert len(found[1]) == 20


def test_a_manifest_without_clusters_has_no_tree(workspace: Path) -> None:
    _, table, _ = curated(workspace, ["exact_duplicates"])
    assert tree(table) is None


def test_the_largest_clusters_are_told_with_sizes_and_ids() -> None:
    told = largest(np.array([1, 0, 1, 1], np.int32), np.array([0.3, 0.0, 0.1, 0.1], np.float32), np.array([10, 11, 12, 13]))
    assert told == [{"cluster": 1, "size": 3, "images": [12, 13, 10]}, {"cluster": 0, "size": 1, "images": [11]}]


def test_sizes_are_told_of_clusters_that_hold_images() -> None:
    assert level_report(np.array([0, 0, 3, 3], np.int32)) == {"clusters": 2, "smallest": 2, "median": 2.0, "largest": 2, "entropy": 1.0}


def test_planted_worlds_are_of_unit_vectors() -> None:
    points, of = planted([5, 2])
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 1, rtol=1e-6)
    assert sorted(of.tolist()) == [0] * 5 + [1] * 2

"""Balance: even samples of clusters and of trees, of exactly the size that was asked for."""

from pathlib import Path

import numpy as np
import pytest
from concept_pools import concept_pool, concepts
from test_curate import curated, events, job_of

from schemas.artifacts import Dataset
from schemas.stages import Curate
from ssl_tasks.curate import curate
from ssl_tasks.curate.balance import leaf_shares
from ssl_tasks.data import manifest
from ssl_tasks.tracking import JSONLines

SIZES = [20, 10, 4, 2, 2]


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    return concept_pool(tmp_path, SIZES)


def left(workspace: Path, *steps: object, key: str = "clean") -> list[int]:
    """How many pictures of each concept are kept."""
    _, table, _ = curated(workspace, list(steps), key=key)
    return np.bincount(concepts(manifest.kept(table)), minlength=len(SIZES)).tolist()


def test_clusters_that_are_told_apart_are_flattened(workspace: Path) -> None:
    assert left(workspace, {"kind": "balance", "keep": 16, "clusters": 5}) == [4, 4, 4, 2, 2]


def test_fewer_images_than_asked_for_are_all_kept_with_a_note(tmp_path: Path) -> None:
    concept_pool(tmp_path, [3, 2])
    dataset, _, job = curated(tmp_path, [{"kind": "balance", "keep": 10}])
    assert dataset.kept == 5
    notes = [event["message"] for event in events(job) if event["event"] == "note"]
    assert "1_balance: all 5 images kept: there are no more than `keep: 10`" in notes


def test_the_tree_of_a_cluster_step_is_sampled_though_images_went_since(workspace: Path) -> None:
    steps = [{"kind": "cluster", "clusters": 5}, {"kind": "diverse", "keep": 25}, {"kind": "balance", "keep": 11}]
    between = np.array(left(workspace, *steps[:2], key="between"))
    kept = np.array(left(workspace, *steps))
    assert kept.sum() == 11
    assert np.all(kept >= np.minimum(between, kept.max() - 1))


def test_a_later_stage_samples_the_tree_of_an_earlier_one(workspace: Path) -> None:
    curated(workspace, [{"kind": "cluster", "clusters": 5}], key="clustered")
    stage = Curate.model_validate({"dataset": "clustered", "steps": [{"kind": "balance", "keep": 16}]})
    job = job_of(stage, workspace, "later", {"clustered": "clustered"})
    dataset = curate(job, JSONLines(job.work / "events.jsonl"))[""]
    assert isinstance(dataset, Dataset)
    table = manifest.read(dataset)
    assert np.bincount(concepts(manifest.kept(table))).tolist() == [4, 4, 4, 2, 2]
    assert manifest.steps(table) == ["1_cluster", "2_balance"]
    assert [name for name in table.column_names if name.startswith("2_balance.")] == ["2_balance.kept"]


def test_the_closest_are_those_nearest_to_the_centroid(workspace: Path) -> None:
    _, table, _ = curated(workspace, [{"kind": "balance", "keep": 16, "clusters": 5, "pick": "closest"}])
    distance, kept = manifest.column(table, "1_balance.distance"), manifest.column(table, "kept")
    for concept in range(5):
        mine = concepts(table) == concept
        assert distance[mine & kept].max() <= distance[mine & ~kept].min(initial=np.inf)


def test_chance_picks_others_with_another_seed(workspace: Path) -> None:
    step = {"kind": "balance", "keep": 16, "clusters": 5}
    one, again, other = (curated(workspace, [step], key=key, seed=seed)[1]["kept"] for key, seed in (("a", 0), ("b", 0), ("c", 1)))
    assert one == again != other


def test_a_tree_is_sampled_from_the_top_down() -> None:
    fine = np.repeat(np.arange(5), [30, 30, 30, 5, 50]).astype(np.int32)
    coarse = np.array([0, 0, 0, 0, 1], np.int32)[fine]
    shares = leaf_shares([fine, coarse], 40, np.random.default_rng(0))
    assert shares.tolist() == [5, 5, 5, 5, 20]


@pytest.mark.parametrize("seed", range(5))
def test_no_cluster_of_any_level_is_over_its_share_and_the_target_is_met(seed: int) -> None:
    random = np.random.default_rng(seed)
    fine = np.minimum(random.geometric(0.02, 3000), 200).astype(np.int32) - 1
    middle = (random.permutation(200) % 15).astype(np.int32)[fine]
    coarse = (np.arange(15) % 4).astype(np.int32)[middle]
    keep = int(random.integers(50, 2500))
    shares = leaf_shares([fine, middle, coarse], keep, random)
    assert shares.sum() == keep
    sizes = np.bincount(fine, minlength=200)
    assert np.all(shares <= sizes[: len(shares)])
    parents = {int(f): int(m) for f, m in zip(fine, middle, strict=True)}
    for parent in set(parents.values()):
        inside = [child for child, of in parents.items() if of == parent]
        cap = max(shares[child] for child in inside)
        assert all(shares[child] >= min(cap - 1, sizes[child]) for child in inside)

"""Splits: whole groups, wanted shares, each label's too."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from concept_pools import concept_pool, concepts, draw
from numpy.typing import NDArray
from test_curate import curated, events, raw

from schemas.errors import UserError
from ssl_tasks.curate.split import counted, in_order, take, values
from ssl_tasks.data import manifest

SIZES = [3, 3, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1]


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """13 groups of 20 near duplicates in all."""
    return concept_pool(tmp_path, SIZES, noise=6)


def sides(table: pa.Table) -> NDArray[Any]:
    return manifest.column(table, "split")


def test_no_near_duplicates_straddle_a_split_and_shares_are_met_within_half_a_group(workspace: Path) -> None:
    dataset, table, _ = curated(workspace, [{"kind": "split", "test": 0.3, "val": 0.2}])
    for concept in range(len(SIZES)):
        assert len(set(sides(table)[concepts(table) == concept])) == 1
    counts = Counter(sides(table).tolist())
    assert abs(counts["test"] - 6) <= 1.5
    assert abs(counts["val"] - 4) <= 1.5
    assert dataset.metrics["curate/1_split/test_share"] == counts["test"] / 20
    assert dataset.metrics["curate/1_split/val_share"] == counts["val"] / 20
    assert dataset.metrics["curate/1_split/groups"] == 13
    assert dataset.kept == counts["train"]


def test_each_image_names_its_group(workspace: Path) -> None:
    _, table, _ = curated(workspace, ["split"])
    assert np.array_equal(manifest.column(table, "1_split.group"), concepts(table))
    assert manifest.column(table, "1_split.group_size").tolist() == [size for size in SIZES for _ in range(size)]


def test_clusters_and_provenance_columns_are_groups_too(workspace: Path) -> None:
    steps = [{"kind": "cluster", "clusters": [8, 3]}, {"kind": "split", "by": "1_cluster.level_2", "test": 0.4}]
    _, table, _ = curated(workspace, steps)
    level = manifest.column(table, "1_cluster.level_2")
    assert all(len(set(sides(table)[level == cluster])) == 1 for cluster in range(3))
    assert set(sides(table)) == {"train", "test"}


def test_images_without_a_value_are_groups_of_their_own(workspace: Path) -> None:
    _, table, _ = curated(workspace, [{"kind": "split", "by": "label", "test": 0.25}])
    assert Counter(sides(table).tolist()) == {"train": 15, "test": 5}
    assert manifest.column(table, "1_split.group").tolist() == list(range(20))


def test_an_unknown_column_is_a_user_error_with_a_hint(workspace: Path) -> None:
    with pytest.raises(UserError, match=r"stages.curate: `split` by 'clustr': no such column of the manifest; did you mean 'cluster'\?"):
        curated(workspace, [{"kind": "split", "by": "clustr"}])


def test_each_label_keeps_its_share_and_other_splits_stay(tmp_path: Path) -> None:
    for label, count in (("cat", 20), ("dog", 10), ("owl", 5)):
        draw(tmp_path / f"pool/train/{label}", [1] * count, first=sum(map(ord, label)) % 50)
    draw(tmp_path / "pool/test/cat", [1, 1], first=40)
    raw(tmp_path, splits=True, labels=True)
    dataset, table, _ = curated(tmp_path, [{"kind": "split", "by": "id", "test": 0.2}])
    counts = Counter(zip(sides(table).tolist(), table["label"].to_pylist(), strict=True))
    assert counts == {("train", "cat"): 16, ("train", "dog"): 8, ("train", "owl"): 4, ("test", "cat"): 4 + 2, ("test", "dog"): 2, ("test", "owl"): 1}
    (step,) = json.loads(dataset.path("report.json").read_text())["steps"]
    assert step["labels"]["dog"] == {"train": 8, "val": 0, "test": 2}


def test_a_group_larger_than_a_split_stays_whole_with_a_note(tmp_path: Path) -> None:
    concept_pool(tmp_path, [12, 1, 1, 1, 1, 1, 1, 1, 1], noise=4)
    _, table, job = curated(tmp_path, [{"kind": "split", "test": 0.1}])
    assert set(sides(table)[concepts(table) == 0]) == {"train"}
    assert (sides(table) == "test").sum() == 2
    notes = [event["message"] for event in events(job) if event["event"] == "note"]
    assert "1_split: groups larger than `test: 0.1` (2 images) stay whole: 1, the largest of 12 images" in notes


def test_mixed_groups_come_as_close_to_each_labels_share_as_whole_groups_allow() -> None:
    random = np.random.default_rng(0)
    groups = np.repeat(np.arange(300), random.integers(1, 9, 300))
    labels = random.choice(5, len(groups), p=[0.5, 0.25, 0.15, 0.07, 0.03])
    members = counted(groups, labels, 5)
    wanted = 0.2 * members.sum(0)
    found = np.bincount(labels[take(members, wanted)[groups]], minlength=5)
    assert np.abs(found - wanted[:5]).max() <= 4  # half of the largest group
    assert abs(found.sum() - wanted[5]) <= 1


def test_labels_too_rare_for_a_whole_image_still_fill_the_total() -> None:
    labels = np.repeat(np.arange(30), 3)
    taken = take(counted(np.arange(90), labels, 30), np.array([0.3] * 30 + [9]))
    assert taken.sum() == 9
    assert Counter(labels[taken].tolist()).most_common(1)[0][1] == 1


def test_groups_are_counted_by_label_and_in_all() -> None:
    members = counted(np.array([1, 0, 1, 1]), np.array([0, 2, 2, 2]), 3)
    assert members.toarray().tolist() == [[0, 0, 1, 1], [1, 0, 2, 3]]


def test_adding_an_image_moves_few_others() -> None:
    def sides_of(count: int) -> set[str]:
        names = [f"{number:064x}" for number in range(count)]
        order = in_order(np.arange(count), names, seed=3)
        taken = take(counted(np.arange(count), np.zeros(count, int), 1), np.array([count * 0.2] * 2))
        return {names[place] for place in order[taken]}

    before, after = sides_of(1000), sides_of(1010)
    assert len(before - after) <= 10
    assert len(before) == 200
    assert sides_of(1000) == before


def test_the_order_depends_on_the_seed_and_not_on_where_images_stand() -> None:
    names = [f"{number:064x}" for number in range(50)]
    order = in_order(np.arange(50), names, 0)
    back = in_order(np.arange(50), names[::-1], 0)
    assert [names[place] for place in order] == [names[49 - place] for place in back]
    assert in_order(np.arange(50), names, 1).tolist() != order.tolist()


def test_values_are_numbered_in_order_and_nulls_are_none() -> None:
    numbers, known = values(pa.chunked_array([["b", None, "a", "b"]]))
    assert numbers.tolist() == [1, -1, 0, 1]
    assert known == ["a", "b"]

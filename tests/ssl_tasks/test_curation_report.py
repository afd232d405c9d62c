"""The report of a curation: that it shows what the manifest holds, and stays whole whatever is in a file's name or gone from disk."""

import html
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_curate import CURATE, curated, job_of, raw, save, smooth

from schemas.artifacts import Dataset, read
from schemas.curation import Balance, Deduplicate, Integrity
from schemas.embeddings import Pixels
from schemas.stages import Curate
from ssl_tasks.curate import shards
from ssl_tasks.curate.pool import Pool
from ssl_tasks.curate.report import STAYS, Story, clusters, counts, curves, leaks, plane, scenes
from ssl_tasks.curate.report.pictures import Album
from ssl_tasks.curate.report.story import in_words
from ssl_tasks.data import manifest

HOSTILE = "<img src=x onerror=alert(1)>&quot;.png"
STEPS = ["integrity", "exact_duplicates", {"kind": "deduplicate", "threshold": 0.98}, {"kind": "balance", "keep": 16, "clusters": 4}]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train, of two classes: 30 unlike pictures, 00 thrice, 01 again twice as large; two that cannot be read. Test: three."""
    workspace = tmp_path_factory.mktemp("world")
    pool = workspace / "pool"
    for i in range(30):
        save(smooth(i), pool / f"train/{'cats' if i < 20 else 'dogs'}/{i:02d}.png")
    save(smooth(0), pool / "train/cats/a_copy.bmp")
    save(np.stack([smooth(0)] * 3, axis=-1), pool / "train/dogs/a_rgb.png")
    save(smooth(1, 64), pool / "train/cats/b_large.png")
    (pool / "train/cats" / HOSTILE).write_text("no image")
    (pool / "train/dogs/empty.png").touch()
    for i in range(3):
        save(smooth(100 + i), pool / f"test/cats/{i}.png")
    raw(workspace, splits=True, labels=True)
    return workspace


@pytest.fixture(scope="module")
def dataset(world: Path) -> Dataset:
    return curated(world, STEPS)[0]


@pytest.fixture(scope="module")
def page(dataset: Dataset) -> str:
    return dataset.path("report.html").read_text()


@pytest.fixture
def story(world: Path, dataset: Dataset) -> Story:
    """The same story again, from what the stage left."""
    return told(world, dataset)


def told(world: Path, dataset: Dataset) -> Story:
    job = job_of(Curate.model_validate({"dataset": "raw", "steps": STEPS}), world, "clean", {"raw": "raw"})
    before, after = manifest.read(read(job.folder("raw"))), manifest.read(dataset)
    kinds = [step.kind for step in job.stage.steps]
    taken = np.array([kinds.index(why.split(":")[0]) if why else STAYS for why in after["why"].to_pylist()], np.int16)
    pool = Pool(job, after, after, "", 0, dataset.folder, shards.threads, lambda _done, _of: None)
    return Story(pool, before, after, json.loads(dataset.path("report.json").read_text())["steps"], taken)


def text(page: str) -> str:
    """What a reader sees of a page, in one line."""
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", re.sub(r"(?s)<style>.*?</style>", "", page))))


def test_the_counts_on_the_page_are_those_of_the_manifest(page: str, dataset: Dataset) -> None:
    table = manifest.read(dataset)
    gone = [why.split(":")[0] for why in table["why"].to_pylist() if why]
    assert {kind: gone.count(kind) for kind in set(gone)} == {"integrity": 2, "exact_duplicates": 2, "deduplicate": 1, "balance": 14}
    seen = text(page)
    assert "16 of 35 images stay, 45.7%." in seen
    assert "Balance took 14, integrity 2, exact duplicates 2 and deduplicate 1." in seen
    assert "came in 35 integrity 33 -2 exact duplicates 31 -2 deduplicate 30 -1 balance 16 -14" in seen.replace("\N{MINUS SIGN}", "-")
    assert "wrong type 1 2.6%" in seen
    assert "2 of 33 removed, 6.1%: equal pixels" in seen


def test_classes_and_splits_are_counted_before_and_after(story: Story) -> None:
    found, more = counts.classes(story)
    labels, kept = story.after["label"].to_pylist(), story.stays
    assert more == 0
    assert [(share.name, share.before) for share in found] == [("cats", 23), ("dogs", 12)]
    assert {share.name: share.after for share in found} == {
        name: sum(label == name and k for label, k in zip(labels, kept, strict=True)) for name in ("cats", "dogs")
    }
    assert [(share.name, share.before, share.after) for share in counts.splits(story)] == [("train", 35, 16), ("test", 3, 3)]


def test_a_group_shows_the_kept_image_first_and_then_those_that_went_for_it(story: Story) -> None:
    groups, total = scenes.duplicates(story, Album(story.pool.job.workspace), 1)
    names = [[tile.name for tile in group.tiles] for group in groups]
    assert total == 1
    assert names == [["00.png", "a_copy.bmp", "a_rgb.png"]]
    assert [tile.tone for tile in groups[0].tiles] == ["kept", "gone", "gone"]
    ((near,), _) = scenes.duplicates(story, Album(story.pool.job.workspace), 2)
    assert [tile.name for tile in near.tiles] == ["b_large.png", "01.png"]
    assert 0.98 <= float(near.tiles[1].note) <= 1


def test_what_cannot_be_decoded_is_shown_by_its_name_and_reason(story: Story, page: str) -> None:
    found = {scene.title: [tile.name for tile in scene.tiles] for scene in scenes.quarantined(story, Album(story.pool.job.workspace), 0)}
    assert found == {"empty": ["empty.png"], "wrong type": [HOSTILE]}
    assert HOSTILE not in page
    assert html.escape(HOSTILE) in page.replace("&#34;", "&quot;")
    assert "<script" not in page


def test_every_id_under_a_picture_is_that_of_the_image_in_it(page: str, dataset: Dataset) -> None:
    uris = manifest.read(dataset)["uri"].to_pylist()
    tiles = re.findall(r'<figure class="tile[^>]*title="([^"]*)">.*?<span class="id">(\d+)</span>', page, re.DOTALL)
    assert len(tiles) > 20
    assert all(uris[int(id_)] == html.unescape(uri) for uri, id_ in tiles)


def test_another_process_with_other_threads_writes_the_same_bytes(world: Path, dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    job = job_of(Curate.model_validate({"dataset": "raw", "steps": STEPS}), world, "there", {"raw": "raw"})
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    subprocess.run([sys.executable, "-c", CURATE], input=job.model_dump_json(), text=True, check=True)
    again = read(job.folder("there")).files
    assert {name for name in again if name.startswith("figures/")} >= {"figures/map.png", "figures/clusters.png", "figures/1_integrity.png"}
    assert again == dataset.files


def test_an_image_that_is_gone_is_a_tile_with_its_name(world: Path, dataset: Dataset, tmp_path: Path) -> None:
    shutil.copytree(world, tmp_path / "copy", symlinks=True)
    (tmp_path / "copy/pool/train/cats/a_copy.bmp").unlink()
    story = told(tmp_path / "copy", dataset)
    album = Album(story.pool.job.workspace)
    ((group,), _) = scenes.duplicates(story, album, 1)
    album.develop()
    assert [tile.picture is not None for tile in group.tiles] == [True, False, True]


def test_clusters_come_largest_first_with_their_sizes_before_and_after(story: Story, page: str) -> None:
    montages, sizes = clusters.clusters(story, Album(story.pool.job.workspace))
    members = [c for c, came in zip(story.after["cluster"].to_pylist(), story.came, strict=True) if came and c is not None]
    assert [before for before, _ in sizes] == sorted((members.count(c) for c in set(members)), reverse=True)
    assert sum(after for _, after in sizes) == 16
    assert [tile.tone == "" for scene in montages for tile in scene.tiles] == [bool(story.stays[tile.id]) for scene in montages for tile in scene.tiles]
    assert f"cluster {montages[0].title}" in page


def test_leaks_stand_beside_the_evaluation_images_and_are_counted_by_set(story: Story, tmp_path: Path) -> None:
    uris, sha256s = story.after["uri"].to_pylist(), story.after["sha256"].to_pylist()
    test, train = uris.index("pool/test/cats/0.png"), uris.index("pool/train/cats/05.png")
    row = {"train_id": train, "train_sha256": sha256s[train], "set_name": "raw", "split": "test", "eval_sha256": sha256s[test], "similarity": 0.99}
    rows = [{**row, "set": "raw", "eval_id": test, "dropped": False}, {**row, "set": "raw", "eval_id": test, "similarity": 0.98, "dropped": True}]
    story.pool.payload = tmp_path
    assert leaks.leaks(story, Album(tmp_path)) is None
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / leaks.known.PAIRS)
    found = leaks.leaks(story, Album(story.pool.job.workspace))
    assert found is not None
    assert found.counts == [("raw", "test", 2, 1)]
    assert [(pair.train.id, pair.evaluated.uri, pair.train.note, pair.dropped) for pair in found.pairs] == [
        (train, "pool/test/cats/0.png", "0.990", False),
        (train, "pool/test/cats/0.png", "0.980", True),
    ]


def test_the_map_holds_every_readable_image_of_a_small_pool(story: Story) -> None:
    drawn = plane.plane(story)
    assert drawn is not None
    assert {layer.name: layer.count for layer in drawn.layers} == {"exact duplicates": 2, "deduplicate": 1, "balance": 14, "stays": 16}
    assert sum(layer.path.count("M") for layer in drawn.layers) == 33
    assert drawn.layers[-1].name == "stays"


def test_a_histogram_has_the_shares_that_numpy_counts() -> None:
    values = np.random.default_rng(0).gamma(2.0, 30.0, 5000) + 1
    drawn = counts.histogram("h", values, values[:100], "")
    assert drawn is not None
    heights = [(100 - float(y)) / 98 for y in re.findall(r"V([\d.e-]+)H", drawn.before)]
    low, high = np.quantile(values, [0.005, 0.995])
    assert high / low > counts.WIDE
    shares = np.histogram(np.clip(values, low, high), np.geomspace(low, high, counts.BINS + 1))[0] / 5000
    assert np.allclose(np.array(heights) / max(heights), shares / shares.max(), atol=0.01)
    assert counts.histogram("h", np.full(9, 8.0), np.full(9, 8.0), "") is None


def test_the_calibration_curve_marks_what_was_chosen() -> None:
    curve = {"threshold": [0.5, 0.75, 1.0], "precision": [0.5, 0.9, 1.0], "recall": [1.0, 0.8, 0.0], "chosen": 0.75, "edits": {"crop": 0.5, "grey_scale": 1.0}}
    found = curves.calibration({"calibration": curve})
    assert found is not None
    assert found.chosen == ("0.750", 50.0)
    assert found.lines[0][2] == "M0 50L50 10L100 0"
    assert found.edits == [("grey scale", 100.0), ("crop", 50.0)]
    assert curves.calibration({}) is None
    assert curves.calibration({"calibration": {"threshold": [0.5, 0.6]}}) is None


def test_a_config_is_told_by_what_differs_from_the_defaults() -> None:
    assert in_words(Integrity()) == ""
    assert in_words(Deduplicate(threshold=0.9, embedding=Pixels(side=8))) == "threshold 0.9, embedding pixels (side 8)"
    assert in_words(Balance(keep=5)) == "keep 5"


@pytest.mark.parametrize(("part", "whole", "said"), [(0, 10, "0.0%"), (1, 3, "33.3%"), (1, 10_000, "<0.1%"), (1, 1, "100.0%"), (0, 0, "0.0%")])
def test_a_share_that_rounds_to_nothing_is_said_to_be_there(part: int, whole: int, said: str) -> None:
    assert counts.percent(part, whole) == said

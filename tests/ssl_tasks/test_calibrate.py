"""A threshold chosen on copies of the pool's own images."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from test_curate import curated, raw, save

from schemas.errors import UserError
from ssl_tasks.curate.calibrate import Pairs, curve
from ssl_tasks.data.edits import CALIBRATION

STEP = {"kind": "deduplicate", "threshold": {"precision": 0.95, "copies": 12}}


def pairs(true: list[float], false: list[float]) -> Pairs:
    return Pairs(np.array(true, np.float32), np.zeros(len(true), np.int64), np.array(false, np.float32))


def textured(seed: int) -> NDArray[np.uint8]:
    """A picture in colour that is unlike any other."""
    random = np.random.default_rng(seed)
    coarse, fine = (Image.fromarray(random.integers(0, 256, (side, side, 3), np.uint8)).resize((96, 96), Image.Resampling.BICUBIC) for side in (5, 12))
    return np.asarray(Image.blend(coarse, fine, 0.4))


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 unlike pictures, of half of which there is a JPEG copy."""
    root = tmp_path_factory.mktemp("calibrate")
    for i in range(40):
        save(textured(i), root / f"pool/train/{i:02d}.png")
        if i % 2:
            save(textured(i), root / f"pool/train/{i:02d}.jpg", quality=40)
    raw(root, splits=True)
    return root


def test_precision_and_recall_are_those_of_counting() -> None:
    threshold, precision, recall = curve(pairs([0.9, 0.7, 0.5, 0.7], [0.8, 0.6, 0.6, 0.1]))
    assert np.allclose(threshold, [0.5, 0.7, 0.9])
    assert np.allclose(precision, [4 / 7, 3 / 4, 1])
    assert np.allclose(recall, [1, 3 / 4, 1 / 4])


def test_a_false_pair_as_near_as_a_true_one_counts() -> None:
    _, precision, _ = curve(pairs([0.5], [0.5]))
    assert precision.tolist() == [0.5]


def test_copies_with_no_likeness_left_are_not_found_at_any_threshold() -> None:
    threshold, precision, recall = curve(pairs([0.5, 0, -0.2], []))
    assert (threshold.tolist(), precision.tolist()) == ([0.5], [1])
    assert np.allclose(recall, [1 / 3])


def test_the_chosen_threshold_has_the_precision_and_finds_the_copies(workspace: Path) -> None:
    dataset, table, _ = curated(workspace, [STEP], key="chosen")
    (told,) = json.loads(dataset.path("report.json").read_text())["steps"]
    calibration = told["calibration"]
    at = calibration["threshold"].index(calibration["chosen"])
    assert calibration["precision"][at] >= 0.95
    assert all(value < 0.95 for value in calibration["precision"][:at])
    assert told["threshold"] == told["cosine"] == calibration["chosen"]
    assert (calibration["images"], calibration["copies"]) == (12, 12 * len(CALIBRATION))
    assert calibration["edits"].keys() == CALIBRATION.keys()
    assert calibration["edits"]["jpeg"] == calibration["edits"]["resized"] == 1
    assert np.mean(list(calibration["edits"].values())) == pytest.approx(calibration["recall"][at])
    gone = {Path(uri).stem for uri, kept in zip(table["uri"].to_pylist(), table["kept"].to_pylist(), strict=True) if not kept}
    assert gone == {f"{i:02d}" for i in range(1, 40, 2)}
    assert any(note.startswith("threshold 0.") and "jpeg 100%" in note for note in told["notes"])


def test_copies_that_are_in_the_pool_already_do_not_count_as_false(workspace: Path) -> None:
    """Half of the pool has a copy there: were those false answers, no threshold would have a precision above 2/3."""
    dataset, _, _ = curated(workspace, [STEP], key="pure")
    (told,) = json.loads(dataset.path("report.json").read_text())["steps"]
    assert max(told["calibration"]["precision"]) == 1


def test_the_same_threshold_again_and_no_copies_left_behind(workspace: Path) -> None:
    first, again = (curated(workspace, [STEP], key=key)[0].files["manifest.parquet"] for key in ("first", "again"))
    assert first == again
    assert not list((workspace / ".sslflow").rglob(".copies-*"))


def test_where_no_threshold_has_the_precision_the_best_is_told(tmp_path: Path) -> None:
    """Pictures whose quarters have the same means: the hashes tell them apart, and an embedding of four pixels does not."""
    shared = np.kron([[80, 120], [140, 160]], np.ones((48, 48)))[..., None]
    for i in range(30):
        quarters = textured(i).reshape(2, 48, 2, 48, 3) * 0.5
        detail = (quarters - quarters.mean((1, 3), keepdims=True)).reshape(96, 96, 3)
        save(np.clip(shared + detail, 0, 255).astype(np.uint8), tmp_path / f"pool/train/{i:02d}.png")
    raw(tmp_path, splits=True)
    step = {**STEP, "embedding": {"kind": "pixels", "side": 2}}
    said = r"^stages.curate.steps.1.threshold: no cosine reaches a precision of 0.95 .*; the best is 0\.\d+, at \d\.\d+, which finds \d+% of them"
    with pytest.raises(UserError, match=said):
        curated(tmp_path, ["integrity", step])


def test_too_few_copies_cannot_tell_a_precision(workspace: Path) -> None:
    step = {**STEP, "threshold": {"precision": 0.99, "copies": 10}}
    with pytest.raises(UserError, match=r"^stages.curate.steps.0.threshold: a precision of 0.99 takes 100 copies .* of 80 there are fewer"):
        curated(workspace, [step], key="few")

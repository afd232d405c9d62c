"""Filters: which rows a condition keeps, what a missing value does to it, and what does not compare."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from test_curate import curated, raw, save, smooth, why

from schemas.conditions import parse
from schemas.errors import UserError
from ssl_tasks.curate.filter import holds

TABLE = pa.table(
    {
        "width": pa.array([8, 16, 32, None], pa.int32()),
        "height": pa.array([8, 8, 64, 64], pa.int32()),
        "sharpness": pa.array([1.5, float("nan"), 0.1, 7.0], pa.float32()),
        "label": ["cat", None, "dog", "cat"],
        "kept": [True, True, False, True],
        "cluster": pa.nulls(4),
        "1_x.seed": pa.array([None, 3, 2**63, 0], pa.uint64()),
        "1_x.vector": [[1.0], [2.0], [3.0], [4.0]],
    }
)


@pytest.mark.parametrize(
    ("where", "rows"),
    [
        ("width >= 16", [1, 2]),
        ("width == 16.0", [1]),
        ("16 < width", [2]),
        ("8 < width <= 32", [1, 2]),
        ("not width >= 16", [0]),
        ("width != 16", [0, 2]),
        ("width < height", [2]),
        ("width >= height", [0, 1]),
        ("width is null", [3]),
        ("width is not null", [0, 1, 2]),
        ("width > 100 or height == 64", [2, 3]),
        ("not (width > 100 and height == 8)", [0, 1, 2, 3]),
        ("not (width > 100 and height == 64)", [0, 1, 2]),
        ("sharpness > 1", [0, 3]),
        ("not sharpness > 1", [2]),
        ("sharpness is null", [1]),
        ("sharpness < width", [0, 2]),
        ("label == 'cat'", [0, 3]),
        ("label != 'cat'", [2]),
        ("label in ['dog', 'cow']", [2]),
        ("label not in ['dog', 'cow']", [0, 3]),
        ("label > 'cb'", [2]),
        ("label is null or width in [32]", [1, 2]),
        ("kept", [0, 1, 3]),
        ("not kept", [2]),
        ("kept == false and width > 1", [2]),
        ("cluster == 3", []),
        ("not cluster == 3", []),
        ("cluster is null", [0, 1, 2, 3]),
        ("`1_x.seed` > -1", [1, 2, 3]),
        ("`1_x.seed` > 3.5", [2]),
        ("`1_x.vector` is not null", [0, 1, 2, 3]),
    ],
)
def test_a_condition_holds_of_these_rows(where: str, rows: list[int]) -> None:
    assert np.flatnonzero(holds(parse(where), TABLE).fill_null(False)).tolist() == rows


@pytest.mark.parametrize(
    ("where", "fault"),
    [
        ("width > 'a'", r"width \(number\) and 'a' \(text\) do not compare by >"),
        ("label == 3", r"label \(text\) and 3 \(number\) do not compare by =="),
        ("label in ['cat', 3]", r"label \(text\) and 3 \(number\) do not compare by =="),
        ("kept > true", r"kept \(true or false\) and True \(true or false\) do not compare by >"),
        ("kept == 1", r"kept \(true or false\) and 1 \(number\)"),
        ("width", r"width \(number\) and True \(true or false\) do not compare"),
        ("`1_x.vector` == 1", r"1_x.vector \(other\)"),
        ("`1_x.sed` == 1", r"no column '1_x.sed'; did you mean '1_x.seed'\?"),
        ("`9_somewhere.else` == 1", r"no column '9_somewhere.else'; there are width, height, .*1_x.vector"),
    ],
)
def test_what_does_not_compare_is_a_user_error(where: str, fault: str) -> None:
    with pytest.raises(UserError, match=fault):
        holds(parse(where), TABLE)


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """Four pictures: 32 px, 64 px, 64 px and blurred, 64 px again as a copy; two labels."""
    save(smooth(0), tmp_path / "pool/cat/small.png")
    save(smooth(1, 64), tmp_path / "pool/cat/large.png")
    save(np.array(smooth(1, 64) // 4 + 90), tmp_path / "pool/dog/dull.png")
    save(smooth(1, 64), tmp_path / "pool/dog/large.bmp")
    raw(tmp_path, labels=True)
    return tmp_path


def test_images_that_do_not_meet_the_condition_go_and_it_is_told_why(workspace: Path) -> None:
    dataset, table, _ = curated(workspace, [{"kind": "filter", "where": "width >= 64 and label == 'cat'"}])
    assert why(table) == dict.fromkeys(("cat/small.png", "dog/dull.png", "dog/large.bmp"), ("filter: does not meet width >= 64 and label == 'cat'", None))
    assert dataset.metrics["curate/1_filter/without_value"] == 0


def test_contrast_and_sharpness_are_measured_where_a_condition_names_them(workspace: Path) -> None:
    _, table, _ = curated(workspace, [{"kind": "filter", "where": "contrast > 40"}])
    assert set(why(table)) == {"dog/dull.png"}
    assert table["contrast"].null_count == table["sharpness"].null_count == 0
    _, table, _ = curated(workspace, [{"kind": "filter", "where": "width > 32"}], key="other")
    assert table["contrast"].null_count == 4


def test_an_unreadable_image_has_no_contrast_and_does_not_stop_a_filter(workspace: Path) -> None:
    (workspace / "pool/cat/broken.png").write_bytes(b"")
    raw(workspace, labels=True)
    dataset, table, job = curated(workspace, [{"kind": "filter", "where": "not contrast > 40"}])
    assert set(why(table)) == {"cat/broken.png", "cat/large.png", "cat/small.png", "dog/large.bmp"}
    assert dataset.metrics["curate/1_filter/without_value"] == 1
    assert "images of which the condition says nothing, since they lack a value: 1" in (job.work / "events.jsonl").read_text()


def test_what_an_earlier_step_said_can_be_asked_for(workspace: Path) -> None:
    steps: list[Any] = ["exact_duplicates", "perceptual_duplicates", {"kind": "filter", "where": "`2_perceptual_duplicates.component` == 0"}]
    _, table, _ = curated(workspace, steps)
    said = table["2_perceptual_duplicates.component"].to_pylist()
    kept = table["kept"].to_pylist()
    assert [component for component, k in zip(said, kept, strict=True) if k] == [0]


def test_an_unknown_provenance_column_is_told_with_the_stage_and_step(workspace: Path) -> None:
    with pytest.raises(UserError, match=r"stages.curate: 1_filter: where `` `7_x.y` > 1 ``: no column '7_x.y'; there are id, uri"):
        curated(workspace, [{"kind": "filter", "where": "`7_x.y` > 1"}])

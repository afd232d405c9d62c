"""`sslflow show --image`: what became of an image, asked of datasets whose story is written down."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from image_stories import NAMES, POOL, STEPS, curated_rows, dataset, lines, row, workspace
from typer.testing import CliRunner

from schemas.errors import UserError
from schemas.stages import Curate
from ssl_tasks.data import manifest
from ssl_tasks.data.provenance import Listing, fate, find
from workflows.engine import explain_images as images
from workflows.engine.cli import app

__all__ = ["workspace"]


@pytest.fixture
def clean(workspace: Path) -> Listing:
    return images.listing(workspace, "clean")


@pytest.mark.parametrize(
    ("asked", "verdict"),
    [
        ("4", "in: kept by each of 4 steps"),
        ("7", "in: it is of the split test, never trained on"),
        ("1", "out: step 2 deduplicate removed it: near duplicate of image 0, pool/a.png, which step 4 balance removed in turn"),
        ("2", "out: step 2 deduplicate removed it: near duplicate of image 1, pool/b.png, which step 2 deduplicate removed in turn"),
        ("6", "out: step 3 exact_duplicates removed it: equal pixels: image 5, pool/f.png, which is in"),
        ("3", "out: step 1 integrity removed it: truncated"),
    ],
)
def test_the_verdict_names_the_step_the_reason_and_what_became_of_the_image_in_its_place(clean: Listing, asked: str, verdict: str) -> None:
    assert images.verdict(fate(clean, find(clean, asked))) == verdict


def test_each_step_says_in_order_what_it_saw_beside_its_own_bound(clean: Listing) -> None:
    told = [(said.step, said.verdict, said.limits) for said in fate(clean, 1).steps]
    assert told == [
        ("1_integrity", "kept", {}),
        ("2_deduplicate", "removed", {"similarity": "cosine 0.991 >= 0.97"}),
        ("3_exact_duplicates", "not asked", {}),
        ("4_balance", "not asked", {}),
    ]
    assert fate(clean, 2).steps[1].limits == {"similarity": "cosine 0.930 < 0.97, joined by a chain"}
    assert [said.verdict for said in fate(clean, 7).steps] == ["kept", "not asked", "not asked", "not asked"]


def test_what_went_because_of_an_image_and_who_shares_its_cluster_are_counted(clean: Listing) -> None:
    told = fate(clean, 0)
    assert (told.stands_for, [other.uri for other in told.went]) == (1, ["pool/b.png"])
    assert told.cluster_mates == (1, 1), "f.png, which is in"
    assert fate(clean, 4).cluster_mates == (0, 0)
    assert fate(clean, 1).cluster_mates is None


def test_a_leak_is_told_of_the_train_image_and_of_the_evaluation_image(clean: Listing) -> None:
    assert [leak["eval_id"] for leak in fate(clean, 4).leaks] == [7]
    assert [leak["train_id"] for leak in fate(clean, 7).leaks] == [4]
    assert fate(clean, 5).leaks == []


@pytest.mark.parametrize("asked", ["5", "pool/f.png", "./pool/f.png", "f.png", POOL[5]["sha256"], POOL[5]["sha256"][:8]])
def test_an_image_is_meant_by_its_id_its_uri_the_end_of_it_or_its_sha256(clean: Listing, asked: str) -> None:
    assert find(clean, asked) == 5


def test_an_image_that_is_not_there_is_one_line_with_what_is_near(clean: Listing) -> None:
    with pytest.raises(UserError) as refused:
        find(clean, "pool/aa.png")
    assert str(refused.value).startswith("no image 'pool/aa.png' among the 8 of clean; near: pool/a.png, ")
    with pytest.raises(UserError, match=r"no image '99' among the 8 of clean, by id, uri or sha256"):
        find(clean, "99")


def test_a_start_that_several_have_names_them_with_their_ids(workspace: Path, tmp_path: Path) -> None:
    twins = tmp_path / "twins.parquet"
    pq.write_table(manifest.build([row("a.png"), row("x/a.png", sha256=POOL[0]["sha256"])]), twins)
    listing = images.listing(workspace, str(twins))
    with pytest.raises(UserError, match=r"means 2 images of .*: 0 \(pool/a.png\), 1 \(pool/x/a.png\); ask for one by its id"):
        find(listing, POOL[0]["sha256"][:10])


def test_of_two_equal_steps_it_is_told_which_one_it_was(tmp_path: Path) -> None:
    table = manifest.replace(manifest.build(POOL[:3]), kept=[False, False, True], why=["filter: dark", "filter: small", ""])
    for name, kept in (("1_filter", [True, False, True]), ("2_filter", [False, None, True])):
        table = manifest.annotate(table, name, {"kept": pa.array(kept)})
    manifest.write(table, tmp_path)
    listing = Listing("two", tmp_path / manifest.FILE)
    assert fate(listing, 0).removed_by == "2_filter"
    assert fate(listing, 1).removed_by == "1_filter"
    assert [said.verdict for said in fate(listing, 1).steps] == ["removed", "not asked"]


def test_a_model_or_a_report_is_asked_for_each_dataset_that_it_comes_from(workspace: Path) -> None:
    told = images.fates(workspace, "teacher", "b.png")
    assert [(each.dataset, use) for each, use in told] == [("clean", "teacher was trained on it")]
    told = images.fates(workspace, "report", "b.png")
    assert [(each.dataset, each.row["kept"], use) for each, use in told] == [
        ("raw", True, "report was evaluated on it"),
        ("clean", False, "teacher was trained on it"),
    ]


def test_the_answer_is_printed_verdict_first(workspace: Path) -> None:
    assert lines(workspace, "clean", "--image", "f.png") == [
        "in: kept by each of 4 steps",
        "  clean clean: image 5, pool/f.png",
        "  1_integrity         kept",
        "  2_deduplicate       kept: it stands for its component",
        "  3_exact_duplicates  kept",
        "  4_balance           kept",
        f"  file: 1,000 bytes, 32 x 24 RGB, sha256 {POOL[5]['sha256'][:16]}, label cat, split train",
        "  cluster 0: 1 other image, 0 of them in",
        "  1 image went because of it: 6 (pool/g.png)",
    ]
    assert lines(workspace, "clean", "--image", "4")[-1] == ("  leak: near duplicate of image 7 of raw, split test (cosine 0.993, flagged, still trained on)")


def test_the_answer_as_json_is_one_document(workspace: Path) -> None:
    (told,) = json.loads("\n".join(lines(workspace, "clean", "--image", "b.png", "--json")))
    assert told["verdict"].startswith("out: step 2 deduplicate")
    assert (told["key"], told["row"]["id"], told["removed_by"], told["instead"]["uri"]) == ("clean", 1, "2_deduplicate", "pool/a.png")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["teacher", "--against", "clean"], "'teacher' is a Checkpoint; images are listed in Datasets, here: clean (clean)"),
        (["latest", "--image", "1"], "'latest' is a run; name one of its stages, such as"),
        (["gone.parquet", "--against", "clean"], "no file gone.parquet; where DVC has a version of it, get it with `dvc pull gone.parquet.dvc`"),
        (["clean", "--against", "raw", "--image", "1"], "--image asks of one dataset, --against compares two: give one of them"),
    ],
)
def test_what_cannot_be_answered_is_one_line(workspace: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(UserError) as refused:
        CliRunner().invoke(app, ["show", *arguments, "--workspace", str(workspace)], catch_exceptions=False)
    assert str(refused.value).startswith(message)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_no_manifest_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "text.parquet").write_text("text")
    pq.write_table(pa.table({"id": [1]}), tmp_path / "other.parquet")
    for name, message in (("text", "is no manifest that can be read"), ("other", "is no manifest: it has no column bytes")):
        with pytest.raises(UserError, match=message):
            fate(images.listing(tmp_path, str(tmp_path / f"{name}.parquet")), 0)


def test_a_threshold_that_was_calibrated_is_the_one_reported(tmp_path: Path) -> None:
    stage = Curate.model_validate({"dataset": "raw", "steps": ["integrity", {"kind": "deduplicate", "threshold": {"precision": 0.99}}, *STEPS[2:]]})
    steps = [{"step": name, "removed": 1} | ({"threshold": 0.9123} if name == "2_deduplicate" else {}) for name in NAMES]
    made = dataset(tmp_path, "clean", stage, {}, curated_rows(), report_json={"steps": steps})
    listing = Listing("clean", made.path("manifest.parquet"), (made,))
    assert fate(listing, 1).steps[1].limits == {"similarity": "cosine 0.991 >= 0.912"}


def test_a_second_curation_goes_on_with_the_story_of_the_first(workspace: Path) -> None:
    stage = Curate.model_validate({"dataset": "clean", "steps": [{"kind": "deduplicate", "threshold": 0.9}]})
    table = manifest.annotate(
        curated_rows(),
        "5_deduplicate",
        {"kept": pa.array([None, None, None, None, True, False, None, None]), "similarity": pa.array([None, None, None, None, 1.0, 0.95, None, None])},
    )
    columns = [table[name].to_pylist() for name in ("kept", "why", "duplicate_of")]
    for column, value in zip(columns, (False, "deduplicate: near duplicate", 4), strict=True):
        column[5] = value
    table = manifest.replace(table, kept=columns[0], why=columns[1], duplicate_of=columns[2])
    dataset(workspace, "tidy", stage, {"clean": "clean"}, table)
    ((told, _),) = images.fates(workspace, "tidy", "f.png")
    assert images.verdict(told) == "out: step 5 deduplicate removed it: near duplicate of image 4, pool/e.png, which is in"
    assert [said.limits for said in told.steps if said.limits] == [
        {"similarity": "it stands for its component"},
        {"similarity": "cosine 0.950 >= 0.9"},
    ]
    assert images.difference(workspace, "tidy", "clean")["config"] == ["tidy: only now, deduplicate"]


def test_asking_imports_neither_torch_nor_any_orchestrator(workspace: Path) -> None:
    code = """
import sys; from pathlib import Path; from workflows.engine import explain_images
explain_images.print_image(explain_images.fates(Path(sys.argv[1]), "report", "b.png"))
print(sorted({"torch", "prefect", "mlflow", "dvc", "timm", "sklearn"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code, str(workspace)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"

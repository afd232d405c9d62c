"""The version of the raw data and the hash of each manifest, from the pool to wherever a number is shown."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from schemas.artifacts import Artifact, read, sha256
from schemas.pipeline import Pipeline
from ssl_tasks import artifacts
from ssl_tasks.data import manifest
from workflows.engine import ledger, result_page
from workflows.engine.cli import app
from workflows.engine.reuse import Plan, make_plan

VERSION = "0123456789abcdef0123456789abcdef.dir"
NETWORK = {"name": "resnet10t", "image_size": 32}
STAGES: dict[str, Any] = {
    "raw": {"kind": "ingest", "source": "digits"},
    "other": {"kind": "ingest", "source": "scenes"},
    "clean": {"kind": "curate", "dataset": "raw", "steps": [{"kind": "leakage", "against": ["other"]}]},
    "teacher": {"kind": "pretrain", "dataset": "clean", "method": "simclr", "encoder": NETWORK},
    "students": {"kind": "distill", "dataset": "clean", "teacher": "teacher", "method": "feature", "students": {"small": NETWORK}},
    "report": {"kind": "evaluate", "dataset": "other", "models": ["students.small"], "protocols": ["knn"]},
}


def make(plan: Plan, name: str) -> None:
    planned = plan.stages[name]
    job = plan.job(planned)
    fields: dict[str, dict[str, Any]] = {
        "Dataset": {"rows": 1, "kept": 1},
        "Checkpoint": {"encoder": NETWORK, "mean": [0.5], "std": [0.5], "dim": 512, "exported": "encoder"},
        "Report": {},
    }
    for output in planned.outputs:
        folder = artifacts.draft(job, output)
        if planned.stage.makes == "Dataset":
            file = {"uri": f"{name}.png", "sha256": "0" * 64, "bytes": 1, "width": 8, "height": 8, "mode": "L", "label": None, "split": "train"}
            pq.write_table(manifest.build([file]), folder / manifest.FILE)
        artifacts.seal(job, folder, output, **fields[planned.stage.makes])


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    workspace = tmp_path_factory.mktemp("workspace")
    pipeline = Pipeline.model_validate({"name": "digits", "stages": STAGES})
    plan = make_plan(pipeline, workspace, {"raw": VERSION, "other": "a fingerprint"}, data_version=VERSION)
    run = ledger.Run(workspace, "digits")
    for name, planned in plan.stages.items():
        make(plan, name)
        run.stage(name, status="done", kind=planned.stage.kind, outputs=planned.outputs)
    run.finish("done")
    return plan


def artifact(plan: Plan, name: str) -> Artifact:
    (made,) = plan.artifacts(plan.stages[name]).values()
    return made


def test_each_artifact_states_the_version_of_the_raw_data_behind_it(plan: Plan) -> None:
    stated = {name: artifact(plan, name).data_version for name in STAGES}
    assert stated == {**dict.fromkeys(STAGES, VERSION), "other": ""}, "scenes are drawn: no version of theirs is under DVC"


def test_each_artifact_states_the_hash_of_each_manifest_that_it_was_made_from(plan: Plan) -> None:
    hashes = {name: sha256(artifact(plan, name).path("manifest.parquet")) for name in ("raw", "other", "clean")}
    assert {name: artifact(plan, name).manifests for name in STAGES} == {
        **{"raw": {}, "other": {}, "clean": {"raw": hashes["raw"], "other": hashes["other"]}},
        **{"teacher": {"clean": hashes["clean"]}, "students": {"clean": hashes["clean"]}, "report": {"other": hashes["other"]}},
    }


def test_an_artifact_that_was_made_before_there_were_such_hashes_is_still_read(plan: Plan, tmp_path: Path) -> None:
    text = (artifact(plan, "raw").folder / "artifact.json").read_text()
    assert '"manifests": {},\n' in text
    (tmp_path / "artifact.json").write_text(text.replace('"manifests": {},\n', ""))
    assert read(tmp_path).manifests == {}


def test_show_names_both_along_the_chain(plan: Plan) -> None:
    shown = CliRunner().invoke(app, ["show", "report", "--workspace", str(plan.workspace)]).stdout
    assert shown.count(f"data.version {VERSION}") == 5
    for name in ("raw", "other", "clean"):
        assert f"manifest sha256 {artifact(plan, name).files['manifest.parquet'][:12]}" in shown


def test_the_page_in_prefect_names_both(plan: Plan) -> None:
    page = result_page.page(plan, dict.fromkeys(STAGES, "done"), "sslflow ui").splitlines()
    clean = next(line for line in page if line.startswith("- **clean**"))
    assert clean.endswith(f"; manifest sha256 `{artifact(plan, 'clean').files['manifest.parquet'][:12]}`, data.version `{VERSION}`")
    assert next(line for line in page if line.startswith("- **teacher**")).endswith(f"; data.version `{VERSION}`")

"""A stage that fails, through the real command line: one clear line, exit status 1, and nothing of the others lost."""

import json
import sqlite3
import subprocess
from pathlib import Path

import pytest
from command_line import SSLFLOW, environment
from PIL import Image

pytestmark = pytest.mark.slow

PIPELINE = """\
name: mixed
stages:
  raw: {kind: ingest, source: {kind: folder, path: images}}
  clean: {kind: curate, dataset: raw, steps: [integrity]}
  strict: {kind: curate, dataset: raw, steps: [{kind: integrity, min_side: 1000}]}
  teacher:
    kind: pretrain
    dataset: strict
    method: simclr
    encoder: {name: resnet18, image_size: 16}
"""


def test_one_stage_fails_and_the_others_are_kept(tmp_path: Path) -> None:
    (tmp_path / "mixed.yaml").write_text(PIPELINE)
    (tmp_path / "images").mkdir()
    shades = Image.linear_gradient("L").resize((16, 12))
    for name, picture in (("a", shades), ("b", shades.rotate(180))):
        picture.save(tmp_path / f"images/{name}.png")
    (tmp_path / "images/text.jpg").write_text("not an image")
    environ = environment(XDG_STATE_HOME=str(tmp_path / "state"))
    done = subprocess.run([SSLFLOW, "run", "mixed.yaml", "--json"], cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    document = json.loads(done.stdout)
    stages = document["stages"]
    assert {name: stage["status"] for name, stage in stages.items()} == {"raw": "done", "clean": "done", "strict": "failed", "teacher": "skipped"}
    assert stages["strict"]["error"] == "stages.strict.steps.0: integrity leaves no train image of 3; loosen the step, or look at the images"
    assert stages["teacher"]["error"] == "strict failed"
    quarantined = (tmp_path / ".sslflow/latest/mixed/clean/quarantine.csv").read_text().splitlines()
    assert quarantined == ["uri,reason", "images/text.jpg,wrong type"]
    with sqlite3.connect(tmp_path / "mlflow.db") as store:
        assert dict(store.execute("select name, status from runs where name in ('raw', 'strict')")) == {"raw": "FINISHED", "strict": "FAILED"}

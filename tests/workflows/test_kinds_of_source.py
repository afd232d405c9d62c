"""Sources that are no plain folder, as the engine sees them: covered by `data.dvc` where they lie in it, and run from an address."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from command_line import SSLFLOW, environment
from moto.server import ThreadedMotoServer
from PIL import Image

from schemas.artifacts import Dataset, read
from ssl_tasks.data import manifest
from workflows.engine.run import plan_pipeline

PIPELINE = """\
name: shards
stages:
  raw: {{kind: ingest, source: {source}}}
  clean: {{kind: curate, dataset: raw, steps: [integrity]}}
"""


def key(workspace: Path) -> str:
    return plan_pipeline(workspace / "shards.yaml", workspace).stages["raw"].key


@pytest.mark.parametrize(
    ("source", "file"),
    [
        ('{kind: webdataset, path: "data/shards/*.tar"}', "data/shards/0.tar"),
        ("{kind: parquet, path: data/0.parquet}", "data/0.parquet"),
        ("{kind: huggingface, path: data/saved}", "data/saved/state.json"),
    ],
)
def test_containers_under_data_are_known_by_the_hash_in_data_dvc_and_others_by_a_fingerprint(tmp_path: Path, source: str, file: str) -> None:
    (tmp_path / "shards.yaml").write_text(PIPELINE.format(source=source))
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_bytes(b"any")
    keys = []
    for md5 in ("", "a.dir", "b.dir"):
        if md5:
            (tmp_path / "data.dvc").write_text(json.dumps({"outs": [{"md5": md5, "path": "data"}]}))
        for second in (1, 2):
            os.utime(tmp_path / file, (second, second))
            keys.append(key(tmp_path))
    untouched = [first == second for first, second in zip(keys[::2], keys[1::2], strict=True)]
    assert untouched == [False, True, True]
    assert len(set(keys)) == 4


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", port=0)
    server.start()
    for name, value in {"ACCESS_KEY_ID": "who", "SECRET_ACCESS_KEY": "secret", "DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.mark.slow
def test_a_pipeline_runs_from_a_bucket_and_runs_again_when_an_image_changes(tmp_path: Path, endpoint: str) -> None:
    store = boto3.client("s3", endpoint_url=endpoint)
    store.create_bucket(Bucket="pictures")
    for number, colour in enumerate(("red", "green", "blue")):
        Image.linear_gradient("L").resize((16, 12 + number)).save(tmp_path / f"{colour}.png")
        store.upload_file(str(tmp_path / f"{colour}.png"), "pictures", f"raw/{colour}.png")
    (tmp_path / "shards.yaml").write_text(PIPELINE.format(source='{kind: folder, path: "s3://pictures/raw"}'))
    environ = environment(XDG_STATE_HOME=str(tmp_path / "state"), FSSPEC_S3_ENDPOINT_URL=endpoint)

    def run() -> dict[str, str]:
        line = [SSLFLOW, "run", "shards.yaml", "--json"]
        done = subprocess.run(line, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return {name: stage["status"] for name, stage in json.loads(done.stdout)["stages"].items()}

    assert run() == {"raw": "done", "clean": "done"}
    clean = read(tmp_path / ".sslflow/latest/shards/clean")
    assert isinstance(clean, Dataset)
    assert manifest.read(clean)["uri"].to_pylist() == [f"s3://pictures/raw/{colour}.png" for colour in ("blue", "green", "red")]
    assert clean.kept == 3
    Image.linear_gradient("L").resize((20, 20)).save(tmp_path / "red.png")
    store.upload_file(str(tmp_path / "red.png"), "pictures", "raw/red.png")
    assert run() == {"raw": "done", "clean": "done"}
    clean = read(tmp_path / ".sslflow/latest/shards/clean")
    assert isinstance(clean, Dataset)
    assert manifest.read(clean)["width"].to_pylist() == [16, 16, 20]
    text = (tmp_path / ".sslflow").rglob("*")
    assert not any(b"secret" in path.read_bytes() for path in text if path.is_file() and path.suffix in (".json", ".jsonl", ".yaml", ".log"))

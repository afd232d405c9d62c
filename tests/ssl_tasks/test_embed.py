"""Embeddings: of each image the same bits, whatever it is embedded with; each made once."""

import pickle
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from test_curate import job_of, save, smooth

from schemas.artifacts import Checkpoint, sha256
from schemas.embeddings import Embedding, Encoded, File, Pixels
from schemas.encoders import Encoder
from schemas.errors import UserError
from schemas.job import Job
from schemas.stages import Curate, Pretrain
from ssl_tasks import artifacts
from ssl_tasks.checkpoints import load, save_encoder
from ssl_tasks.curate import embed, encode, shards
from ssl_tasks.curate.embed import embeddings
from ssl_tasks.nn.encoder import TimmEncoder

COUNT = 90
ENCODER = Encoder(name="resnet10t", image_size=32, channels=1)
VIT = Encoder(name="vit_tiny_patch16_224", image_size=32, patch_size=8, depth=2, width=48, heads=3)
BY_FILE = File(file="weights.pth", encoder=VIT)
named = pytest.mark.parametrize("embedding", [Pixels(side=8), Encoded(checkpoint="teacher"), BY_FILE], ids=lambda embedding: embedding.kind)


def sealed(workspace: Path, key: str, seed: int = 0) -> Checkpoint:
    stage = Pretrain.model_validate({"dataset": "raw", "method": "simclr", "encoder": ENCODER})
    job = job_of(stage, workspace, key, {"raw": "raw"})
    torch.manual_seed(seed)
    folder, network = artifacts.draft(job), TimmEncoder(ENCODER)
    save_encoder(folder, network)
    stated = {"encoder": ENCODER.model_dump(mode="json"), "mean": [0.5], "std": [0.5], "dim": network.dim, "exported": "encoder"}
    artifact = artifacts.seal(job, folder, **stated)
    assert isinstance(artifact, Checkpoint)
    return artifact


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of many shapes; a checkpoint `teacher`, and weights in `weights.pth`."""
    workspace = tmp_path_factory.mktemp("embed")
    for number in range(COUNT):
        side = 20 + number % 40
        image = Image.fromarray(smooth(number, side)).resize((side, side + number % 3 * 7))
        save(np.asarray(image), workspace / f"pool/{number:03d}.png")
    sealed(workspace, "teacher")
    torch.manual_seed(1)
    torch.save(TimmEncoder(VIT).backbone.state_dict(), workspace / "weights.pth")
    return workspace


@pytest.fixture
def rows(workspace: Path) -> pa.Table:
    paths = sorted((workspace / "pool").glob("*.png"))
    return pa.table({"uri": [f"pool/{path.name}" for path in paths], "sha256": [sha256(path) for path in paths]})


def job_in(workspace: Path, cache: Path, name: str = "teacher", stamp: str = "") -> Job:
    """A curation whose cache is a folder of its own."""

    class Elsewhere(Job):
        @property
        def cache(self) -> Path:
            return cache

    stated = job_of(Curate.model_validate({"dataset": "raw", "steps": ["integrity"]}), workspace, "clean", {"raw": "raw", name: "teacher"})
    return Elsewhere(**{**dict(stated), "stamp": stamp})


def embedded(rows: pa.Table, embedding: Embedding, job: Job, mapper: shards.Mapper = shards.threads) -> np.ndarray:
    return embeddings(rows, embedding, job, mapper, lambda _done, _of: None)


@pytest.fixture
def read_files(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that are decoded, in order."""
    seen: list[str] = []
    for module in (embed, encode):
        original = module.read_listed

        def read_listed(uri: str, sha256: str, workspace: Path, original: Any = original) -> Any:
            seen.append(uri)
            return original(uri, sha256, workspace)

        monkeypatch.setattr(module, "read_listed", read_listed)
    return seen


@named
def test_order_size_of_shards_and_threads_change_no_bit(
    rows: pa.Table, workspace: Path, tmp_path: Path, embedding: Embedding, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = embedded(rows, embedding, job_in(workspace, tmp_path / "first"))
    assert first.dtype == np.float32
    assert np.allclose(np.linalg.norm(first, axis=1), 1, atol=1e-6)
    order = np.random.default_rng(0).permutation(COUNT)
    monkeypatch.setattr(shards, "LARGEST", 37)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0})
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        again = embedded(rows.take(pa.array(order)), embedding, job_in(workspace, tmp_path / "again"), lambda some: (shard() for shard in some))
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert again.tobytes() == first[order].tobytes()


@named
def test_one_hundredth_more_images_embeds_one_hundredth(rows: pa.Table, workspace: Path, tmp_path: Path, embedding: Embedding, read_files: list[str]) -> None:
    job = job_in(workspace, tmp_path / "cache")
    embedded(rows.slice(0, COUNT - 1), embedding, job)
    assert len(read_files) == COUNT - 1
    read_files.clear()
    grown = embedded(rows, embedding, job)
    assert read_files == [f"pool/{COUNT - 1:03d}.png"]
    assert grown.tobytes() == embedded(rows, embedding, job_in(workspace, tmp_path / "at_once")).tobytes()


def test_a_stage_of_another_name_with_the_same_weights_embeds_nothing_and_other_weights_all(
    rows: pa.Table, workspace: Path, tmp_path: Path, read_files: list[str]
) -> None:
    one = embedded(rows, Encoded(checkpoint="teacher"), job_in(workspace, tmp_path))
    read_files.clear()
    renamed = embedded(rows, Encoded(checkpoint="renamed"), job_in(workspace, tmp_path, "renamed"))
    assert read_files == []
    assert renamed.tobytes() == one.tobytes()
    sealed(workspace, "other", seed=5)
    job = job_in(workspace, tmp_path).model_copy(update={"inputs": {"teacher": "other"}})
    other = embedded(rows, Encoded(checkpoint="teacher"), job)
    assert len(read_files) == COUNT
    assert not np.allclose(other, one)


def test_features_are_those_that_a_loaded_model_gives(rows: pa.Table, workspace: Path, tmp_path: Path) -> None:
    made = embedded(rows, Encoded(checkpoint="teacher"), job_in(workspace, tmp_path))
    model = load(workspace / ".sslflow/artifacts/teacher")
    expected = model.embed([workspace / uri for uri in rows["uri"].to_pylist()]).double().numpy()
    assert np.abs(made - expected / np.linalg.norm(expected, axis=1, keepdims=True)).max() < 1e-5


CHILD = """
import os, pickle, signal, sys
from ssl_tasks.curate.shards import make_known
def die(done, of):
    if done == 2:
        os.kill(os.getpid(), signal.SIGKILL)
make_known(*pickle.load(sys.stdin.buffer), lambda some: (shard() for shard in some), die)
"""


@pytest.mark.slow
def test_after_a_kill_finished_shards_are_kept_and_the_vectors_are_the_same(rows: pa.Table, workspace: Path, tmp_path: Path, read_files: list[str]) -> None:
    embedding, job = Encoded(checkpoint="teacher"), job_in(workspace, tmp_path / "cache")
    todo = pickle.dumps((rows, *embed._maker(embedding, job)))
    assert subprocess.run([sys.executable, "-c", CHILD], input=todo, check=False).returncode == -signal.SIGKILL
    resumed = embedded(rows, embedding, job)
    assert len(read_files) == COUNT - 64
    assert resumed.tobytes() == embedded(rows, embedding, job_in(workspace, tmp_path / "whole")).tobytes()


def test_a_file_is_read_once_a_process(rows: pa.Table, workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encode._loaded.cache_clear()
    read: list[Path] = []
    original = encode.read_weights
    monkeypatch.setattr(encode, "read_weights", lambda path, key: read.append(path) or original(path, key))
    embedded(rows, BY_FILE, job_in(workspace, tmp_path / "one"))
    embedded(rows, BY_FILE, job_in(workspace, tmp_path / "two"))
    assert read == [workspace / "weights.pth"]


def test_weights_of_the_dinov2_format_give_what_their_backbone_gives(rows: pa.Table, workspace: Path, tmp_path: Path) -> None:
    state = torch.load(workspace / "weights.pth")
    torch.save({"teacher": {f"backbone.{name}": value for name, value in state.items()}, "student": {}}, workspace / "dino.pth")
    direct = embedded(rows, BY_FILE, job_in(workspace, tmp_path))
    assert embedded(rows, File(file="dino.pth", encoder=VIT), job_in(workspace, tmp_path)).tobytes() == direct.tobytes()


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "missing": ({"file": "none.pth"}, r"^embedding\.file: cannot read .*none\.pth \(No such file or directory\); the path is relative to the workspace$"),
    "no weights": ({"file": "pool/000.png.pth"}, r"^embedding\.file: .*000\.png\.pth cannot be read as weights: .*$"),
    "of another network": (
        {"encoder": VIT.model_copy(update={"depth": 3})},
        r"weights\.pth looks like a ViT of width 48, depth 2, .* make `encoder` the network",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_weights_that_do_not_serve_are_one_clear_line(rows: pa.Table, workspace: Path, tmp_path: Path, fault: str) -> None:
    (workspace / "pool/000.png.pth").write_bytes(b"no weights")
    changes, message = FAULTS[fault]
    with pytest.raises(UserError, match=message) as raised:
        embedded(rows, BY_FILE.model_copy(update=changes), job_in(workspace, tmp_path))
    assert "\n" not in str(raised.value)


def test_weights_that_changed_since_the_plan_are_refused(rows: pa.Table, workspace: Path, tmp_path: Path) -> None:
    planned = sha256(workspace / "weights.pth")
    embedded(rows, BY_FILE, job_in(workspace, tmp_path, stamp=f"{'0' * 64}+{planned}"))
    with pytest.raises(UserError, match="has changed since the run was planned: run again"):
        embedded(rows, BY_FILE, job_in(workspace, tmp_path, stamp="0" * 64))


def test_an_image_that_could_not_be_read_when_listed_is_named(rows: pa.Table, workspace: Path, tmp_path: Path) -> None:
    broken = rows.set_column(1, "sha256", pa.array(["", *rows["sha256"].to_pylist()[1:]]))
    with pytest.raises(UserError, match=r"image .*pool/000\.png could not be read when it was listed: .*`integrity`"):
        embedded(broken, Pixels(), job_in(workspace, tmp_path))


def test_equal_pixels_have_no_direction(tmp_path: Path) -> None:
    save(np.full((20, 20), 7, np.uint8), tmp_path / "grey.png")
    rows = pa.table({"uri": ["grey.png"], "sha256": [sha256(tmp_path / "grey.png")]})
    assert not embedded(rows, Pixels(), job_in(tmp_path, tmp_path / "cache")).any()

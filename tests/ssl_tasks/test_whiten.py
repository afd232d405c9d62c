"""Whitening: fitted to a corpus, part of the encoder from then on, and the same bytes wherever it is made."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from tiny_pipeline import VIT, made, plan
from tiny_training import Recorder

import ssl_tasks
from schemas.artifacts import Checkpoint, Dataset, Report, sha256
from schemas.embeddings import File
from schemas.encoders import Encoder
from schemas.errors import InvalidPipeline, UserError
from ssl_tasks.checkpoints import WEIGHTS, load_encoder
from ssl_tasks.data import manifest
from ssl_tasks.data.files import open_images
from ssl_tasks.data.store import side_for
from ssl_tasks.nn.descriptor import whitening
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.nn.features import features

TEACHER = f"""
  teacher: {{kind: pretrain, dataset: raw, encoder: {VIT}, train: {{epochs: 1, batch_size: 8, monitors: 1}},
            method: {{kind: simclr, hidden: 8, output: 8}}}}
"""
WHITE = "  white: {kind: whiten, dataset: raw, checkpoint: teacher%s}\n"


def corpus(dim: int = 6, count: int = 400) -> NDArray[np.float32]:
    """Features with correlated dimensions of unlike variance, away from the origin."""
    random = np.random.default_rng(0)
    spread = random.normal(size=(count, dim)) * np.arange(1, dim + 1)
    return (spread @ random.normal(size=(dim, dim)) + 5).astype(np.float32)


def test_whitened_features_have_no_mean_and_the_identity_as_their_covariance() -> None:
    x = corpus()
    mean, matrix, share = whitening(x, kept=6)
    white = (x.astype(np.float64) - mean) @ matrix.T
    np.testing.assert_allclose(white.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(np.cov(white.T), np.eye(6), atol=1e-4)
    assert share == pytest.approx(1)


def test_the_components_of_largest_variance_are_kept_in_their_order() -> None:
    x = corpus()
    whole, part = whitening(x, kept=6), whitening(x, kept=2)
    np.testing.assert_array_equal(part[1], whole[1][:2])
    variances = np.sort(np.linalg.eigvalsh(np.cov(x.T.astype(np.float64))))[::-1]
    assert part[2] == pytest.approx(variances[:2].sum() / variances.sum())
    np.testing.assert_allclose(np.linalg.norm(whole[1], axis=1), variances**-0.5, rtol=1e-4)


def test_the_sign_of_each_component_is_fixed_and_power_and_epsilon_weigh_it() -> None:
    x = corpus()
    matrix = whitening(x, kept=6)[1]
    assert (matrix[np.arange(6), np.abs(matrix).argmax(axis=1)] > 0).all()
    np.testing.assert_allclose(whitening(-x, kept=6)[1], matrix, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(whitening(x, 6, power=0.25)[1], axis=1) ** 2, np.linalg.norm(matrix, axis=1), rtol=1e-4)
    raised = np.linalg.norm(whitening(x, 6, epsilon=0.9)[1], axis=1)
    assert raised[1:] == pytest.approx(raised[0] / 0.9**0.5)


def test_features_that_are_all_the_same_cannot_be_whitened() -> None:
    with pytest.raises(UserError, match="gives all images the same features"):
        whitening(np.ones((9, 3), np.float32), 3)


def test_a_stage_makes_an_encoder_that_whitens_and_whatever_takes_a_checkpoint_takes_it(tmp_path: Path) -> None:
    further = WHITE % ", dim: 12" + "  report: {kind: evaluate, dataset: raw, models: [teacher, white], protocols: [rank]}\n"
    tracker = Recorder()
    artifacts = made(plan(TEACHER + further, tmp_path), tracker=tracker)
    raw, teacher, white = (artifacts[name] for name in ("raw", "teacher", "white"))
    assert isinstance(raw, Dataset)
    assert isinstance(teacher, Checkpoint)
    assert isinstance(white, Checkpoint)
    assert isinstance(artifacts["report"], Report)
    assert (white.dim, white.encoder.whitening, white.exported) == (12, 12, "encoder, whitened")
    assert 0 < white.metrics["explained_variance"] <= 1

    table = manifest.kept(manifest.read(raw))
    images = open_images(table, tmp_path, side_for(table, 32), 3, tmp_path / "cache", 1.0)
    encoder = load_encoder(white)
    whitened = features(encoder, images, white.mean, white.std)
    np.testing.assert_allclose(np.linalg.norm(whitened, axis=1), 1, rtol=1e-5)
    plain = features(load_encoder(teacher), images, teacher.mean, teacher.std)
    before_length_1 = encoder.neck[0](torch.from_numpy(plain)).numpy()
    np.testing.assert_allclose(np.cov(before_length_1.T), np.eye(12), atol=0.01)
    np.testing.assert_allclose(before_length_1 / np.linalg.norm(before_length_1, axis=1, keepdims=True), whitened, atol=1e-4)

    model = ssl_tasks.load(white.folder)
    paths = [tmp_path / uri for uri in table["uri"].to_pylist()[:3]]
    assert model.embed(paths).shape == (3, model.dim) == (3, 12)


@pytest.mark.slow
def test_another_process_makes_the_same_bytes(tmp_path: Path) -> None:
    def digest(code: str) -> str:
        script = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n{code}"
        environment = {**os.environ, "PYTHONHASHSEED": "random"}
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
        return done.stdout.strip().splitlines()[-1]

    code = f"""
from pathlib import Path
from test_whiten import TEACHER, WHITE, WEIGHTS, made, plan, sha256
artifact = made(plan(TEACHER + WHITE % ", sample: 20, dim: 8", Path({str(tmp_path)!r})), "white")["white"]
print(sha256(artifact.path(WEIGHTS)))
"""
    first = made(plan(TEACHER + WHITE % ", sample: 20, dim: 8", tmp_path))["white"]
    stated = sha256(first.path(WEIGHTS))
    for path in first.folder.iterdir():
        path.unlink()
    first.folder.rmdir()
    assert digest(code) == stated


@pytest.mark.parametrize(
    ("dim", "told"),
    [(", dim: 20", "dim 20 is more than the 16 dimensions of checkpoint 'teacher'"), (", sample: 12", r"16 components .* from 12 images .* set dim below 12")],
)
def test_what_cannot_be_fitted_is_told_with_what_to_do(tmp_path: Path, dim: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        made(plan(TEACHER + WHITE % dim, tmp_path))


def test_what_is_whitened_is_not_whitened_again(tmp_path: Path) -> None:
    again = "  again: {kind: whiten, dataset: raw, checkpoint: white}\n"
    with pytest.raises(UserError, match="whitened already: name the one that it was made from"):
        made(plan(TEACHER + WHITE % ", dim: 4" + again, tmp_path))


def test_whitening_is_not_written_into_an_encoder_that_is_trained(tmp_path: Path) -> None:
    with pytest.raises(InvalidPipeline, match="let a stage of kind whiten follow"):
        plan(TEACHER.replace("heads: 2}", "heads: 2, whitening: 4}"), tmp_path)


@pytest.mark.parametrize("name", ["neck", "head", "whitening"])
def test_a_file_of_weights_has_nothing_behind_the_backbone(name: str) -> None:
    with pytest.raises(ValidationError, match=f"no weights of a {name}"):
        File(file="own.pth", encoder=Encoder.model_validate({"name": "resnet10t", name: 4}))


def test_a_checkpoint_from_before_necks_and_whitening_still_loads(tmp_path: Path) -> None:
    teacher = made(plan(TEACHER, tmp_path))["teacher"]
    stated = (teacher.folder / "artifact.json").read_text()
    for name in ("pooling", "head", "whitening"):
        stated = stated.replace(f'"{name}": null,', "")
    (teacher.folder / "artifact.json").write_text(stated)
    assert isinstance(ssl_tasks.load(teacher.folder).encoder, TimmEncoder)

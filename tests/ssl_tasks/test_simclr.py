"""SimCLR's later options: the decoupled loss, and a projector whose first layers are handed over."""

from pathlib import Path
from typing import Any

import pytest
import torch
from formulas import nt_xent_by_formula
from numpy.testing import assert_allclose
from safetensors.torch import load_file
from small_methods import ENCODERS
from test_checkpoints import sealed
from test_moco import backward, step, views
from tiny_pipeline import made as finished
from tiny_pipeline import plan
from tiny_training import make, weights
from torch import nn

from schemas import methods as configs
from schemas.artifacts import Checkpoint, Report
from schemas.errors import UserError
from ssl_tasks.checkpoints import NECK, WEIGHTS, load_encoder
from ssl_tasks.methods.contrastive.simclr import SimCLR
from ssl_tasks.nn.encoder import TimmEncoder


def simclr(encoder: str = "convnet", **changes: Any) -> SimCLR:
    method = make(configs.SimCLR(hidden=24, output=8, **changes), ENCODERS[encoder]).train()
    assert isinstance(method, SimCLR)
    return method


def test_decoupled_simclr_minimises_the_decoupled_loss() -> None:
    method = simclr(decoupled=True).double()
    images = torch.cat(views()).double()
    z, z_prime = method.projector(method.encoder(images)).chunk(2)
    named = method(list(images.chunk(2)), 0.5)
    assert list(named) == ["dcl"]
    assert_allclose(named["dcl"].detach(), nt_xent_by_formula(z, z_prime, 0.1, decoupled=True).mean(), rtol=1e-10)


@pytest.mark.parametrize(("layers", "export_layer"), [(2, 0), (2, 1), (3, 0), (3, 1)])
def test_a_projector_has_as_many_layers_wherever_it_is_cut(layers: int, export_layer: int) -> None:
    method = simclr(layers=layers, export_layer=export_layer)
    parts = [*([*method.encoder.neck] if export_layer else []), *method.projector]  # type: ignore[misc]  # a Sequential
    assert [type(part) for part in parts] == [nn.Linear, nn.BatchNorm1d, nn.ReLU] * (layers - 1) + [nn.Linear, nn.BatchNorm1d]
    assert method.encoder.dim == (24 if export_layer else 16)
    assert method.encoder.config == ENCODERS["convnet"].model_copy(update={"neck": 24 if export_layer else None})
    backward(method(views(), 0.5)["nt_xent"])
    assert all(p.grad is not None for p in method.parameters())


@pytest.mark.parametrize("encoder", ENCODERS)
def test_an_encoder_exported_with_the_first_layer_of_the_projector_comes_back_as_it_was_saved(tmp_path: Path, encoder: str) -> None:
    method = simclr(encoder, layers=3, export_layer=1)
    step(method)
    exported = method.eval().exported()
    assert isinstance(exported, TimmEncoder)

    artifact = sealed(tmp_path, exported)
    loaded = load_encoder(artifact)

    assert weights(loaded) == weights(exported)
    features = loaded(views()[0])
    assert features.shape == (4, 24)
    assert (features >= 0).all()
    assert torch.equal(features, exported(views()[0]))
    assert torch.equal(loaded.tokens(views()[0]).pooled, features)
    assert artifact.encoder.neck == artifact.dim == 24
    names = load_file(artifact.path(WEIGHTS)).keys()
    assert {name for name in names if not name.startswith(NECK)} == exported.backbone.state_dict().keys()


def test_an_encoder_that_has_a_neck_gets_no_second_one() -> None:
    encoder = ENCODERS["convnet"].model_copy(update={"neck": 12})
    assert make(configs.SimCLR(hidden=24, output=8), encoder).encoder.dim == 12
    with pytest.raises(UserError, match=r"encoder\.neck is set, and the method keeps .*: leave encoder\.neck out"):
        make(configs.SimCLR(hidden=24, output=8, export_layer=1), encoder)


def test_a_stage_hands_over_the_neck_and_later_stages_use_it(tmp_path: Path) -> None:
    method, train = "{kind: simclr, layers: 3, export_layer: 1, hidden: 24, output: 8}", "{epochs: 2, batch_size: 8}"
    encoder = "{name: vit_tiny_patch16_224, image_size: 32, patch_size: 8, width: 16, depth: 1, heads: 2}"
    stages = f"""
  first: {{kind: pretrain, dataset: raw, method: {method}, encoder: {encoder}, train: {train}, keep_training_state: true}}
  second: {{kind: pretrain, dataset: raw, continues: first, method: {method}, encoder: {encoder}, train: {train}}}
  small: {{kind: distill, dataset: raw, teacher: second, method: feature, students: {{vit: {encoder}}}, train: {train}}}
  report: {{kind: evaluate, dataset: raw, models: [second, small.vit], protocols: [rank]}}
"""
    artifacts = finished(plan(stages, tmp_path))
    for name in ("first", "second"):
        checkpoint = artifacts[name]
        assert isinstance(checkpoint, Checkpoint)
        assert (checkpoint.dim, checkpoint.encoder.neck, checkpoint.exported) == (24, 24, "encoder with neck")
        assert load_encoder(checkpoint)(torch.randn(2, 3, 32, 32)).shape == (2, 24)
    student = artifacts["small"]
    assert isinstance(student, Checkpoint)
    assert (student.dim, student.encoder.neck, student.exported) == (16, None, "student encoder")
    assert isinstance(artifacts["report"], Report)

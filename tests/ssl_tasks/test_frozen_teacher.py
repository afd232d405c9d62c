"""What a frozen teacher sees and says: the views of its students, prepared as its own images were."""

from pathlib import Path
from typing import Any

import pytest
import torch
from test_distill import job
from tiny_training import SIMCLR, VIT
from torch import Tensor
from torch.nn.functional import interpolate

from schemas.artifacts import Checkpoint
from schemas.errors import UserError
from schemas.stages import Pretrain
from schemas.views import Views
from ssl_tasks import artifacts
from ssl_tasks.checkpoints import load_encoder, save_encoder
from ssl_tasks.data.draw import Draw
from ssl_tasks.data.views import augment
from ssl_tasks.distill.teacher import FrozenTeacher
from ssl_tasks.nn.encoder import TimmEncoder

RGB = VIT.model_copy(update={"channels": 3})
CLIP = ([0.4815, 0.4578, 0.4082], [0.2686, 0.2613, 0.2758])
IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
WHOLE = Views(count=1, scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0, jitter=0.0, grey=0.0, blur=0.0)


def sealed(workspace: Path, mean: list[float], std: list[float]) -> Checkpoint:
    """A random encoder of images of 8 pixels that says how its own were prepared."""
    work = job(workspace, "teacher", Pretrain(dataset="data", method=SIMCLR, encoder=RGB), {"data": "data"}, {"": "teacher"})
    folder = artifacts.draft(work)
    torch.manual_seed(0)
    encoder = TimmEncoder(RGB)
    save_encoder(folder, encoder)
    made = artifacts.seal(work, folder, encoder=RGB.model_dump(mode="json"), mean=mean, std=std, dim=encoder.dim, exported="encoder")
    assert isinstance(made, Checkpoint)
    return made


def frozen(artifact: Checkpoint, **wanted: Any) -> FrozenTeacher:
    return FrozenTeacher(artifact, torch.device("cpu"), **{"scores": False, "taps": (), "places": False, **wanted})


def images() -> Tensor:
    return torch.randint(0, 256, (5, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def normalised(pixels: Tensor, mean: list[float], std: list[float]) -> Tensor:
    return (pixels / 255 - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]


def test_a_teacher_of_another_preprocessing_sees_the_same_images_prepared_its_own_way(tmp_path: Path) -> None:
    artifact, raw = sealed(tmp_path, *CLIP), images()
    views = augment(WHOLE, raw, 16, Draw(torch.Generator().manual_seed(0), len(raw)))
    torch.testing.assert_close(views[0], normalised(raw.float(), *IMAGENET), rtol=0, atol=1e-5)
    teacher = frozen(artifact)
    smaller = interpolate(raw.float(), size=8, mode="bilinear", antialias=True)
    own = normalised(smaller, *CLIP)
    with torch.no_grad():
        torch.testing.assert_close(teacher(views).pooled, load_encoder(artifact)(own), rtol=1e-4, atol=1e-5)
        assert not torch.allclose(teacher(views).pooled, load_encoder(artifact)(normalised(smaller, *IMAGENET)), atol=1e-3)
    assert teacher.note == f"the teacher was trained on images less mean {CLIP[0]} over {CLIP[1]}: it gets the views prepared so"


def test_a_teacher_of_the_same_preprocessing_sees_the_views_as_they_are_and_nothing_is_said(tmp_path: Path) -> None:
    artifact = sealed(tmp_path, *IMAGENET)
    view = torch.rand(2, 3, 8, 8)
    teacher = frozen(artifact)
    with torch.no_grad():
        assert torch.equal(teacher([view]).pooled, load_encoder(artifact)(view))
    assert teacher.note == ""


def test_it_says_of_joined_views_what_it_says_of_each_and_is_never_trained(tmp_path: Path) -> None:
    teacher = frozen(sealed(tmp_path, *IMAGENET), taps=["blocks.0"], places=True)
    first, second = torch.rand(2, 2, 3, 8, 8).unbind()
    together = teacher([first, second])
    torch.testing.assert_close(together.pooled, torch.cat([teacher([first]).pooled, teacher([second]).pooled]))
    assert together.places is not None
    assert together.places.shape == (4, 4, 16)
    assert together.taps["blocks.0"].shape == (4, 16, 2, 2)
    assert not together.pooled.requires_grad
    assert not any(p.requires_grad for p in teacher.network.parameters())
    assert not teacher.network.training


def test_a_layer_that_is_not_there_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'vit_tiny_patch16_224' has no layer 'blocks\.7'"):
        frozen(sealed(tmp_path, *IMAGENET), taps=["blocks.7"])

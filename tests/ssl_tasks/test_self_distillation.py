"""DINO, iBOT, DINOv2 and DINOv3: heads, targets, encoders, configs, and two processes as one. DINO's own mechanisms: test_dino.py"""

import os
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dino_family import case_of, made
from few_steps import few_steps
from formulas import Matrix, random
from numpy.testing import assert_allclose
from pydantic import ValidationError
from timm.layers.mlp import GluMlp
from torch import Tensor

from schemas import methods as configs
from schemas.encoders import Encoder
from schemas.views import Views
from ssl_tasks import distributed
from ssl_tasks.data.draw import Draw
from ssl_tasks.losses.self_distillation import center_and_sharpen
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.nn.heads import PrototypeHead
from ssl_tasks.nn.targets import Targets


def softmax(x: Matrix) -> Matrix:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


# Prototypes


def head_of(length: Any) -> PrototypeHead:
    torch.manual_seed(0)
    return PrototypeHead(6, 8, 4, 10, length)


def test_trained_prototypes_start_as_cosines_and_then_have_a_length_of_their_own() -> None:
    features = torch.randn(5, 6, dtype=torch.float64)
    fixed, trained = (head_of(length).double() for length in ("fixed", "trained"))
    assert torch.equal(trained(features), fixed(features))
    with torch.no_grad():
        trained.get_parameter("gain")[3] = 2.0
        trained.prototypes.weight *= 5
    assert_allclose(trained(features)[:, 3].detach(), 2 * fixed(features)[:, 3].detach(), rtol=1e-5)
    assert_allclose(trained(features)[:, 4].detach(), fixed(features)[:, 4].detach(), rtol=1e-5)


def test_free_prototypes_have_the_length_of_their_weights() -> None:
    features, free = torch.randn(5, 6), head_of("free")
    logits = free(features).detach()
    with torch.no_grad():
        free.prototypes.weight *= 5
    assert_allclose(free(features).detach(), 5 * logits, rtol=1e-5)


@pytest.mark.parametrize("length", ["fixed", "trained", "free"])
def test_held_prototypes_get_no_gradient_and_the_rest_of_the_head_does(length: str) -> None:
    head = head_of(length)
    head(torch.randn(5, 6)).square().sum().backward()
    head.hold_prototypes()
    without = {name for name, p in head.named_parameters() if p.grad is None}
    assert without == {"prototypes.weight"} | ({"gain"} if length == "trained" else set())


# Targets


def test_balanced_targets_are_distributions_that_use_every_prototype_alike() -> None:
    targets = Targets(configs.DINOv2(), 8, temperature=0.07)
    logits = random(64, 8) + 3 * torch.eye(8, dtype=torch.float64)[0]
    probs = targets(logits, 1.0)
    assert_allclose(probs.sum(dim=1), 1, rtol=1e-12)
    assert_allclose(probs.sum(dim=0), 8, rtol=0.5)
    assert center_and_sharpen(logits, torch.zeros(8), 0.07).sum(dim=0)[0] > 40
    targets.move(logits)
    assert not targets.center.any()


def test_the_center_moves_to_the_mean_over_rows() -> None:
    targets = Targets(configs.IBOT(), 4, temperature=0.07)
    targets.move(torch.tensor([[2.0, 1, 0, 0], [0, 1, 2, 0], [1, 1, 1, 0]]))
    assert_allclose(targets.center, [0.1, 0.1, 0.1, 0], atol=1e-7)


def test_patches_have_a_temperature_of_their_own() -> None:
    method = made("ibot", teacher_temperature=0.05, patch_teacher_temperature=0.09, teacher_temperature_warmup=0.5)
    assert_allclose([method.pair.crop_targets.temperature(p) for p in (0.0, 0.25, 0.5, 1.0)], [0.04, 0.045, 0.05, 0.05])
    assert_allclose([method.pair.patch_targets.temperature(p) for p in (0.0, 0.25, 0.5, 1.0)], [0.04, 0.065, 0.09, 0.09])


# Encoders that these papers have


ENCODERS = {
    "registers, LayerScale": Encoder(name="vit_small_patch14_reg4_dinov2", image_size=28, channels=1, width=32, depth=2, heads=2),
    "SwiGLU": Encoder(name="vit_giant_patch14_reg4_dinov2", image_size=28, channels=1, width=24, depth=2, heads=2),
    "rotary positions": Encoder(
        name="vit_small_patch16_dinov3", image_size=32, channels=1, width=32, depth=2, heads=2, options={"global_pool": "token", "rope_rescale_coords": 2}
    ),
}


@pytest.mark.parametrize("name", ENCODERS)
def test_the_papers_encoders_can_be_written_and_trained(name: str) -> None:
    encoder = ENCODERS[name]
    backbone: Any = TimmEncoder(encoder).backbone
    assert backbone.num_prefix_tokens == 5
    assert any("ls1" in key or "gamma_1" in key for key in backbone.state_dict())
    assert isinstance(backbone.blocks[0].mlp, GluMlp) is (name == "SwiGLU")
    views = Views(local_count=2, local_size=encoder.patch)
    method = replace(case_of("dinov3", views=views), encoder=encoder).make()
    images = torch.randint(0, 256, (4, 1, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    terms = method(method.views(images, Draw(torch.Generator().manual_seed(0), 4)), 0.9)
    torch.autograd.backward(sum(terms.values()))
    without = [key for key, p in method.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []


def test_rotary_positions_are_rescaled_in_training_only_and_again_from_the_same_seed() -> None:
    encoder, images = TimmEncoder(ENCODERS["rotary positions"]), torch.randn(2, 1, 32, 32)
    with torch.no_grad():
        for name, p in encoder.named_parameters():
            if "gamma" in name:  # LayerScale starts at 1e-5, which hides what attention does
                p.fill_(1.0)

    def seen(seed: int) -> Tensor:
        torch.manual_seed(seed)
        with torch.no_grad():
            return encoder.tokens(images).patches

    assert torch.equal(seen(0), seen(0))
    assert not torch.allclose(seen(0), seen(1), atol=1e-4)
    encoder.eval()
    assert torch.equal(seen(0), seen(1))


# Configs


@pytest.mark.parametrize(
    ("member", "values", "message"),
    [
        (configs.IBOT, {"patch_teacher_temperature": 0.1}, "teacher temperature 0.1 must be below student_temperature 0.1"),
        (configs.DINO, {"teacher_temperature_start": 0.2}, "teacher temperature 0.2 must be below student_temperature 0.1"),
        (configs.DINOv2, {"mask_ratio": (0.5, 0.1)}, "must rise from above 0 to below 1"),
        (configs.DINOv2, {"mask_ratio": (0.1, 1.0)}, "must rise from above 0 to below 1"),
        (configs.DINOv3, {"gram_snapshots": (0.2, 0.1)}, "must rise"),
        (configs.DINOv3, {"gram_start": 0.1}, "the first of gram_snapshots, 0.17, is after gram_start 0.1"),
        (configs.DINOv3, {"gram_size": 512, "views": Views(rotation=5.0)}, "without rotation and shear"),
    ],
)
def test_what_cannot_work_is_refused(member: Callable[..., Any], values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        member(**values)


# Several processes

SHARED = {
    "dino-sinkhorn": lambda: case_of("dino", centering="sinkhorn"),
    "ibot-sinkhorn": lambda: case_of("ibot", centering="sinkhorn", shared_head=False),
    "dinov2-center": lambda: case_of("dinov2", centering="center"),
    "dinov3-gram": lambda: case_of("dinov3", gram_size=32, gram_snapshots=(0.4,), gram_start=0.5),
}
"""What a method does not do unless it is told to; the defaults are in test_distributed.py."""


def work(rank: int, port: int, folder: Path) -> None:
    """One of two processes, as torchrun would start it."""
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), CUDA_VISIBLE_DEVICES="")
    torch.set_num_threads(1)
    distributed.start()
    found = {name: few_steps(case()) for name, case in SHARED.items()}
    distributed.stop()
    torch.save(found, folder / f"{rank}.pt")


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What the two processes found."""
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(work, (port, folder), nprocs=2)
    return [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]


@pytest.mark.parametrize("name", SHARED)
def test_two_processes_train_as_one(name: str, ranks: list[dict[str, Any]]) -> None:
    alone = few_steps(SHARED[name]())
    assert alone["gradients"]
    for rank in ranks:
        torch.testing.assert_close(rank[name], alone, rtol=1e-8, atol=1e-8)

"""Monitors: their formulas against known values, silence on healthy trainings, and an error on collapsed ones."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_training import CONV, DINO, SIMCLR, TRAIN, Recorder, make, stripes
from torch import Tensor, nn

from schemas import methods as configs
from schemas.errors import Collapse, UserError
from schemas.training import AdamW, Train
from ssl_tasks.collapse import collapse
from ssl_tasks.data.draw import Draw
from ssl_tasks.learner import Learner
from ssl_tasks.measures import alignment, effective_rank, nearest_neighbours, uniformity
from ssl_tasks.method import Method
from ssl_tasks.monitors import Look, evaluating
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.train import fit

VICREG = configs.VICReg(hidden=16, output=16, views=SIMCLR.views)
LOOKED_AT = TRAIN.model_copy(update={"epochs": 12.0, "monitors": 6})

FAST = LOOKED_AT.model_copy(update={"optimizer": AdamW(learning_rate=2e-3)})


def trained(method: Method, folder: Path, settings: Train = LOOKED_AT) -> Learner:
    images, labels = stripes()
    return fit(method, images, settings, seed=3, workdir=folder, tracker=Recorder(), look=Look(images, labels, 0, "cpu"))


def orthonormal(rows: int, columns: int) -> Tensor:
    basis, _ = torch.linalg.qr(torch.randn(rows, columns, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    return torch.as_tensor(basis)


@pytest.mark.parametrize(
    ("features", "rank"),
    [
        (orthonormal(256, 32), 32.0003),
        (torch.outer(torch.arange(1.0, 257), torch.arange(1.0, 33)), 1.00005),
        (torch.diag(torch.tensor([1.0, 1, 0, 0])), 2.0000063),
        (torch.diag(torch.tensor([2.0, 1, 1])), 2.8284273),
    ],
    ids=["orthonormal", "rank one", "two of four", "2-1-1"],
)
def test_effective_rank_of_matrices_whose_singular_values_are_known(features: Tensor, rank: float) -> None:
    assert effective_rank(features) == pytest.approx(rank, rel=2e-6)


def test_alignment_is_the_squared_distance_on_the_sphere() -> None:
    right, up = torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 0.2]])
    assert alignment(right, right * 5) == pytest.approx(0, abs=1e-7)
    assert alignment(right, up) == pytest.approx(2)
    assert alignment(right, -right) == pytest.approx(4)


def test_uniformity_of_four_points_on_a_circle() -> None:
    """Of the six pairs four are sqrt(2) apart and two 2: log((4 e^-4 + 2 e^-8) / 6)."""
    corners = torch.tensor([[1.0, 0], [0, 2], [-3, 0], [0, -4]])
    assert uniformity(corners) == pytest.approx(math.log((4 * math.exp(-4) + 2 * math.exp(-8)) / 6), rel=1e-5)
    assert uniformity(torch.ones(4, 2)) == pytest.approx(0, abs=1e-5)


def test_nearest_neighbours_leave_the_image_itself_out() -> None:
    features = torch.tensor([[1.0, 0], [1, 0.1], [0, 1], [0.1, 1]])
    assert nearest_neighbours(features, torch.tensor([0, 0, 1, 1]), k=1) == 1.0
    assert nearest_neighbours(features, torch.tensor([0, 1, 0, 1]), k=1) == 0.0


def test_each_part_is_back_in_its_mode_after_evaluating() -> None:
    module = nn.Sequential(nn.BatchNorm1d(2), nn.BatchNorm1d(2).eval())
    module[0].train()
    with evaluating(module):
        assert not any(part.training for part in module.modules())
    assert [part.training for part in module.modules()] == [True, True, False]


def test_a_look_reports_what_it_should_about_a_method() -> None:
    images, labels = stripes()
    method = make(DINO)
    with evaluating(method):
        seen = Look(images, labels, 0, "cpu")(method)
    assert set(seen) == {
        *("std", "relative_std", "effective_rank", "centred_rank", "alignment", "uniformity", "knn"),
        *("teacher_entropy", "mean_entropy", "prototypes_used", "teacher_student_kl", "signal_gain"),
    }
    assert all(math.isfinite(value) for value in seen.values())
    assert 0.5 < seen["knn"] <= 1
    with evaluating(method):
        assert Look(images, labels, 0, "cpu")(method) == seen
        assert "knn" not in Look(images, [None, *labels[1:]], 0, "cpu")(method)
        assert "knn" not in Look(images, [], 0, "cpu")(method)


def test_features_that_are_not_finite_are_an_error() -> None:
    method = make(SIMCLR)
    nn.init.constant_(next(method.parameters()), torch.nan)
    with pytest.raises(UserError, match="features are not finite"):
        Look(stripes()[0], [], 0, "cpu")(method)


BEFORE = {"embedding_rank": 17.0, "prototypes_used": 0.02}
HEALTHY = {"std": 0.3, "relative_std": 0.5, "effective_rank": 9.0, "centred_rank": 9.0, "loss": 1.0}


def looks(count: int, start: float = 0.0, **values: float) -> list[dict[str, float]]:
    """A look before the training, then `count` looks over the rest of it."""
    return [{**HEALTHY, **BEFORE, "progress": 0.0}, *({**HEALTHY, **values, "progress": start + (1 - start) * (i + 1) / count} for i in range(count))]


@pytest.mark.parametrize(
    ("values", "symptom"),
    [
        ({"relative_std": 1e-4, "std": 1e-5}, "all images have the same features"),
        ({"relative_std": 0.009}, "all images have the same features"),
        ({"centred_rank": 1.2}, "the features lie on a line"),
        ({"embedding_std": 0.01}, "all images have the same embedding"),
        ({"teacher_entropy": 0.999, "mean_entropy": 0.9995, "teacher_student_kl": 0.0}, "uniform distribution"),
        ({"teacher_entropy": 0.001, "mean_entropy": 0.002, "teacher_student_kl": 0.0}, "on one prototype"),
        ({"teacher_entropy": 0.5, "mean_entropy": 0.501, "teacher_student_kl": 0.0}, "the same distribution"),
        ({"embedding_rank": 2.5}, "few dimensions left"),
        ({"teacher_entropy": 0.5, "mean_entropy": 0.6, "teacher_student_kl": 0.0, "prototypes_used": 2 / 256}, "prototypes are dead"),
    ],
)
def test_a_symptom_that_lasts_is_a_collapse(values: dict[str, float], symptom: str) -> None:
    history = looks(10, **values)
    assert collapse(history[:5]) is None, "20, 30 and 40 %: only two of three looks are past a quarter"
    found = collapse(history[:6])
    assert found is not None
    assert symptom in found
    assert "\n" not in found
    assert collapse([*history[:5], {**HEALTHY, "progress": 0.5}]) is None


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"relative_std": 0.02, "effective_rank": 1.1},
        {"teacher_entropy": 0.98, "mean_entropy": 0.9999, "teacher_student_kl": 0.01},
        {"teacher_entropy": 0.3, "mean_entropy": 0.7, "teacher_student_kl": 0.0},
        {"teacher_entropy": 0.9985, "mean_entropy": 0.9999, "teacher_student_kl": 0.001, "signal_gain": 1.2},
        {"embedding_rank": 4.4},
        {"prototypes_used": 10 / 256},
    ],
    ids=["convolutional", "vit with a large mean", "dino near uniform", "dino", "dino nearer to uniform, whose signal grows", "byol", "swav"],
)
def test_what_healthy_trainings_were_seen_to_show_is_no_collapse(values: dict[str, float]) -> None:
    assert collapse(looks(10, **values)) is None


def test_a_small_embedding_that_still_grows_is_no_collapse() -> None:
    history = looks(4, start=0.5)
    for look, std in zip(history[1:], (0.01, 0.02, 0.03, 0.04), strict=True):
        look["embedding_std"] = std
    assert collapse(history) is None


def test_two_symptoms_in_turn_are_not_one_that_lasts() -> None:
    history = looks(4, start=0.5)
    for look, values in zip(history[1:], [{"centred_rank": 1.0}, {"relative_std": 0.0}] * 2, strict=True):
        look.update(values)
    assert collapse(history) is None


@pytest.mark.parametrize("config", [SIMCLR, DINO, VICREG], ids=lambda config: config.kind)
def test_healthy_trainings_are_left_alone(tmp_path: Path, config: configs.Method) -> None:
    learner = trained(make(config), tmp_path)
    assert learner.done == 60
    assert len(learner.looks) == 1 + 4 + 6, "before the training, early, and evenly spread"
    assert learner.looks[-1]["loss"] == pytest.approx(learner.curve[-2]["train/loss"])


def test_vicreg_without_its_variance_term_is_stopped(tmp_path: Path) -> None:
    settings = LOOKED_AT.model_copy(update={"optimizer": AdamW(learning_rate=1e-2), "monitors": 10})
    trained(make(VICREG), tmp_path / "with", settings)
    with pytest.raises(Collapse, match=r"collapsed at step \d+: all images have the same embedding.*method\.variance"):
        trained(make(VICREG.model_copy(update={"variance": 0.0})), tmp_path / "without", settings)


def test_dino_that_does_not_sharpen_is_stopped(tmp_path: Path) -> None:
    """The config's own check refuses a teacher that is no sharper than the student; a little sharper is not enough either."""
    soft = DINO.model_copy(update={"teacher_temperature": 0.0999, "teacher_temperature_start": 0.0999})
    with pytest.raises(Collapse, match="uniform distribution"):
        trained(make(soft), tmp_path, FAST)


def test_dino_that_does_not_centre_is_stopped(tmp_path: Path) -> None:
    with pytest.raises(Collapse, match="on one prototype"):
        trained(make(DINO.model_copy(update={"center_momentum": 1.0})), tmp_path)


def test_an_encoder_that_says_the_same_of_every_image_is_stopped(tmp_path: Path) -> None:
    class Constant(TimmEncoder):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images) * 1e-9 + 1

    class Blind(Method):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = Constant(CONV)

        def views(self, images: Tensor, draw: Draw) -> list[Tensor]:
            return [images.float()]

        def forward(self, views: list[Tensor], progress: float) -> dict[str, Tensor]:
            return {"mean": self.encoder(views[0]).mean()}

        def exported(self) -> nn.Module:
            return self.encoder

    with pytest.raises(Collapse, match=r"collapsed at step 40: all images have the same features"):
        trained(Blind(), tmp_path)


def test_a_sample_is_drawn_from_many_images() -> None:
    images = np.zeros((1000, 1, 8, 8), np.uint8)
    assert len(Look(images, [], 0, "cpu").images) == 512

"""Protocols without labels: against the papers' formulas in float64 NumPy, features of known spectra, and models that must be refused."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from evaluated import job
from numpy.typing import NDArray
from small_methods import CASES, Case, members
from small_world import TRAIN, VIT, SmallWorld, protocol

from schemas import methods as configs
from schemas.artifacts import Checkpoint, sha256
from schemas.encoders import Encoder
from schemas.errors import UserError
from ssl_tasks.artifacts import draft, seal
from ssl_tasks.checkpoints import save_encoder, save_training_state
from ssl_tasks.evaluate.findings import Number, Skipped
from ssl_tasks.evaluate.label_free.alpha_req import slope
from ssl_tasks.evaluate.label_free.augmented import views
from ssl_tasks.evaluate.label_free.covariance import eigenvalues
from ssl_tasks.evaluate.label_free.lidar import lidar
from ssl_tasks.evaluate.label_free.rotation import rotated_in
from ssl_tasks.evaluate.label_free.spectrum import dimensions, head
from ssl_tasks.evaluate.protocols import apply
from ssl_tasks.evaluate.sampling import drawn
from ssl_tasks.evaluate.subject import Subject
from ssl_tasks.measures import alignment
from ssl_tasks.methods import build
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.report.theme import LIGHT

Array = NDArray[np.float64]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SmallWorld:
    return SmallWorld(tmp_path_factory.mktemp("label_free"))


def planted(values: Array, n: int = 400, mean: float = 3.0) -> Array:
    """Features (n, D) whose covariance has exactly these eigenvalues, turned at random, around a mean."""
    generator = np.random.default_rng(0)
    raw = generator.normal(size=(n, len(values)))
    directions = np.linalg.qr(raw - raw.mean(0))[0]
    turn = np.linalg.qr(generator.normal(size=(len(values), len(values))))[0]
    return directions * np.sqrt(values * n) @ turn + mean


def number(found: list[Number], metric: str) -> Number:
    return next(n for n in found if n.metric == metric)


def test_eigenvalues_of_the_covariance_are_those_that_were_planted() -> None:
    values = np.arange(12, 0, -1.0)
    assert eigenvalues(planted(values)) == pytest.approx(values, rel=1e-9)


def test_eigenvalues_do_not_hang_on_the_blocks_that_they_are_summed_in(monkeypatch: pytest.MonkeyPatch) -> None:
    features = np.random.default_rng(1).normal(size=(50, 6)).astype(np.float32)
    monkeypatch.setattr("ssl_tasks.evaluate.label_free.covariance._BLOCK", 7)
    assert eigenvalues(features) == pytest.approx(np.sort(np.linalg.eigvalsh(np.cov(features.T.astype(np.float64), bias=True)))[::-1], rel=1e-9)


def test_fewer_images_than_dimensions_have_the_covariances_eigenvalues_too() -> None:
    features = np.random.default_rng(5).normal(size=(6, 20)).astype(np.float32)
    found = eigenvalues(features)
    assert found[:5] == pytest.approx(np.sort(np.linalg.eigvalsh(np.cov(features.T.astype(np.float64), bias=True)))[::-1][:5], rel=1e-9)
    assert (found[5:] == 0).all()
    assert len(found) == 20


def test_eigenvalues_that_are_rounding_of_float32_are_zero() -> None:
    features = planted(np.array([1.0, 0.5, 0, 0, 0, 0]), mean=10.0).astype(np.float32)
    assert (eigenvalues(features) > 0).sum() == 2


def test_features_that_are_one_point_have_no_spectrum() -> None:
    with pytest.raises(UserError, match="collapsed"):
        eigenvalues(np.full((20, 4), 0.1, np.float32))


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
def test_alpha_of_eigenvalues_that_are_a_power_of_their_rank_is_that_power(alpha: float) -> None:
    values = np.arange(1, 121.0) ** -alpha
    assert slope(values, 4, 100) == pytest.approx(alpha, abs=1e-12)
    assert slope(eigenvalues(planted(values)), 4, 100) == pytest.approx(alpha, abs=1e-6)


def test_alpha_is_the_weighted_least_squares_slope() -> None:
    values = np.sort(np.random.default_rng(2).gamma(1.0, size=60))[::-1]
    j = np.arange(4, 41.0)
    x, y, w = np.log(j), np.log(values[3:40]), 1 / j
    x_mean, y_mean = (w * x).sum() / w.sum(), (w * y).sum() / w.sum()
    assert slope(values, 4, 40) == pytest.approx(-(w * (x - x_mean) * (y - y_mean)).sum() / (w * (x - x_mean) ** 2).sum(), rel=1e-10)


def test_alpha_is_fitted_to_eigenvalues_above_rounding_only() -> None:
    values = np.concatenate([np.arange(1, 31.0) ** -1.5, np.zeros(70)])
    assert slope(values, 4, 100) == pytest.approx(1.5, abs=1e-12)


def test_alpha_of_too_few_eigenvalues_says_so() -> None:
    with pytest.raises(UserError, match="5 eigenvalues above rounding, and from rank 4 on a slope needs 3: lower first"):
        slope(np.array([5.0, 4, 3, 2, 1, 0, 0]), 4, 100)


def brute_lidar(x: Array, delta: float) -> float:
    """Section 3 of the paper, with the root of S_w by its eigenvectors."""
    n, q, d = x.shape
    means = x.mean(1)
    mu = means.mean(0)
    s_b = sum(np.outer(m - mu, m - mu) for m in means) / (n - 1)
    s_w = sum(np.outer(x[i, j] - means[i], x[i, j] - means[i]) for i in range(n) for j in range(q)) / (n * (q - 1)) + delta * np.eye(d)
    values, vectors = np.linalg.eigh(s_w)
    root = vectors @ np.diag(values**-0.5) @ vectors.T
    found = np.linalg.eigvalsh(root @ s_b @ root) + 1e-8
    p = found / found.sum()
    return math.exp(-(p * np.log(p)).sum())


def test_lidar_is_the_papers_formula_whatever_the_batches() -> None:
    generator = np.random.default_rng(3)
    x = generator.normal(size=(30, 1, 5)) * np.array([3.0, 2, 1, 0.5, 0.1]) + 0.3 * generator.normal(size=(30, 4, 5))
    assert lidar(torch.from_numpy(x).split(7), 1e-4) == pytest.approx(brute_lidar(x, 1e-4), rel=1e-6)


def test_lidar_counts_dimensions_that_tell_images_apart_and_not_those_that_hold_the_views() -> None:
    generator = np.random.default_rng(4)
    x = 0.01 * generator.normal(size=(200, 10, 8))
    x[..., :3] += generator.normal(size=(200, 1, 3))
    x[..., 3:] += 5 * generator.normal(size=(200, 10, 5))
    assert lidar([torch.from_numpy(x)], 1e-4) == pytest.approx(3, abs=0.1)


def test_lidar_of_a_collapsed_model_is_no_number() -> None:
    with pytest.raises(UserError, match="collapsed"):
        lidar([torch.full((5, 3, 4), 0.7, dtype=torch.float64)], 1e-4)


def test_lidar_takes_the_images_that_there_are(world: SmallWorld) -> None:
    subject = world.subject("vit")
    numbers, _ = apply(protocol("lidar", images=1_000_000), subject)
    assert numbers[0].n == len(subject.world.parts.train)


def test_views_are_the_same_for_models_of_one_size_and_normalised_as_the_model_was(world: SmallWorld) -> None:
    subject = world.subject("vit")
    rows = subject.world.parts.train[:5]
    first, again = (torch.cat(list(views(subject, rows, 3))) for _ in range(2))
    assert first.shape == (5, 3, subject.dim)
    assert torch.equal(first, again)
    assert not torch.allclose(first[:, 0], first[:, 1])
    other = world.subject("vit")
    assert other.artifact
    other.artifact = other.artifact.model_copy(update={"std": [0.5] * 3})
    assert not torch.allclose(torch.cat(list(views(other, rows, 3))), first)


def test_alignment_is_the_mean_over_images_and_uniformity_the_papers_formula(world: SmallWorld) -> None:
    subject = world.subject("vit")
    numbers, _ = apply(protocol("alignment_uniformity"), subject)
    rows = drawn(subject.world.parts.train, 2048, subject.world.seed)
    first, second = torch.cat(list(views(subject, rows, 2))).unbind(1)
    assert number(numbers, "alignment").values[0] == pytest.approx(alignment(first, second), rel=1e-9)

    def uniformity(z: Array) -> float:
        z = z / np.linalg.norm(z, axis=1, keepdims=True)
        pairs = [np.exp(-2 * ((z[i] - z[j]) ** 2).sum()) for i in range(len(z)) for j in range(i)]
        return math.log(np.mean(pairs))

    assert number(numbers, "uniformity").values[0] == pytest.approx((uniformity(first.numpy()) + uniformity(second.numpy())) / 2, rel=1e-9)


def test_dimensions_are_those_above_the_share() -> None:
    assert dimensions(np.array([4.0, 2.0, 4.1e-5, 3.9e-5, 0.0]), 1e-5) == 3


@pytest.mark.parametrize(
    ("config", "rotates"),
    [
        ({"method": {"kind": "simclr", "views": {"rotation": 0.0, "turn": 1.0}}}, False),
        ({"method": {"kind": "simclr", "views": {"rotation": 30.0, "turn": 0.5}}}, True),
        ({"method": {"kind": "simclr", "views": {"rotation": 30.0, "turn": 0.0}}}, False),
        ({"views": {"rotation": 180.0, "turn": 0.1}, "students": {}}, True),
    ],
)
def test_a_model_whose_views_were_rotated_is_found(world: SmallWorld, config: dict[str, Any], rotates: bool) -> None:
    model = world.models["vit"].model_copy(update={"config": config, "stage": "turned"})
    assert rotated_in(model, world.evaluation(["rank"])) == ("turned" if rotates else "")


def test_a_model_that_learned_from_one_that_was_rotated_is_refused_with_the_stage_named(world: SmallWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = world.subject("vit")
    teacher = world.models["convnet"]
    turned = teacher.model_copy(update={"config": {"views": {"rotation": 90.0, "turn": 1.0}}, "stage": "teacher"})
    monkeypatch.setattr("ssl_tasks.evaluate.label_free.rotation.read", lambda _: turned)
    assert subject.artifact
    subject.artifact = subject.artifact.model_copy(update={"parents": {"teacher": teacher.key}})
    with pytest.raises(Skipped, match=r"training rotated its images \(stage 'teacher'\)"):
        apply(protocol("rotation"), subject)


def test_a_network_before_training_was_not_taught_by_rotated_images(world: SmallWorld) -> None:
    subject = world.subject("random")
    assert subject.artifact
    subject.artifact = subject.artifact.model_copy(update={"config": {"views": {"rotation": 90.0, "turn": 1.0}}})
    assert apply(protocol("rotation"), subject)[0]


def test_the_rotation_probe_sees_what_is_in_the_features(world: SmallWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    def corner(_: object, squares: torch.Tensor) -> torch.Tensor:
        """The corners' brightness: of a square that is brighter at its top left, this tells the turn."""
        return torch.stack([squares[:, 0, y, x] for y in (0, -1) for x in (0, -1)], dim=1)

    def lit(_: Subject, rows: Any, _size: int) -> Any:
        images = torch.zeros(len(rows), 3, 32, 32, dtype=torch.uint8)
        images[:, :, :8, :8] = 200
        yield images

    subject = world.subject("vit")
    monkeypatch.setattr(type(subject.encoder), "forward", corner)
    monkeypatch.setattr(Subject, "batches", lit)
    numbers, _ = apply(protocol("rotation"), subject)
    assert numbers[0].values == [1.0]
    monkeypatch.setattr(type(subject.encoder), "forward", lambda _, squares: squares.mean((2, 3)))
    subject.shared.clear()
    assert apply(protocol("rotation"), subject)[0][0].values[0] == pytest.approx(0.25)


OF_PARTS = {
    *("mae", "simmim", "maskfeat", "fcmae", "uniform_masking", "data2vec2", "i_jepa", "dbot", "relative_patch", "jigsaw", "cpc"),
    *("colorization", "split_brain", "context_encoder", "denoising_autoencoder", "cmc"),
}
"""Methods that put nothing behind whole features: what they train besides the encoder looks at places or parts, or there are two of it."""
NOTHING = {"sscd", "sela", "directclr"}
"""Those that put nothing behind the encoder, that is, but for the labels' layer of SeLa."""
PRETRAINING = {name: case for name, case in CASES.items() if type(case.config) in members(configs.Method)}


@pytest.mark.parametrize("case", PRETRAINING.values(), ids=list(PRETRAINING))
def test_what_a_method_puts_behind_its_encoder_takes_the_exported_features(case: Case) -> None:
    method: Any = case.make()
    behind = head(method)
    if case.config.kind in OF_PARTS | NOTHING:
        assert behind is None
    else:
        assert behind is not None
        assert behind(torch.randn(6, method.exported().dim)).shape[0] == 6


def keeping(world: SmallWorld, config: configs.Method) -> Subject:
    """A model whose checkpoint keeps the training state of a method that has just begun."""
    stage = {"kind": "pretrain", "dataset": "raw", "encoder": VIT, "train": TRAIN, "method": config.model_dump(mode="json"), "keep_training_state": True}
    made = job(world.workspace, "kept", stage, {"raw": world.inputs["raw"]})
    folder = draft(made)
    torch.manual_seed(0)
    method: Any = build(config, TimmEncoder(Encoder(**VIT)))
    save_encoder(folder, method.exported())
    save_training_state(folder, {"method": method.state_dict(), "optimizer": {}})
    encoder = method.exported()
    fields = {"encoder": encoder.config.model_dump(mode="json"), "mean": [0.5] * 3, "std": [0.25] * 3, "dim": encoder.dim, "exported": "encoder"}
    sealed = seal(made, folder, **fields)
    assert isinstance(sealed, Checkpoint)
    return Subject("kept", "pretrained", sealed, sealed.encoder, world.subject("vit").world)


def test_the_spectrum_is_also_that_of_the_projector_where_the_training_state_is_kept(world: SmallWorld) -> None:
    subject = keeping(world, configs.BarlowTwins(hidden=16, output=12))
    numbers, plates = apply(protocol("spectrum"), subject)
    assert number(numbers, "dimensions_projector").values[0] <= 12
    assert len(plates[0].draw(LIGHT).axes[0].lines) == 3  # backbone, projector, the share
    assert not [n for n in apply(protocol("spectrum"), world.subject("vit"))[0] if n.metric == "dimensions_projector"]


def test_a_projector_of_one_dimension_is_seen_to_have_collapsed_while_the_backbone_has_not(world: SmallWorld) -> None:
    subject = keeping(world, configs.BarlowTwins(hidden=16, output=12))
    assert subject.artifact
    path = subject.artifact.path("training.pt")
    state = torch.load(path, weights_only=True)
    last = max(name for name in state["method"] if name.startswith("projector") and name.endswith("weight"))
    state["method"][last][1:] = 0
    torch.save(state, path)
    files = {**subject.artifact.files, "training.pt": sha256(path)}
    subject.artifact = subject.artifact.model_copy(update={"files": files})
    numbers, plates = apply(protocol("spectrum"), subject)
    assert number(numbers, "dimensions_projector").values == [1.0]
    assert number(numbers, "dimensions").values[0] > 1
    assert "projector: 1 of 12 dimensions" in plates[0].caption

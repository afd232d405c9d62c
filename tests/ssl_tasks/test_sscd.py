"""SSCD: its loss against figures worked out by hand, what is mixed with what, and a descriptor that is handed over whole."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from few_steps import few_steps
from numpy.typing import NDArray
from PIL import Image
from small_methods import CASES, Case
from test_checkpoints import sealed
from test_encoder import CONFIGS, images
from tiny_pipeline import made, plan
from tiny_training import make, ranks, weights
from torch import Tensor

from schemas import methods as configs
from schemas.artifacts import Checkpoint
from schemas.encoders import Encoder
from schemas.errors import UserError
from schemas.views import Views
from ssl_tasks import distributed
from ssl_tasks.checkpoints import load_encoder
from ssl_tasks.data import marks
from ssl_tasks.data.draw import Draw
from ssl_tasks.data.mixing import contents, mixed, mixes, sharing
from ssl_tasks.losses.contrastive import info_nce
from ssl_tasks.losses.koleo import koleo
from ssl_tasks.methods.contrastive.sscd import SSCD
from ssl_tasks.nn.descriptor import gem
from ssl_tasks.nn.encoder import TimmEncoder

MIXED = {f"{name} often mixed": Case(CASES[name].config.model_copy(update={"mix": 0.7}), CASES[name].encoder) for name in ("sscd-vit", "sscd-convnet")}


def draw(samples: int, seed: int = 0) -> Draw:
    return Draw(torch.Generator().manual_seed(seed), samples)


# The loss


def loss(z: Tensor, shown: list[tuple[int, int]], temperature: float) -> float:
    content = torch.tensor(shown)
    return float(info_nce(z, z, sharing(content, content), torch.arange(len(z)), temperature))


def test_four_images_whose_two_views_agree_and_are_unlike_all_others() -> None:
    z = torch.eye(4).repeat(2, 1)
    shown = [(i, i) for i in range(4)] * 2
    assert loss(z, shown, 0.5) == pytest.approx(0.594438, abs=1e-6)
    assert 0 <= loss(z, shown, 0.05) < 1e-6  # and not below 0, as without the positive in its denominator


def test_a_view_mixed_of_two_images_is_a_positive_of_both() -> None:
    z = torch.tensor([[1, 0, 0], [1, 0.1, 0], [0, 1, 0], [0, 1, 0.1], [0, 0, 1], [0, 0.7, 0.7]])
    assert loss(z, [(1, 1), (1, 1), (2, 2), (2, 2), (3, 3), (3, 2)], 0.5) == pytest.approx(0.495645, abs=1e-6)


def test_the_loss_is_a_mean_over_positives_of_each_one_against_all_that_does_not_match() -> None:
    random = np.random.default_rng(0)
    z, shown = random.normal(size=(12, 5)), random.integers(0, 4, (6, 2)).repeat(2, axis=0)
    unit = z / np.linalg.norm(z, axis=1, keepdims=True)
    likeness = np.exp(unit @ unit.T / 0.3)
    each = []
    for i in range(12):
        match = np.array([bool({*shown[i]} & {*shown[j]}) for j in range(12)])
        others = likeness[i, ~match].sum()
        each.append(np.mean([-np.log(likeness[i, j] / (likeness[i, j] + others)) for j in np.flatnonzero(match) if j != i]))
    assert loss(torch.from_numpy(z), [(int(a), int(b)) for a, b in shown], 0.3) == pytest.approx(np.mean(each), abs=1e-9)


def test_a_batch_of_one_content_has_a_finite_loss_and_gradient() -> None:
    z = torch.randn(4, 3, requires_grad=True)
    value = info_nce(z, z, torch.ones(4, 4, dtype=torch.bool), torch.arange(4), 0.05)
    value.backward()  # type: ignore[no-untyped-call]  # of torch
    assert value == 0
    assert z.grad is not None
    assert z.grad.isfinite().all()


def test_koleo_measures_the_distance_to_the_nearest_of_other_content() -> None:
    z = torch.cat([torch.eye(4), -torch.eye(4)])
    assert koleo(z).item() == pytest.approx(-0.346574, abs=1e-6)
    random = np.random.default_rng(0)
    x = random.normal(size=(6, 3))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    content = np.array([0, 0, 1, 1, 2, 2])
    nearest = [min(np.linalg.norm(x[i] - x[j]) for j in range(6) if content[i] != content[j]) for i in range(6)]
    apart = torch.from_numpy(content[:, None] != content[None])
    tensor = torch.from_numpy(x)
    assert koleo(tensor, tensor, apart).item() == pytest.approx(-np.mean(np.log(nearest)), abs=1e-6)
    assert koleo(tensor[:2], tensor, apart[:2]).item() == pytest.approx(-np.mean(np.log(nearest[:2])), abs=1e-6)


def test_koleo_drives_descriptors_apart() -> None:
    def spacing(z: Tensor) -> float:
        unit = torch.nn.functional.normalize(z.detach(), dim=1)
        return float(torch.cdist(unit, unit).fill_diagonal_(9).min(dim=1).values.mean())

    z = torch.randn(32, 8, generator=torch.Generator().manual_seed(0), requires_grad=True)
    apart, before = ~torch.eye(32, dtype=torch.bool), spacing(z)
    optimizer = torch.optim.Adam([z], 0.05)
    for _ in range(100):
        optimizer.zero_grad()
        koleo(z, z, apart).backward()  # type: ignore[no-untyped-call]  # of torch
        optimizer.step()
    assert spacing(z) > 1.3 * before


# Mixing


def test_a_share_of_the_views_is_mixed_half_by_blending_and_half_by_a_box() -> None:
    plan = mixes(draw(40_000), 0.3)
    weight, box = plan[:, 0], plan[:, 1:]
    blended, cut = weight > 0, box.any(dim=1)
    assert not (blended & cut).any()
    assert [float(each.float().mean()) for each in (blended, cut)] == pytest.approx([0.15, 0.15], abs=0.01)
    assert (box >= 0).all()
    assert (box <= 1).all()
    for share in (weight[blended], (box[cut, 2] - box[cut, 0]) * (box[cut, 3] - box[cut, 1])):  # Beta(2, 2): mean 1/2, variance 1/20
        assert (float(share.mean()), float(share.var())) == pytest.approx((0.5, 0.05), abs=0.01)


def test_a_mixed_view_is_a_blend_or_has_a_box_of_the_other_and_the_rest_is_left() -> None:
    views, others = torch.zeros(3, 1, 8, 8), torch.ones(3, 1, 8, 8)
    plan = torch.tensor([[0, 0, 0, 0, 0], [0.25, 0, 0, 0, 0], [0, 0.25, 0.5, 0.75, 1]])
    plain, blend, pasted = mixed(views, others, plan)
    assert not plain.any()
    assert (blend == 0.25).all()
    expected = torch.zeros(8, 8)
    expected[4:, 2:6] = 1
    assert torch.equal(pasted[0], expected)


def test_views_share_content_with_all_that_show_either_image() -> None:
    plan = torch.tensor([[0.0] * 5, [0.5, 0, 0, 0, 0], [0, 0.1, 0.1, 0.5, 0.5]])
    shown = contents(plan, torch.arange(3), torch.tensor([1, 2, 0]))
    assert shown.tolist() == [[0, 0], [1, 2], [2, 0]]
    assert sharing(shown, shown).int().tolist() == [[1, 0, 1], [0, 1, 1], [1, 1, 1]]


def test_a_batch_of_which_all_views_are_mixed_is_told_apart_from_one_without() -> None:
    """The loss takes mixed views for what they are: with the same network its positives are more, its views others."""
    method = make(configs.SSCD(output=8, mix=1.0, views=Views(blur=0.0)), CASES["sscd-convnet"].encoder)
    assert isinstance(method, SSCD)
    pixels = torch.randint(0, 256, (6, 1, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    first, second, *plans = method.eval().views(pixels, draw(6))
    with torch.no_grad():
        z = method.encoder(torch.cat([mixed(v, v.roll(-1, 0), p) for v, p in zip((first, second), plans, strict=True)]))
        shown = torch.cat([contents(p, torch.arange(6), (torch.arange(6) + 1) % 6) for p in plans])
        matches = sharing(shown, shown)
        assert (matches.sum(dim=1) == 6).all()  # each of two views of itself, of the image before and of the one after
        terms = method([first, second, *plans], 0.5)
        torch.testing.assert_close(terms["info_nce"], info_nce(z, z, matches, torch.arange(12), 0.05))
        torch.testing.assert_close(terms["koleo"], 10 * koleo(z, z, ~matches))


# Two processes, and pieces


def work(folder: Path) -> None:
    rows = torch.arange(3) + 3 * distributed.rank()
    found: dict[str, Any] = {name: few_steps(case) for name, case in MIXED.items()}
    torch.save({**found, "following": distributed.following(rows).tolist()}, folder / f"{distributed.rank()}.pt")


@pytest.mark.slow
def test_two_processes_that_mix_images_of_both_train_as_one(tmp_path: Path) -> None:
    ranks(2, work, tmp_path, seconds=120)
    saw = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
    assert [each["following"] for each in saw] == [[1, 2, 3], [4, 5, 0]]
    for name, case in MIXED.items():
        alone = few_steps(case)
        for each in saw:
            torch.testing.assert_close(each[name], alone, rtol=1e-8, atol=1e-8)


def test_a_batch_that_goes_through_in_pieces_has_the_same_loss_and_gradients() -> None:
    case = MIXED["sscd-vit often mixed"]
    torch.testing.assert_close(few_steps(case, memory={"pieces": 3}), few_steps(case), rtol=1e-8, atol=1e-8)


# The descriptor


def test_gem_is_the_generalised_mean_of_what_is_positive() -> None:
    x = torch.rand(2, 7, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(gem(x), torch.from_numpy((x.numpy() ** 3).mean(axis=1) ** (1 / 3)))
    assert torch.equal(gem(torch.cat([x, -x], dim=1)) > 0, torch.ones(2, 3, dtype=torch.bool))


@pytest.mark.parametrize("name", [name for name in CONFIGS if name != "DeiT"])
def test_any_encoder_gives_descriptors_of_length_1(name: str) -> None:
    encoder = TimmEncoder(CONFIGS[name]).eval()
    encoder.add_head(12)
    same = TimmEncoder(encoder.config).eval()
    same.load_state_dict(encoder.state_dict())
    descriptors = encoder(images(encoder.config))
    assert descriptors.shape == (2, 12) == (2, encoder.dim)
    torch.testing.assert_close(descriptors.norm(dim=1), torch.ones(2))
    assert torch.equal(same(images(encoder.config)), descriptors)
    assert torch.equal(encoder.tokens(images(encoder.config)).pooled, descriptors)


def test_a_vit_has_its_cls_token_beside_its_patches_and_a_convnet_its_places_alone() -> None:
    for name, cls in (("ViT", True), ("ResNet", False)):
        encoder = TimmEncoder(CONFIGS[name].model_copy(update={"pooling": "gem"})).eval()
        x = images(encoder.config)
        pooled, places = encoder.tokens(x)
        expected = torch.cat([encoder.backbone.forward_features(x)[:, 0], gem(places)], dim=1) if cls else gem(places)
        torch.testing.assert_close(pooled, expected)
        assert encoder.dim == pooled.shape[1] == encoder.width * (2 if cls else 1)


def test_an_encoder_that_averages_in_a_way_of_its_own_is_refused() -> None:
    encoder = TimmEncoder(CONFIGS["DeiT"])
    encoder.add_head(12)
    with pytest.raises(UserError, match="pools in a way of its own"):
        encoder(images(encoder.config))


def test_a_head_that_is_there_is_kept_and_one_behind_another_pooling_refused() -> None:
    config = CONFIGS["ResNet"].model_copy(update={"pooling": "gem", "head": 5})
    assert make(configs.SSCD(output=8), config).exported().config == config
    with pytest.raises(UserError, match=r"set encoder\.pooling to gem, or leave them out"):
        make(configs.SSCD(), CONFIGS["ResNet"].model_copy(update={"head": 5}))


@pytest.mark.parametrize("name", ["sscd-vit", "sscd-convnet"])
def test_what_is_exported_comes_back_with_its_head(tmp_path: Path, name: str) -> None:
    encoder = CASES[name].make().eval().exported()
    assert isinstance(encoder, TimmEncoder)
    loaded = load_encoder(sealed(tmp_path, encoder))
    assert weights(loaded) == weights(encoder)
    assert (loaded.config.pooling, loaded.config.head, loaded.dim) == ("gem", 32, 32)
    assert torch.equal(loaded(images(loaded.config)), encoder(images(loaded.config)))


def test_a_stage_hands_over_the_descriptor_and_another_starts_from_it(tmp_path: Path) -> None:
    encoder, train = "{name: resnet10t, image_size: 32", "train: {epochs: 1, batch_size: 8, monitors: 1}"
    method = "method: {kind: sscd, output: 16, views: {blur: 0}}"
    artifacts = made(
        plan(
            f"""
  first: {{kind: pretrain, dataset: raw, {method}, encoder: {encoder}}}, {train}}}
  second: {{kind: pretrain, dataset: raw, {method}, encoder: {encoder}, pooling: gem, head: 16}}, {train}, init_from: first}}
  clean: {{kind: curate, dataset: raw, steps: [{{kind: embed, embedding: {{kind: encoded, checkpoint: second}}}}]}}
""",
            tmp_path,
        )
    )
    first = artifacts["first"]
    assert isinstance(first, Checkpoint)
    assert (first.dim, first.exported, first.encoder.pooling, first.encoder.head) == (16, "encoder with its head", "gem", 16)
    assert "clean" in artifacts


# What is done to views


def photograph(side: int = 64) -> NDArray[np.uint8]:
    y, x = np.mgrid[:side, :side] / side
    waves = [127 + 90 * np.sin(9 * x + 4 * y), 127 + 90 * np.cos(7 * y * x), 200 * x * (1 - y) + 30]
    return np.stack(waves, axis=2).astype(np.uint8)


@pytest.mark.parametrize("quality", [10, 40, 60, 90])
def test_compression_loses_what_jpeg_loses(quality: int) -> None:
    pixels, file = photograph(), io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling=0)
    theirs = np.asarray(Image.open(file)).astype(float)
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None].double() / 255
    ours = 255 * marks.compressed(x, torch.tensor([float(quality)]))[0].permute(1, 2, 0).numpy()
    assert np.abs(ours - theirs).mean() < 0.5 * np.abs(pixels - theirs).mean() + 0.4
    assert np.abs(ours - pixels).mean() == pytest.approx(np.abs(pixels - theirs).mean(), rel=0.2, abs=0.3)


def test_only_the_chosen_images_are_compressed_whatever_their_channels_and_size() -> None:
    x = torch.rand(3, 2, 13, 9, generator=torch.Generator().manual_seed(0))
    made = marks.compressed(x, torch.tensor([torch.inf, 5.0, torch.inf]))
    assert torch.equal(made[[0, 2]], x[[0, 2]])
    assert made.shape == x.shape
    assert not torch.allclose(made[1], x[1], atol=0.05)
    assert marks.compressed(x, torch.full((3,), torch.inf)) is x


def test_marks_cover_a_part_of_the_chosen_images_in_one_colour() -> None:
    x = torch.full((400, 3, 24, 24), -1.0)
    for text, shape in ((0.5, 0.0), (0.0, 0.5)):
        (mark,) = marks.drawn(draw(400), 3, text, shape)
        ink = (marks.marked(x, mark) != -1).any(dim=1).flatten(1).float().mean(dim=1)
        assert 0.35 < float((ink > 0).float().mean()) < 0.55  # some lie mostly outside
        assert float(ink.max()) < 0.5
        one = marks.marked(x, mark)[int(ink.argmax())].flatten(1)
        assert len(one.T.unique(dim=0)) == 2
    assert marks.drawn(draw(400), 3, 0.0, 0.0) == []


def test_an_encoder_is_a_plain_one_where_nothing_of_this_is_asked_for() -> None:
    config = Encoder(name="resnet10t", image_size=32)
    assert (config.pooling, config.head, config.whitening) == (None, None, None)
    assert len(TimmEncoder(config).neck) == 0

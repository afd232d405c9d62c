"""Colorization, split-brain and CMC: what each sees and what it does not, its loss by hand, and what it remembers."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn.functional import normalize

from schemas.encoders import Encoder
from schemas.errors import UserError
from schemas.methods import CMC as CMCConfig
from schemas.methods import Colorization as ColorizationConfig
from schemas.methods import SplitBrain as SplitBrainConfig
from schemas.pipeline import Pipeline
from ssl_tasks.data.draw import Draw
from ssl_tasks.data.lab import grey, halves, lab, rgb
from ssl_tasks.data.views import normalise, pixels
from ssl_tasks.losses.colour import rebalancing
from ssl_tasks.losses.relations import noise_contrastive
from ssl_tasks.methods.contrastive.cmc import CMC
from ssl_tasks.methods.pretext.colorization import Colorization
from ssl_tasks.methods.pretext.split_brain import SplitBrain
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.nn.vit import Features

TINY: dict[str, Any] = {"name": "vit_tiny_patch16_224", "image_size": 16, "patch_size": 4, "width": 32, "depth": 1, "heads": 2}
BATCH, IMAGES = 6, 10


def encoder(**changed: Any) -> TimmEncoder:
    torch.manual_seed(0)
    return TimmEncoder(Encoder(**{**TINY, **changed}))


def colorization(**config: Any) -> Colorization:
    return Colorization(ColorizationConfig(decoder_width=16, **config), encoder()).double()


def cmc(**config: Any) -> CMC:
    return CMC(CMCConfig(**{"output": 8, "negatives": 4, **config}), encoder(), images=IMAGES).double()


def photographs(seed: int = 0, count: int = BATCH) -> Tensor:
    return torch.randint(0, 256, (count, 3, 20, 20), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def draw(seed: int = 0, rows: Tensor | None = None) -> Draw:
    return Draw(torch.Generator().manual_seed(seed), BATCH, rows=rows)


def muted(seed: int = 0) -> Tensor:
    """Normalised images of 4 x 4 even squares, of colours that have a neighbour in every direction of Lab that can be shown."""
    drawn = torch.rand(BATCH, 3, 4, 4, generator=torch.Generator().manual_seed(seed)).double() - 0.5
    drawn = drawn.repeat_interleave(4, 2).repeat_interleave(4, 3)
    return normalise(rgb(torch.tensor([55.0, 0, 0]).double().view(3, 1, 1) + torch.tensor([20.0, 20, 20]).double().view(3, 1, 1) * drawn))


def changed(images: Tensor, *, lightness: float = 0.0, a: float = 0.0) -> Tensor:
    return normalise(rgb(lab(pixels(images)) + torch.tensor([lightness, a, 0]).double().view(3, 1, 1)))


# Colorization


def test_colours_are_told_from_lightness_alone() -> None:
    method, images = colorization().eval(), muted()
    assert method.exported().config.sees == "lightness"  # type: ignore[union-attr]  # of an encoder
    other = changed(images, a=12)
    torch.testing.assert_close(method._logits(other), method._logits(images), rtol=1e-5, atol=1e-5)
    assert (method._logits(changed(images, lightness=8)) - method._logits(images)).abs().max() > 1e-3
    assert (method.told(other)[0][:, 0] != method.told(images)[0][:, 0]).all()  # and are what is to be told


def test_who_tells_every_colour_alike_has_the_loss_of_chance() -> None:
    method = colorization(uniform=1.0)
    last = method.head.layers[-1]
    for p in last.parameters():
        nn.init.zeros_(p)
    assert_allclose(method([muted()], 0.5)["colour"].item(), math.log(261), rtol=1e-6)  # weights are 1 as float32 has it


def test_frequencies_are_those_of_all_images_seen_and_looking_counts_none() -> None:
    method = colorization()
    assert_allclose(method.frequencies, 1 / 261)
    found = []
    for seed in range(3):
        method([muted(seed)], 0.5)
        found.append(method.told(muted(seed))[0][:, 0].numpy())
    method.eval()([muted(9)], 0.5)
    assert_allclose(method.frequencies, np.bincount(np.concatenate(found), minlength=261) / (3 * BATCH * 16), atol=1e-12)
    assert method.batches == 3


def test_the_loss_weighs_by_the_frequencies_with_this_batch() -> None:
    method = colorization()
    loss = method([muted()], 0.5)["colour"].item()
    found, shares = (each.numpy() for each in method.told(muted()))
    told = method._logits(muted()).detach().flatten(2).mT.flatten(0, 1).log_softmax(1).numpy()
    weights = rebalancing(method.frequencies, method.smoothing, 0.5).numpy()
    expected = [-weights[bins[0]] * sum(z * place[q] for q, z in zip(bins, share, strict=True)) for bins, share, place in zip(found, shares, told, strict=True)]
    assert_allclose(loss, np.mean(expected), rtol=1e-9)
    assert weights[found[:, 0]].std() > 0.1


def test_a_picture_has_the_lightness_of_the_image_and_the_colours_that_are_told() -> None:
    method, images = colorization().eval(), muted()
    last: Any = method.head.layers[-1]
    nn.init.zeros_(last.weight)
    wanted = torch.tensor([20.0, -10.0]).double()
    last.bias.data = -0.05 * (method.centres - wanted).square().sum(1)
    seen = lab(method.predicted(images))
    assert_allclose(seen[:, 1].numpy(), 20, atol=0.5)
    assert_allclose(seen[:, 2].numpy(), -10, atol=0.5)
    assert_allclose(seen[:, 0].numpy(), lab(pixels(images))[:, 0].numpy(), atol=0.1)


# Split-brain


def test_neither_half_of_the_brain_sees_what_it_tells() -> None:
    method = SplitBrain(SplitBrainConfig(decoder_width=16), encoder()).double().eval()
    images = muted()

    def told(images: Tensor) -> tuple[Tensor, Tensor]:
        x1, x2 = (method.encoder.tokens(half).patches for half in halves(images))
        return method.colour_head(x1), method.lightness_head(x2)

    (colour, lightness), (colour_a, lightness_a), (colour_l, lightness_l) = map(told, (images, changed(images, a=12), changed(images, lightness=8)))
    torch.testing.assert_close(colour, colour_a, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(lightness, lightness_l, rtol=1e-5, atol=1e-5)
    assert (colour - colour_l).abs().max() > 1e-3
    assert (lightness - lightness_a).abs().max() > 1e-3


def test_both_halves_start_at_chance() -> None:
    method = SplitBrain(SplitBrainConfig(decoder_width=16), encoder()).double()
    for head in (method.colour_head, method.lightness_head):
        for p in head.layers[-1].parameters():
            nn.init.zeros_(p)
    terms = method([muted()], 0.5)
    assert_allclose(terms["colour"].item(), math.log(261), rtol=1e-9)
    assert_allclose(terms["lightness"].item(), 4.60517019, atol=1e-8)


def test_bins_of_a_place_are_those_of_its_mean() -> None:
    method = SplitBrain(SplitBrainConfig(decoder_width=16), encoder()).double()
    colours, levels = method.told(muted())
    means = lab(pixels(muted())).view(BATCH, 3, 4, 4, 4, 4).mean((3, 5)).permute(0, 2, 3, 1).reshape(-1, 3).numpy()
    assert np.array_equal(levels.numpy(), np.floor(means[:, 0]).astype(int))
    assert np.array_equal(method.centres[colours].numpy(), np.rint(means[:, 1:] / 10) * 10)
    white = method.told(normalise(torch.ones(1, 3, 16, 16).double()))[1]
    assert set(white.tolist()) == {99}  # and not one more


# CMC


def nce(logits: np.ndarray[Any, Any]) -> float:
    """-log h of the image itself less the sum of log(1 - h) of negatives; Z is the mean of exp over all that is compared, times the images."""
    scores = np.exp(logits)
    h = scores / (scores.mean() * IMAGES)
    noise = (logits.shape[1] - 1) / IMAGES
    found = np.log(h[:, 0] / (h[:, 0] + noise)) + np.log(noise / (h[:, 1:] + noise)).sum(1)
    return float(-found.mean())


def test_each_half_is_compared_with_the_bank_of_the_other() -> None:
    method = cmc()
    images, rows = method.views(photographs(), draw(rows=torch.tensor([3, 0, 9, 5, 7, 1])))
    terms = method([images.double(), rows], 0.5)
    heads, banks = (method.lightness_head, method.colour_head), (method.colour_bank, method.lightness_bank)
    for name, half, head, bank in zip(("lightness", "colour"), halves(images.double()), heads, banks, strict=True):
        z = normalize(head(method.encoder(half)), dim=1)
        logits = torch.einsum("bd,bkd->bk", z, bank.rows[rows]) / 0.07
        assert_allclose(terms[name].item(), nce(logits.detach().numpy()), rtol=1e-9)


def test_negatives_are_any_images_but_the_own() -> None:
    rows = torch.tensor([3, 0, 9, 5, 7, 1])
    drawn = torch.cat([cmc().views(photographs(), draw(seed, rows))[1] for seed in range(40)])
    assert torch.equal(drawn[:, 0], rows.repeat(40))
    assert not (drawn[:, 1:] == drawn[:, :1]).any()
    for row in rows.tolist():
        assert set(drawn[drawn[:, 0] == row, 1:].flatten().tolist()) == set(range(IMAGES)) - {row}
    assert cmc(negatives=500).views(photographs(), draw())[1].shape == (BATCH, 1 + IMAGES - 1)


def test_banks_move_after_the_step_and_the_normaliser_stays() -> None:
    method = cmc()
    rows = torch.tensor([3, 0, 9, 5, 7, 1])
    images, compared = method.views(photographs(), draw(rows=rows))
    before = method.colour_bank.rows.clone()
    method([images.double(), compared], 0.5)
    assert torch.equal(method.colour_bank.rows, before)
    fixed = method.normalisers.clone()
    assert (fixed > 0).all()
    method.after_step(0.5)
    z = normalize(method.colour_head(method.encoder(halves(images.double())[1])), dim=1)
    torch.testing.assert_close(method.colour_bank.rows[rows], normalize(0.5 * before[rows] + 0.5 * z, dim=1))
    others = [row for row in range(IMAGES) if row not in rows.tolist()]
    assert torch.equal(method.colour_bank.rows[others], before[others])
    method([images.double(), compared], 0.5)
    assert torch.equal(method.normalisers, fixed)


def test_one_embedding_for_all_images_is_worse_than_one_for_each() -> None:
    def loss(z: Tensor) -> float:
        rows = torch.stack([torch.cat([torch.tensor([i]), torch.arange(IMAGES)[torch.arange(IMAGES) != i]]) for i in range(IMAGES)])
        logits = (z @ z.T).gather(1, rows) / 0.07
        return noise_contrastive(logits, IMAGES * logits.exp().mean(), IMAGES).item()

    each = torch.eye(IMAGES).double()
    assert loss(each) < 0.5 * loss(each[:1].expand(IMAGES, -1))


# What is refused


@pytest.mark.parametrize("kind", ["colorization", "split_brain", "cmc"])
def test_grey_images_have_no_colours_to_learn_from(kind: str) -> None:
    stage = {"kind": "pretrain", "dataset": "d", "encoder": {"name": "resnet18", "channels": 1}, "method": kind}
    written = {"datasets": {"d": {"kind": "digits"}}, "stages": {"s": stage}}
    with pytest.raises(ValidationError, match=f"{kind} learns from colours, and encoder.channels 1 reads images without: set it to 3"):
        Pipeline.model_validate(written)


@pytest.mark.parametrize("config", [ColorizationConfig, SplitBrainConfig, CMCConfig])
@pytest.mark.parametrize(
    ("views", "said"), [({"grey": 0.2}, "this method learns from colours: grey must be 0"), ({"count": 2}, "this method looks at one crop")]
)
def test_views_without_colours_or_of_two_crops_are_refused(config: Any, views: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        config(views=views)


def test_an_encoder_without_a_square_grid_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TimmEncoder, "tokens", lambda _, images: Features(images.new_zeros(1, 32), images.new_zeros(1, 15, 32)))
    with pytest.raises(UserError, match=r"^encoder 'vit_tiny_patch16_224' says nothing of places of a square grid"):
        colorization()


def test_grey_pictures_have_grey_halves() -> None:
    images = normalise(grey(pixels(muted())))
    lightness, colour = halves(images)
    torch.testing.assert_close(lightness, images, rtol=1e-6, atol=1e-6)
    assert colour.flatten(2).std(2).max() < 1e-6

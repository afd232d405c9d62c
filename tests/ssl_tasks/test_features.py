"""Frozen features: what an encoder is fed in evaluation, and that they are those of the encoder."""

import numpy as np
import pytest
import torch

from schemas.encoders import Encoder
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.nn.features import features, prepare

IMAGES = np.random.default_rng(0).integers(0, 256, (7, 1, 18, 18), np.uint8)


@pytest.fixture(scope="module")
def encoder() -> TimmEncoder:
    torch.manual_seed(0)
    return TimmEncoder(Encoder(name="resnet10t", image_size=16, channels=1))


def test_an_image_of_256_over_224_of_the_size_is_cropped_and_normalised_only() -> None:
    fed = prepare(torch.from_numpy(IMAGES), 16, [0.5], [0.25])
    assert torch.allclose(fed, (torch.from_numpy(IMAGES)[..., 1:17, 1:17] / 255 - 0.5) / 0.25)


@pytest.mark.parametrize(("side", "resized"), [(8, 16), (16, 16), (17, 17), (18, 18), (36, 18), (64, 18)])
def test_how_much_of_an_image_is_shown_depends_on_its_side(side: int, resized: int) -> None:
    ramp = torch.arange(side, dtype=torch.uint8).mul(3).expand(1, 1, side, side)
    fed = prepare(ramp, 16, [0.0], [1.0])[0, 0, 0] * 255 / 3
    assert fed.shape == (16,)
    step = side / resized
    wanted = (torch.arange(16) + (resized - 16) // 2 + 0.5) * step - 0.5  # where the centres of the 16 cells lie in the image
    inner = slice(3, -3)  # near an edge, interpolation has no further pixels to average
    assert torch.allclose(fed[inner], wanted[inner], atol=0.02)


def test_features_are_those_of_the_encoder_in_eval_mode_whatever_the_batch(encoder: TimmEncoder) -> None:
    encoder.train()
    statistics = {name: value.clone() for name, value in encoder.state_dict().items()}
    whole, parts = (features(encoder, IMAGES, [0.5], [0.5], batch_size=size) for size in (100, 3))
    assert encoder.training
    assert all(torch.equal(value, statistics[name]) for name, value in encoder.state_dict().items())
    with torch.no_grad():
        wanted = encoder.eval()(prepare(torch.from_numpy(IMAGES), 16, [0.5], [0.5])).numpy()
    assert whole.shape == (7, encoder.dim)
    assert whole.dtype == np.float32
    np.testing.assert_array_equal(whole, wanted)
    np.testing.assert_allclose(parts, whole, rtol=1e-4, atol=1e-5)

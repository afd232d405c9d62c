"""BEiT: words are the tokenizer's, of the crop in its own colours; only masked patches are asked for, and no mask lets them through."""

import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from small_methods import BATCH, CASES, tokenizer
from torch import Tensor

from schemas.dvae import DVAE as DVAEConfig
from schemas.encoders import Encoder
from schemas.errors import UserError
from schemas.methods import BEiT as BEiTConfig
from ssl_tasks.data.draw import Draw
from ssl_tasks.methods import build, restored
from ssl_tasks.methods.masked.beit import BEiT
from ssl_tasks.nn.dvae import DVAE
from ssl_tasks.nn.encoder import TimmEncoder

CASE = CASES["beit-vit"]


def made(**fields: Any) -> BEiT:
    torch.manual_seed(0)
    method = build(BEiTConfig(tokenizer="words", **fields), TimmEncoder(CASE.encoder), tokenizer=tokenizer(CASE.encoder))
    assert isinstance(method, BEiT)
    return method


def views(method: BEiT, seed: int = 0) -> list[Tensor]:
    images = torch.randint(0, 256, (BATCH, 1, 18, 18), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    return method.views(images, Draw(torch.Generator().manual_seed(seed), BATCH))


def test_two_fifths_of_each_image_are_masked() -> None:
    assert (views(made())[1].sum(1) == round(0.4 * 16)).all()
    assert (views(made(mask_ratio=0.01))[1].sum(1) == 1).all()
    assert (views(made(mask_ratio=0.99))[1].sum(1) == 15).all()


def test_the_loss_is_the_cross_entropy_at_masked_patches_alone() -> None:
    method = made()
    images, mask, own = views(method)
    logits = method.head(method.encoder.tokens(images, mask, method.mask_token).patches).double()
    words = method.tokenizer.words(own)
    told = logits.softmax(-1).gather(2, words[..., None])[..., 0].log()
    assert method([images, mask, own], 0.5)["cross_entropy"].item() == pytest.approx(-told[mask].mean().item(), rel=1e-5)


def test_an_untrained_encoder_stands_near_ln_of_the_vocabulary() -> None:
    method = made()
    assert method(views(method), 0.5)["cross_entropy"].item() == pytest.approx(math.log(24), rel=0.05)


def test_pixels_of_masked_patches_cannot_reach_what_is_told() -> None:
    method = made().eval()
    images, mask, own = views(method)
    covered = mask.view(BATCH, 1, 4, 4).repeat_interleave(4, 2).repeat_interleave(4, 3)
    spoilt = torch.where(covered, torch.randn_like(images), images)
    assert not torch.equal(spoilt, images)
    assert torch.equal(method.told([spoilt, mask, own])[0], method.told([images, mask, own])[0])
    seen = torch.where(covered, images, torch.randn_like(images))
    assert not torch.equal(method.told([seen, mask, own])[0], method.told([images, mask, own])[0])


def test_words_are_of_the_same_crop_before_its_colours_are_changed() -> None:
    coloured = {"scale": (0.3, 0.6), "jitter": 1.0, "blur": 0.0, "grey": 0.0}
    crop, mask, own = views(made(views={**coloured, "count": 1}))
    plain = views(made(views={**coloured, "count": 1, "jitter": 0.0}))
    assert torch.equal(own, plain[0])  # same box and flip
    assert not torch.equal(crop, own)
    both = torch.stack([crop.flatten(1), own.flatten(1)]).double()
    centred = both - both.mean(-1, keepdim=True)
    likeness = (centred[0] * centred[1]).sum(-1) / centred[0].norm(dim=-1) / centred[1].norm(dim=-1)
    assert likeness.min() > 0.9  # another crop would be nothing alike
    assert plain[0] is plain[2]
    assert (mask.sum(1) == 6).all()


def test_the_tokenizer_is_never_trained() -> None:
    method = made().train()
    before = {name: value.clone() for name, value in method.tokenizer.state_dict().items()}
    trained = [p for p in method.parameters() if p.requires_grad]
    method(views(method), 0.5)["cross_entropy"].backward()
    torch.optim.AdamW(trained, 1e-2).step()
    assert all(torch.equal(value, before[name]) for name, value in method.tokenizer.state_dict().items())


def test_a_method_is_made_whole_again_from_its_state_dict() -> None:
    first = made(mask_ratio=0.5)
    again = restored(first.config.model_dump(mode="json"), TimmEncoder(CASE.encoder), first.state_dict())
    assert isinstance(again, BEiT)
    seen = views(first)
    assert torch.equal(again(seen, 0.5)["cross_entropy"], first(seen, 0.5)["cross_entropy"])


@pytest.mark.parametrize(("key", "value"), [("image_size", 32), ("patch_size", 8), ("channels", 3)])
def test_a_tokenizer_whose_words_are_not_those_of_the_patches_is_refused(key: str, value: int) -> None:
    shape = {"image_size": 16, "patch_size": 4, "channels": 1, key: value}
    other = DVAE(DVAEConfig(**shape, vocabulary=5, dim=4, width=4, depth=1))
    with pytest.raises(
        UserError, match=rf"beit: tokenizer 'words' has {key} {value}, and the encoder's is {({'image_size': 16, 'patch_size': 4, 'channels': 1})[key]}"
    ):
        build(BEiTConfig(tokenizer="words"), TimmEncoder(CASE.encoder), tokenizer=other)


def test_an_image_of_a_single_patch_is_refused() -> None:
    single = Encoder(name="vit_tiny_patch16_224", image_size=4, patch_size=4, width=16, depth=1, heads=2, channels=1)
    with pytest.raises(UserError, match="image_size 4 is a single patch, of which nothing can be masked"):
        build(BEiTConfig(tokenizer="words"), TimmEncoder(single), tokenizer=tokenizer(single))


def test_it_looks_at_one_crop_and_does_not_go_without_a_tokenizer() -> None:
    with pytest.raises(ValidationError, match="this method"):
        BEiTConfig(tokenizer="words", views={"count": 2})  # type: ignore[arg-type]  # as YAML has it
    with pytest.raises(ValidationError, match="tokenizer"):
        BEiTConfig.model_validate({"kind": "beit"})

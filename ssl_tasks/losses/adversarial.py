"""What a discriminator and whom it judges have against each other. Shapes: B images."""

from torch import Tensor
from torch.nn.functional import softplus

from ssl_tasks.losses.precision import full_precision


@full_precision
def discriminator(real_B: Tensor, made_B: Tensor) -> Tensor:
    """Binary cross-entropy of telling what is real from what is made, a mean over images of both kinds' sum; 2 ln 2 where it guesses.

    Equation 1 of https://arxiv.org/abs/1406.2661

    Args:
        real_B: logits of being real, of real images.
        made_B: of images that were made, without gradient to who made them.
    """
    return (softplus(-real_B) + softplus(made_B)).mean()


@full_precision
def generator(made_B: Tensor, detached_B: Tensor) -> Tensor:
    """Binary cross-entropy of being taken for real; its gradient reaches who made the images, and not the discriminator's parameters.

    Section 3 of https://arxiv.org/abs/1406.2661: -log D rather than log(1 - D), which is flat where the discriminator wins. The same images
    without gradient give the discriminator the same gradient: taken away, with a value of 0, it leaves none. So one backward pass trains both.

    Args:
        made_B: logits of images that were made.
        detached_B: those of the same images without gradient to who made them.
    """
    same = softplus(-detached_B).mean()
    return softplus(-made_B).mean() - (same - same.detach())

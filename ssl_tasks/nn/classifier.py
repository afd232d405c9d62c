"""Classifier: an encoder and the layer over its pooled features that says how likely each class is."""

from torch import Tensor, nn

from ssl_tasks.nn.encoder import TimmEncoder


def classifier_head(dim: int, classes: int, hidden: int | None = None) -> nn.Sequential:
    """Logits (B, classes) of features (B, dim): one linear layer, or two with a ReLU between them."""
    layers: list[nn.Module] = [nn.Linear(dim, hidden), nn.ReLU()] if hidden else []
    return nn.Sequential(*layers, nn.Linear(hidden or dim, classes))


class Classifier(nn.Module):
    """An encoder with a head.

    Attributes:
        classes: what the logits stand for, in their order.
    """

    def __init__(self, encoder: TimmEncoder, head: nn.Module, classes: list[str]) -> None:
        super().__init__()
        self.encoder, self.head, self.classes = encoder, head, classes

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, classes) of normalised images (B, C, H, W)."""
        logits: Tensor = self.head(self.encoder(images))
        return logits

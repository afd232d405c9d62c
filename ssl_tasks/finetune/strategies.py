"""Strategies: which parameters of a classifier are trained when, and at which learning rate.

Linear probing and heads: https://arxiv.org/abs/2002.05709, section 4.1. LoRA: see `lora`. LP-FT: Kumar et al., 2022,
https://arxiv.org/abs/2202.10054, section 4. Unfreezing: Howard and Ruder, 2018, https://arxiv.org/abs/1801.06146, sections 3.2 and 3.3:
one layer more at a time, from the top, each with a smaller rate than the one above.

A probe that only turns gradients off still lets batch norms drift: here the encoder is in eval mode too.

Differs from the papers: what is unfrozen at a time is a block of a ViT or a stage of a ConvNet, of which as many as the config says are
trained at all. In each phase of LP-FT and of unfreezing the learning rate warms up and falls anew, instead of ULMFiT's one slanted triangle.
"""

from dataclasses import dataclass, field
from typing import Any, assert_never

from timm.models._manipulate import group_with_matcher

from schemas.errors import UserError
from schemas.finetuning import LPFT, Full, LinearHead, LoRA, MLPHead, Strategy, Unfreezing
from ssl_tasks.finetune.lora import adapt
from ssl_tasks.nn.classifier import Classifier

_ABOVE = "what stands above the last block"
"""Name of a parameter that no network has: timm numbers it behind the last block."""


@dataclass(frozen=True)
class Phase:
    """A part of a training.

    Attributes:
        until: share of the training at which it ends.
        groups: how many groups of parameters are trained, from the head down.
        rate: peak of its learning rate over that of the config.
    """

    until: float
    groups: int
    rate: float = 1.0


@dataclass(frozen=True)
class Plan:
    """What of a classifier is trained when.

    Attributes:
        groups: names of parameters, the head's first; what is in none stays as it is.
        phases: in their order; the last ends with the training.
        rates: factor of each group's learning rate; 1 where empty.
    """

    groups: list[list[str]]
    phases: list[Phase]
    rates: list[float] = field(default_factory=list)


def plan(strategy: Strategy, classifier: Classifier) -> Plan:
    """What a strategy trains of a classifier; for LoRA, its matrices are put into the encoder.

    Raises:
        UserError: where the strategy does not fit the encoder.
    """
    match strategy:
        case LinearHead() | MLPHead():
            return Plan([_head(classifier)], [Phase(1.0, 1)])
        case Full():
            return Plan([_head(classifier) + _encoder(classifier)], [Phase(1.0, 1)])
        case LoRA():
            adapt(classifier.encoder, strategy)
            adapters = [name for name, parameter in classifier.named_parameters() if name.startswith("encoder.") and parameter.requires_grad]
            return Plan([_head(classifier), adapters], [Phase(1.0, 2)], [1.0, strategy.rate])
        case LPFT():
            return Plan([_head(classifier), _encoder(classifier)], [Phase(strategy.probe, 1), Phase(1.0, 2, strategy.rate)])
        case Unfreezing():
            count = strategy.groups + 1
            groups = [_head(classifier), *top_blocks(classifier, strategy.groups)]
            return Plan(groups, [Phase((i + 1) / count, i + 1) for i in range(count)], [strategy.decay**i for i in range(count)])
        case _:
            assert_never(strategy)


def top_blocks(classifier: Classifier, count: int) -> list[list[str]]:
    """Names of the parameters of the encoder's `count` last blocks (of a ConvNet: stages), the last first; what is above it belongs to the last.

    Raises:
        UserError: where there are not so many.
    """
    encoder = classifier.encoder
    backbone: Any = encoder.backbone
    if not hasattr(backbone, "group_matcher"):
        raise UserError(f"strategy unfreezing needs a network whose blocks timm numbers, and '{encoder.config.name}' is none: take lp_ft or full")
    names = [name for name, _ in backbone.named_parameters()]
    numbers: dict[str, int] = group_with_matcher(((name, None) for name in [*names, _ABOVE]), backbone.group_matcher(coarse=True), reverse=True)
    last = numbers[_ABOVE] - 1
    if count > last:
        raise UserError(f"strategy.groups {count} is more than the {last} blocks or stages of '{encoder.config.name}': set it to {last} or less, or take lp_ft")
    groups = [[f"encoder.backbone.{name}" for name in names if min(numbers[name], last) == last - i] for i in range(count)]
    groups[0] += [name for name in _encoder(classifier) if name.startswith("encoder.neck.")]
    return groups


def _head(classifier: Classifier) -> list[str]:
    return [name for name, _ in classifier.named_parameters() if name.startswith("head.")]


def _encoder(classifier: Classifier) -> list[str]:
    return [name for name, _ in classifier.named_parameters() if name.startswith("encoder.")]

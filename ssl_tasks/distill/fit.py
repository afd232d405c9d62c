"""Whether students and teacher are of sizes that distillation is good for. Nothing is refused: each doubt is a line."""

from collections.abc import Iterator, Mapping

from torch import nn

from ssl_tasks.distill.student import Student
from ssl_tasks.nn.encoder import TimmEncoder, parameters

DEEPEST = 5
"""How many times a student's depth the teacher's may be before an assistant is suggested."""

NEGLIGIBLE = 0.01
"""Share of a student's parameters that may stay untrained without a word, such as a norm of pooled features."""


def depth(network: nn.Module) -> int:
    """Number of layers that mix channels: convolutions and linear layers; a block of a ViT has four."""
    return sum(isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear) for module in network.modules())


def doubts(students: Mapping[str, Student], teacher: TimmEncoder) -> Iterator[str]:
    """What speaks against a student that learns from this teacher, a line each.

    - It has more parameters. Tf-KD (Yuan et al., 2020) finds that a student may still gain. https://arxiv.org/abs/1909.11723
    - It is so shallow beside the teacher that it cannot follow it (Mirzadeh et al., 2020). https://arxiv.org/abs/1902.03393
    - Its methods look at inner layers alone, so that what lies behind them is not trained, as in the first stage of FitNets
      (Romero et al., 2015). https://arxiv.org/abs/1412.6550
    - DINOv2's recipe has no stochastic depth for students. https://arxiv.org/abs/2304.07193, section 5
    """
    ours = parameters(teacher)
    for name, student in students.items():
        methods = student.config.methods
        if not any(method.taught for method in methods):
            continue
        encoder = student.network.encoder
        own = parameters(encoder)
        if own > ours:
            yield (
                f"{name} has {own:,} parameters, more than its teacher's {ours:,}: there is nothing to compress, and a small teacher rarely helps "
                "a large student (Tf-KD says it may); compare it with a baseline: alone"
            )
        if depth(teacher) > DEEPEST * depth(encoder):
            yield (
                f"{name} has {depth(encoder)} layers and its teacher {depth(teacher)}, more than {DEEPEST} times as many: an assistant of a depth "
                "between them helps (Mirzadeh et al., 2020): let one distill stage's student be the teacher of the next"
            )
        still = sum(p.numel() for p in encoder.parameters() if not p.requires_grad)
        if still > own * NEGLIGIBLE:
            yield (
                f"{name} learns by inner layers alone, and {still:,} of its {own:,} parameters behind them stay as they begin: add a method that learns "
                "what comes out, such as feature, or let a stage follow whose student has this one as init_from"
            )
        dropped = encoder.config.options.get("drop_path_rate", 0)
        if dropped and any(method.kind == "dinov2" for method in methods):
            yield f"{name} has options.drop_path_rate {dropped}: DINOv2's students are trained without stochastic depth; set it to 0"

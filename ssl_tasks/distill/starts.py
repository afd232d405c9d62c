"""Where a student's first weights come from, where they are not random: a stage's checkpoint, a file, or its teacher's own layers.

Every second block of the teacher: DistilBERT (Sanh, Debut, Chaumond, Wolf, 2019), section 3. https://arxiv.org/abs/1910.01108
"""

import re

import torch

from schemas.encoders import Encoder
from schemas.errors import UserError
from schemas.job import Job
from schemas.stages import Distill
from schemas.students import Student as StudentConfig
from ssl_tasks.checkpoints import load_encoder
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.stage import checkpoint, start_from
from ssl_tasks.weights import State, few, fitted, looks_like

_BLOCK = re.compile(r"^blocks\.(\d+)\.")


def begin(encoder: TimmEncoder, config: StudentConfig, name: str, job: Job) -> str:
    """Give a student's encoder the weights that its `init_from` names; what was done, in a line, which is empty where it starts from random ones.

    Raises:
        UserError: where they are of another network, or the file is missing, damaged or not the one that was planned with.
    """
    if not config.init_from:
        return ""
    if not config.init_from.layers:
        return f"{name} {start_from(encoder, config.init_from, job, f'students.{name}.init_from')}"
    assert isinstance(job.stage, Distill)
    assert job.stage.teacher
    teacher = load_encoder(checkpoint(job, job.stage.teacher))
    return f"{name} {copy_layers(encoder, teacher, config.init_from.layers, f'students.{name}.init_from.layers')}"


def blocks_by(rule: str, teacher: int, student: int) -> list[int]:
    """Numbers of the teacher's blocks that become the student's, by the numbers of blocks of both; too few where the rule has not enough."""
    if student > teacher:
        return list(range(teacher))
    if rule == "every_second":
        return list(range(0, teacher, 2))[:student]
    if rule == "first" or student == 1:
        return list(range(student))
    return [round(i * (teacher - 1) / (student - 1)) for i in range(student)]


@torch.no_grad()
def copy_layers(encoder: TimmEncoder, teacher: TimmEncoder, rule: str, key: str) -> str:
    """Copy a teacher's layers into a student.

    Of a ViT of the same width: blocks by the rule, and patch embedding, positions, tokens and the last norm, resampled where grid or patch are
    of another size. Of a ConvNet: what has the same name and shape. All else stays as it is.

    Returns:
        What was done, in a line.

    Raises:
        UserError: where nothing fits, or the rule has too few blocks.
    """
    own, given = encoder.backbone.state_dict(), teacher.backbone.state_dict()
    source = "the teacher's layers of the same name and shape"
    if encoder.is_vit and teacher.is_vit:
        if encoder.width != teacher.width or _heads(encoder) != _heads(teacher):
            raise _unlike(encoder.config, teacher.config, _described(own, encoder), _described(given, teacher), key)
        chosen = blocks_by(rule, _depth(given), _depth(own))
        if len(chosen) < _depth(own):
            others = "take evenly or first" if _depth(own) <= _depth(given) else "make it less deep"
            raise UserError(f"{key}: {rule} gives {len(chosen)} of the teacher's {_depth(given)} blocks, and the student has {_depth(own)}: {others}")
        given = _renumbered(given, chosen)
        source = f"the teacher's blocks {', '.join(map(str, chosen))} and what is around them"
    taken = _fitting(encoder, given)
    if not any(own[name].ndim > 1 for name in taken) or (encoder.is_vit and not any(map(_BLOCK.match, taken))):
        raise _unlike(encoder.config, teacher.config, _described(own, encoder), _described(given, teacher), key)
    encoder.backbone.load_state_dict({**own, **taken})
    without = few(name for name in own if name not in taken)
    return f"starts from {source}: {len(taken)} of its {len(own)} tensors" + (f", without {without}" if without else "")


def _fitting(encoder: TimmEncoder, given: State) -> State:
    """Of the teacher's tensors those that the student takes: resampled where all of them fit then, else those of the same name and shape."""
    try:
        return fitted(encoder, given, "the teacher")[0]
    except UserError:
        own = encoder.backbone.state_dict()
        return {name: value for name, value in given.items() if name in own and own[name].shape == value.shape}


def _renumbered(state: State, chosen: list[int]) -> State:
    """A ViT's state with the chosen blocks only, numbered anew."""
    kept = {name: value for name, value in state.items() if not _BLOCK.match(name)}
    for new, old in enumerate(chosen):
        kept |= {name.replace(f"blocks.{old}.", f"blocks.{new}.", 1): value for name, value in state.items() if name.startswith(f"blocks.{old}.")}
    return kept


def _depth(state: State) -> int:
    return len({match[1] for name in state if (match := _BLOCK.match(name))})


def _heads(encoder: TimmEncoder) -> int:
    return int(encoder.backbone.get_submodule("blocks.0.attn").num_heads)


def _described(state: State, encoder: TimmEncoder) -> str:
    return looks_like(state) + (f", {_heads(encoder)} heads" if encoder.is_vit else "")


def _unlike(student: Encoder, teacher: Encoder, own: str, given: str, key: str) -> UserError:
    return UserError(
        f"{key}: no layer of the teacher '{teacher.name}' fits '{student.name}': it is {given}, and the student is {own}; "
        "make the widths the same, or leave init_from out"
    )

"""`distilled` on an evaluate stage: students of distill stages, each with its teacher and its baseline, as `models` and `compare`."""

from collections.abc import Mapping
from dataclasses import replace

from schemas.locate import Node
from schemas.references import split
from schemas.stages import Distill, Evaluate, StageBase
from schemas.students import ALONE


def judged(stages: Node, valid: Mapping[str, StageBase]) -> Node:
    """The stages, with `distilled` of each evaluate stage replaced by what it stands for.

    Where it names anything but students of a valid distill stage it stays, and the checks of references say why.

    Args:
        stages: with references in lists spread.
        valid: those that are valid by themselves.
    """
    made = dict(stages.value)
    for name, stage in valid.items():
        if isinstance(stage, Evaluate) and stage.distilled:
            made[name] = _told(made[name], valid)
    return replace(stages, value=made)


def _told(node: Node, valid: Mapping[str, StageBase]) -> Node:
    """An evaluate stage that lists, after what it lists already, each student that `distilled` names, its teacher and its baseline."""
    distilled = node.value["distilled"]
    beside = replace(distilled, value=[])
    models, compare = (node.value.get(key, beside) for key in ("models", "compare"))
    named = {item.value: item for item in models.value}
    compared = {item.value["student"].value for item in compare.value}
    added = []
    for item in distilled.value:
        reference = split(item.value)
        maker = valid.get(reference[0])
        if not isinstance(maker, Distill) or reference[1] not in maker.outputs:
            return node
        trio = {"student": item.value, "teacher": maker.teacher}
        if maker.baseline and reference[1] in maker.students:
            trio["alone"] = item.value + ALONE
        parts = {role: replace(item, value=text) for role, text in trio.items() if text}
        for role in ("teacher", "student", "alone"):
            if role in parts:
                named.setdefault(parts[role].value, parts[role])
        if reference[1] in maker.students and item.value not in compared:
            added.append(replace(item, value=parts))
            compared.add(item.value)
    rest = {key: value for key, value in node.value.items() if key != "distilled"}
    told = {"models": replace(models, value=list(named.values())), "compare": replace(compare, value=[*compare.value, *added])}
    return replace(node, value={**rest, **told})

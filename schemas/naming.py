"""What numbers are called: the name of a protocol in an evaluation, and that of a model whatever its seed."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from schemas.protocols.base import ProtocolSpec


def names(protocols: Sequence[ProtocolSpec]) -> list[str]:
    """A name for each protocol: its kind, and where a kind comes twice also the fields in which they differ, `knn_k5`."""

    def name(protocol: ProtocolSpec) -> str:
        twins = [p.model_dump(mode="json") for p in protocols if p.kind == protocol.kind]
        own = protocol.model_dump(mode="json")
        return "_".join([protocol.kind, *(f"{f}{_told(own[f])}" for f in own if f != "kind" and any(t[f] != own[f] for t in twins))])

    return [name(p) for p in protocols]


def _told(value: Any) -> str:
    """A setting as a part of a name: `5`, `0.07`, `mask-folder`."""
    if isinstance(value, Mapping):
        value = value.get("kind", "")
    text = f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
    return re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-")


def group(model: str) -> str:
    """What a model is called whatever its seed: `students[epochs=5,seed=0].small` is of `students[epochs=5].small`.

    Other values of a matrix stay: they are other models, not the same once more.
    """

    def without(found: re.Match[str]) -> str:
        kept = ",".join(value for value in found[1].split(",") if not re.match(r"(\w+\.)*seed=", value))
        return f"[{kept}]" if kept else ""

    return re.sub(r"\[([^\[\]]*)\]", without, model)

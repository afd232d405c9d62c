"""Which networks touched a checkpoint on its way, and what is known of their licences."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from schemas.artifacts import Artifact, Checkpoint
from schemas.errors import UserError
from ssl_tasks.lineage import Link

UNSTATED = "not stated"
EXTERNAL = "unknown: weights from outside"


@dataclass(frozen=True)
class Touch:
    """One network that another one, or the choice of its images, comes from.

    Attributes:
        name: of its stage, or of the file with its weights.
        role: what it was for whom.
        sha256: of a file; empty where what was made from it was made before this was kept, None of a stage.
    """

    name: str
    role: str
    licence: str
    sha256: str | None = None


def touches(links: Sequence[Link], licences: Mapping[str, str]) -> list[Touch]:
    """Of a chain that begins with a checkpoint: every other checkpoint in it, and every file of weights, by what it was for.

    An artifact that is no longer there is named all the same, as those that it was made into still state it.

    Args:
        licences: what is known of them, by name.

    Raises:
        UserError: where a licence is of nothing in the chain.
    """
    found = {link.key: link for link in links}
    artifacts = [link.artifact for link in links if link.artifact]
    named = list(dict.fromkeys(touch for artifact in artifacts for touch in (*_parents(artifact, found), *_files(artifact))))
    if foreign := [name for name in licences if name not in {touch.name for touch in named}]:
        there = ", ".join(touch.name for touch in named) or "nothing else"
        raise UserError(f"licences: '{foreign[0]}' is not behind these weights; there are {there}")
    return [replace(touch, licence=licences.get(touch.name, touch.licence)) for touch in named]


def _parents(artifact: Artifact, found: Mapping[str, Link]) -> Iterator[Touch]:
    for text, key in artifact.parents.items():
        parent = found[key].artifact if key in found else None
        if isinstance(parent, Checkpoint):
            yield Touch(parent.stage, _role(artifact, text), UNSTATED)
        elif parent is None and text not in artifact.manifests and text != artifact.config.get("dataset"):
            yield Touch(text, f"{_role(artifact, text)}; no longer there", UNSTATED)


def _role(artifact: Artifact, text: str) -> str:
    config = artifact.config
    if text == config.get("teacher"):
        return f"teacher of {artifact.stage}"
    if artifact.type == "Dataset":
        return f"embeds images for {artifact.stage}"
    return f"{artifact.stage} starts from it"


def _files(artifact: Artifact) -> Iterator[Touch]:
    for key, file in _named_files(artifact.config):
        role = f"{artifact.stage} starts from it" if key == "init_from" else f"embeds images for {artifact.stage}"
        yield Touch(file, role, EXTERNAL, artifact.weights.get(file, ""))


def _named_files(config: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Files of weights that a config names, each with the key that it stands under."""
    if isinstance(config, Mapping):
        if key in ("init_from", "embedding") and config.get("file"):
            yield key, str(config["file"])
        for name, value in config.items():
            yield from _named_files(value, name)
    elif isinstance(config, list):
        for value in config:
            yield from _named_files(value, key)

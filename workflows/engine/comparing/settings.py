"""Settings of several runs side by side: keys of their stages, the images behind them, and what is known of code and machine."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from schemas.artifacts import Artifact, Dataset
from schemas.references import split
from workflows.engine.reuse import flatten

_SHORT = 12


@dataclass(frozen=True)
class Setting:
    """A key that is not the same in all runs; None where a run has no such key."""

    key: str
    values: list[Any]


def settings(runs: Sequence[Mapping[str, Any]], made: Sequence[Mapping[str, Artifact]]) -> Iterator[Setting]:
    """Keys of stages, their images, and what is known of code and machine, where they differ; of a stage that a run lacks one key."""
    stated = [_stated(artifacts) for artifacts in made]
    for stage in dict.fromkeys(name for stages in stated for name in stages):
        sides = [stages.get(stage) for stages in stated]
        if None in sides:
            yield Setting(stage, [side and side.get("kind") for side in sides])
            continue
        for key in dict.fromkeys(key for side in sides if side for key in side):
            values = [side.get(key) for side in sides if side is not None]
            if any(value != values[0] for value in values):
                yield Setting(f"{stage}.{key}", values)
    facts = [run.get("environment", {}) for run in runs]
    for name in dict.fromkeys(name for each in facts for name in each):
        if len({each.get(name) for each in facts}) > 1:
            yield Setting(f"environment.{name}", [each.get(name) for each in facts])


def _stated(artifacts: Mapping[str, Artifact]) -> dict[str, dict[str, Any]]:
    """Of each stage its config by dotted key, over all its outputs; of data the manifest and the version."""
    found: dict[str, dict[str, Any]] = {}
    for reference, artifact in artifacts.items():
        own = found.setdefault(split(reference)[0], {})
        for key, value in flatten(_by_kind(artifact.config)):
            if own.get(key) is None:
                own[key] = value
        if isinstance(artifact, Dataset):
            own |= {"manifest": artifact.manifest[:_SHORT], "data_version": artifact.data_version or None}
    return found


def _by_kind(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config whose protocols are told by their kinds where each comes once: one that is left out must not make those after it look changed."""
    listed = config.get("protocols") or []
    kinds = [protocol["kind"] for protocol in listed]
    return {**config, "protocols": dict(zip(kinds, listed, strict=True))} if kinds and len(set(kinds)) == len(kinds) else dict(config)

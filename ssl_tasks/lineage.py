"""Where an artifact comes from: the chain of stages behind it, read from their `artifact.json` files alone."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas.artifacts import MANIFEST, Artifact, Dataset, read

HIDDEN = ("embedding", "index", "max_aspect", "max_pixels", "min_contrast")
"""Fields of curation steps that seldom tell one from another."""


@dataclass(frozen=True)
class Link:
    """One stage's output in the chain.

    Attributes:
        takes: names of the links that it was made from.
        summary: its config in a line.
        commit: git commit of the code that made it; empty where it is not known.
    """

    name: str
    kind: str
    key: str
    takes: list[str]
    summary: str
    commit: str
    data_version: str
    artifact: Artifact | None = None


def behind(keys: Mapping[str, str], folder: Callable[[str], Path]) -> list[Link]:
    """Everything that was made on the way to some artifacts, these first, and each link before those that it takes from.

    An artifact whose folder is not there ends the chain.

    Args:
        keys: of the artifacts.
        folder: where the one with a key lies.
    """
    found: dict[str, Artifact] = {}

    def visit(keys: Mapping[str, str]) -> None:
        for key in keys.values():
            if key not in found and (folder(key) / MANIFEST).exists():
                found[key] = read(folder(key))
                visit(found[key].parents)

    visit(keys)
    return [_link(found[key], found) for key in _order(keys, found)]


def summary(config: Mapping[str, Any]) -> str:
    """A stage's config in a line: what a reader needs to tell it from another."""
    match config["kind"]:
        case "ingest":
            return _call(config["source"])
        case "curate":
            return " → ".join(_call(step, hide=HIDDEN) for step in config["steps"])
        case "tokenizer":
            shape = config["network"]
            return f"{shape['vocabulary']:,} words of {shape['patch_size']} px at {shape['image_size']} px; {_budget(config)}"
        case "pretrain":
            return f"{config['method']['kind']}; {encoder(config['encoder'])}; {_budget(config)}"
        case "distill":
            return "; ".join(_student(config, student) for student in config["students"].values())
        case "finetune":
            start = config["checkpoint"] or encoder(config["encoder"])
            return f"{config['strategy']['kind']} of {start}, {config['labels']:.0%} of the labels; {_budget(config)}"
        case "whiten":
            kept = f", {config['dim']} components" if config["dim"] else ""
            return f"{config['checkpoint']} on {config['dataset']}{kept}, at most {config['sample']:,} images"
        case "export":
            return f"{config['checkpoint']} as {', '.join(config['formats'])}"
        case "evaluate":
            return f"{', '.join(p['kind'] for p in config['protocols'])} on {config['dataset']}, seed {config['seed']}"
        case kind:
            return str(kind)


def encoder(config: Mapping[str, Any]) -> str:
    """An encoder in words: name, size, and what is not the model's own."""
    parts = [f"{config['name']} {config['image_size']} px"]
    parts += [f"{name} {config[name]}" for name in ("depth", "width", "pooling", "head") if config.get(name)]
    parts += [f"{name.replace('_', ' ')} {_plain(value)}" for name, value in config.get("options", {}).items()]
    return ", ".join(parts)


def _budget(config: Mapping[str, Any]) -> str:
    train = config["train"]
    return f"{train['epochs']:g} epochs, batch {train['batch_size']}, seed {config['seed']}"


def _student(config: Mapping[str, Any], student: Mapping[str, Any]) -> str:
    methods = student["method"] if isinstance(student["method"], list) else [student["method"]]
    taught = f" from {config['teacher']}" if config["teacher"] else ""
    alone = "alone, beside " if config["baseline"] else ""
    return f"{alone}{' + '.join(m['kind'] for m in methods)}{taught}; {encoder(student)}; {_budget({**config, **student})}"


def _call(step: Mapping[str, Any], hide: tuple[str, ...] = ()) -> str:
    given = ", ".join(f"{k.replace('_', ' ')} {_plain(v)}" for k, v in step.items() if v is not None and k not in ("kind", *hide))
    return f"{step['kind']} ({given})" if given else str(step["kind"])


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{name} {_plain(v)}" for name, v in value.items() if v is not None)
    if isinstance(value, list | tuple):
        return "-".join(map(_plain, value))
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _link(artifact: Artifact, found: Mapping[str, Artifact]) -> Link:
    takes = [found[key].stage for key in dict.fromkeys(artifact.parents.values()) if key in found]
    said = summary(artifact.config)
    if isinstance(artifact, Dataset):
        said += f"; {artifact.kept:,} train images kept of {artifact.rows:,} images listed; manifest {artifact.manifest[:12]}"
    commit = artifact.environment.get("git_commit", "")
    return Link(artifact.stage, artifact.kind, artifact.key, takes, said, commit, artifact.data_version, artifact)


def _order(keys: Mapping[str, str], found: Mapping[str, Artifact]) -> list[str]:
    """Keys so that a link comes before its parents: by the longest way from the first."""
    depth = dict.fromkeys(found, 0)

    def sink(keys: Mapping[str, str], level: int) -> None:
        for key in keys.values():
            if key in found:
                depth[key] = max(depth[key], level)
                sink(found[key].parents, level + 1)

    sink(keys, 1)
    return sorted(found, key=lambda key: depth[key])

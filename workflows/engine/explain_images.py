"""What `show --image` and `show --against` print: why one image is in or out, and what differs between two datasets."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from schemas.artifacts import Artifact, Dataset, read
from schemas.errors import UserError
from schemas.job import ARTIFACTS
from ssl_tasks.data.changes import changes
from ssl_tasks.data.provenance import Fate, Image, Listing, fate, find
from workflows.engine import lineage
from workflows.engine.display import console
from workflows.engine.reuse import flatten

_EXAMPLES = 3
_REASONS = 10


def listing(workspace: Path, name: str) -> Listing:
    """The manifest that `name` stands for: of a Dataset, as `lineage.find` finds it, or a Parquet file, such as one that DVC pulled.

    Raises:
        UserError: where it stands for none.
    """
    if name.endswith(".parquet"):
        path = next((p for p in (Path(name), workspace / name) if p.is_file()), None)
        if path is None:
            raise UserError(f"no file {name}; where DVC has a version of it, get it with `dvc pull {name}.dvc`")
        return Listing(name, path)
    artifact = _artifact(workspace, name)
    if not isinstance(artifact, Dataset):
        known = ", ".join(f"{dataset.stage} ({dataset.key})" for dataset, _ in _behind(workspace, artifact))
        raise UserError(f"'{name}' is a {artifact.type}; images are listed in Datasets, here: {known or 'none that is still there'}")
    return _listed(workspace, artifact)


def fates(workspace: Path, name: str, image: str) -> list[tuple[Fate, str]]:
    """What became of an image in a Dataset, or in each that a Checkpoint or Report comes from; and what each was used for.

    Raises:
        UserError: where none of them lists it.
    """
    if name.endswith(".parquet"):
        asked = [(listing(workspace, name), "")]
    else:
        artifact = _artifact(workspace, name)
        behind = [(artifact, "")] if isinstance(artifact, Dataset) else _behind(workspace, artifact)
        asked = [(_listed(workspace, each), use) for each, use in behind]
    told: list[tuple[Fate, str]] = []
    missing: list[UserError] = []
    for each, use in asked:
        try:  # an id is of one pool: in further ones the image is looked for by its uri
            told.append((fate(each, find(each, told[0][0].row["uri"] if told else image)), use))
        except UserError as error:
            missing.append(error)
    if not told:
        raise missing[0] if missing else UserError(f"no Dataset that '{name}' comes from is there any more")
    return told


def _artifact(workspace: Path, name: str) -> Artifact:
    found = lineage.find(workspace, name)
    if isinstance(found, dict):
        stages = [stage for stage, each in found["stages"].items() if each.get("kind") in ("ingest", "curate")]
        raise UserError(f"'{name}' is a run; name one of its stages, such as {found['id']}/{stages[-1] if stages else 'STAGE'}")
    return found


def _listed(workspace: Path, dataset: Dataset) -> Listing:
    return Listing(dataset.stage, dataset.path("manifest.parquet"), tuple(_made(workspace, dataset)))


def _made(workspace: Path, dataset: Dataset) -> Iterator[Dataset]:
    """The Dataset, the one that it was curated from, and so on down to the raw pool."""
    yield dataset
    folder = workspace / ARTIFACTS / dataset.parents.get(dataset.config.get("dataset", ""), "gone")
    if (folder / "artifact.json").exists():
        earlier = read(folder)
        assert isinstance(earlier, Dataset)
        yield from _made(workspace, earlier)


def _behind(workspace: Path, artifact: Artifact) -> list[tuple[Dataset, str]]:
    """The Datasets that a Checkpoint or Report, or a model that it comes from, was made on, each with what for."""
    found: dict[str, tuple[Dataset, list[str]]] = {}
    for _, link in lineage.chain(workspace, artifact):
        if not isinstance(link, Dataset) and link.config.get("dataset") in link.parents:
            folder = workspace / ARTIFACTS / link.parents[link.config["dataset"]]
            if (folder / "artifact.json").exists() and isinstance(dataset := read(folder), Dataset):
                found.setdefault(dataset.key, (dataset, []))[1].append(f"{link.stage} was {'evaluated' if link.type == 'Report' else 'trained'} on it")
    return [(dataset, ", ".join(uses)) for dataset, uses in found.values()]


def verdict(told: Fate) -> str:
    """In or out, and why, in one line."""
    row = told.row
    if row["kept"]:
        if row["split"] != "train":
            return f"in: it is of the split {row['split']}, never trained on"
        return "in: " + (f"kept by each of {_counted(len(told.steps), 'step')}" if told.steps else "no step was taken yet")
    reason = row["why"].partition(": ")[2] or "it gave no reason"
    by = _spaced(told.removed_by) or row["why"].partition(":")[0] or "a step"
    of = " of " if reason.endswith("duplicate") else ": "
    return f"out: {by} removed it: {reason}" + (of + _short(told.instead) if told.instead else "")


def _short(image: Image) -> str:
    where = f"image {image.id}, {image.uri}"
    if image.kept:
        return f"{where}, which is in"
    return f"{where}, which {_spaced(image.removed_by) or 'a step'} removed in turn"


def _spaced(step: str) -> str:
    return f"step {' '.join(step.split('_', 1))}" if step else ""


def image_json(told: list[tuple[Fate, str]]) -> list[dict[str, Any]]:
    """One entry a Dataset."""
    return [{"verdict": verdict(each), "used": use, **asdict(each)} for each, use in told]


def print_image(told: list[tuple[Fate, str]]) -> None:
    """The verdict first, then what each step said, the file, and what has to do with it."""
    for each, use in told:
        row = each.row
        _say(verdict(each))
        _say(f"  {' '.join(filter(None, (each.dataset, each.key)))}: image {row['id']}, {row['uri']}" + (f" ({use})" if use else ""))
        width = max((len(said.step) for said in each.steps), default=0)
        for said in each.steps:
            noted = [said.limits.get(name) or f"{name.replace('_', ' ')} {_plain(value)}" for name, value in said.saw.items()]
            _say(f"  {said.step:{width}}  {said.verdict}{': ' if noted else ''}{', '.join(noted)}")
        size = f"{row['width']} x {row['height']} {row['mode'] or ''}".strip() if row["width"] else "of unknown size"
        label = f", label {row['label']}" if row["label"] is not None else ""
        _say(f"  file: {row['bytes']:,} bytes, {size}, sha256 {row['sha256'][:16]}{label}, split {row['split']}")
        if each.cluster_mates:
            _say(f"  cluster {row['cluster']}: {_counted(each.cluster_mates[0], 'other image')}, {each.cluster_mates[1]:,} of them in")
        if each.stands_for:
            more = f" and {each.stands_for - len(each.went):,} more" if each.stands_for > len(each.went) else ""
            _say(f"  {_counted(each.stands_for, 'image')} went because of it: {', '.join(f'{other.id} ({other.uri})' for other in each.went)}{more}")
        for leak in each.leaks:
            _say(f"  {_leak(row, leak)}")


def _leak(row: dict[str, Any], leak: dict[str, Any]) -> str:
    how = f"cosine {leak['similarity']:.3f}, {'dropped' if leak['dropped'] else 'flagged, still trained on'}"
    if leak["train_id"] == row["id"]:
        return f"leak: near duplicate of image {leak['eval_id']} of {leak['set_name']}, split {leak['split']} ({how})"
    return f"leak: train image {leak['train_id']} is a near duplicate of it ({how})"


def _counted(count: int, word: str) -> str:
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def _plain(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def difference(workspace: Path, name: str, other: str) -> dict[str, Any]:
    """What `name` has that `other` had not, and the other way round: images, configs and data."""
    now, before = listing(workspace, name), listing(workspace, other)
    found = changes(now, before)
    return {
        "now": {"name": now.name, "key": now.made[0].key if now.made else ""},
        "before": {"name": before.name, "key": before.made[0].key if before.made else ""},
        "same": found.none,
        **asdict(found),
        "config": list(_config_changes(now, before)),
    }


def _config_changes(now: Listing, before: Listing) -> Iterator[str]:
    """What differs in the config of each stage from the raw pool on, and in the data behind it."""
    pairs = list(zip(reversed(now.made), reversed(before.made), strict=False))
    for new, old in pairs:
        is_, was = (dict(flatten({k: v for k, v in each.config.items() if k != "dataset"})) for each in (new, old))
        for path in dict.fromkeys((*was, *is_)):
            if is_.get(path) != was.get(path):
                yield f"{new.stage}.{path}: {was.get(path, 'unset')} -> {is_.get(path, 'unset')}"
        if new.data_version != old.data_version:
            yield f"{new.stage}: data.version {old.data_version or 'unknown'} -> {new.data_version or 'unknown'}"
    for made, which in ((now.made, "only now"), (before.made, "only before")) if pairs else ():
        for further in list(reversed(made))[len(pairs) :]:
            yield f"{further.stage}: {which}, {', '.join(step['kind'] for step in further.config.get('steps', [])) or further.kind}"


def print_difference(told: dict[str, Any]) -> None:
    """Counts first, then the reasons with examples, then what differs in the config."""
    now, before = (f"{told[side]['name']} {told[side]['key']}".strip() for side in ("now", "before"))
    _say(f"{now} against {before}: {told['kept'][0]:,} -> {told['kept'][1]:,} images in" + (", the same ones" if told["same"] else ""))
    for field in ("added", "dropped", "changed", "renamed", "resplit"):
        groups: list[dict[str, Any]] = told[field]
        if groups:
            _say(f"{field}: {sum(group['count'] for group in groups):,}")
        for group in groups[:_REASONS]:
            some = group["examples"][:_EXAMPLES]
            _say(f"  {group['count']:,}  {group['reason']}, {'such as ' if group['count'] > len(some) else ''}{', '.join(some)}")
        if len(groups) > _REASONS:
            _say(f"  {sum(group['count'] for group in groups[_REASONS:]):,}  for {len(groups) - _REASONS} further reasons")
    for line in told["config"]:
        _say(f"config: {line}")


def _say(line: str) -> None:
    console().print(line, highlight=False, markup=False, soft_wrap=True)

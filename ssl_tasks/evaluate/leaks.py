"""Whether models were trained on near duplicates of the images that they are judged on, as far as their datasets' records, or hashes, tell."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from schemas.artifacts import Artifact, Checkpoint, Dataset, Tokenizer, read
from schemas.job import Job
from ssl_tasks.data import leaks, manifest
from ssl_tasks.evaluate.alike import Alike
from ssl_tasks.evaluate.wording import enumerated


@dataclass(frozen=True)
class Leak:
    """What leaks into one model, from all training in its chain: its own, its teacher's, and that of what it continues.

    Attributes:
        train_images: kept train images that are near duplicates, by a `leakage` step, or equal files of evaluated images.
        evaluated_images: evaluated images that these are like.
        equal_files: of `train_images`, those that are equal files; told with or without a `leakage` step.
        unchecked: evaluated images that some training dataset was not compared with.
        datasets: names of the training datasets.
        lax: those of them for which images are unchecked.
        by_hash: of `train_images`, those that only their perceptual hash tells; 0 unless the evaluation asks for it.
    """

    train_images: int
    evaluated_images: int
    equal_files: int
    unchecked: int
    of: int
    datasets: tuple[str, ...]
    lax: tuple[str, ...]
    by_hash: int = 0


def found(job: Job, models: Mapping[str, Checkpoint], evaluated: NDArray[np.object_], near: Alike | None = None) -> dict[str, Leak]:
    """Of each model what leaks into it.

    Args:
        evaluated: (Q,), sha256 of the files of the images that models are judged on.
        near: finds near duplicates besides those that are recorded.

    Raises:
        UserError: where a manifest or a record of leaks is damaged.
    """
    seen: dict[str, _Seen] = {}

    def of(model: Checkpoint) -> Leak:
        datasets = {d.key: d for d in trained_on(job, model)}
        for key, dataset in datasets.items():
            if key not in seen:
                seen[key] = _Seen.of(dataset, evaluated, near)
        each = [seen[key] for key in datasets]
        touched = np.logical_or.reduce([s.touched for s in each], initial=False) if each else np.zeros(len(evaluated), bool)
        unchecked = np.logical_or.reduce([~s.checked for s in each]) if each else np.zeros(len(evaluated), bool)
        return Leak(
            len(frozenset().union(*(s.train for s in each))), int(touched.sum()), len(frozenset().union(*(s.equal for s in each))),
            int(unchecked.sum()), len(evaluated), tuple(d.stage for d in datasets.values()),
            tuple(d.stage for d, s in zip(datasets.values(), each, strict=True) if not s.checked.all()),
            len(frozenset().union(*(s.by_hash for s in each))),
        )  # fmt: skip

    return {name: of(model) for name, model in models.items()}


def among_labels(dataset: Dataset, evaluated: NDArray[np.object_], near: Alike | None = None) -> dict[str, int]:
    """Of the labelled train images that protocols compare with, how many are known to be like evaluated ones, and like how many."""
    seen = _Seen.of(dataset, evaluated, near)
    return {"train_images": len(seen.train), "evaluated_images": int(seen.touched.sum()), "of": len(evaluated)}


def as_json(leaks: Mapping[str, Leak]) -> dict[str, dict[str, object]]:
    """What stands in `results.json`."""
    return {name: asdict(leak) for name, leak in leaks.items()}


@dataclass(frozen=True)
class _Seen:
    """One training dataset: files of its train images that leak, of which are equal or told by hash alone; of each test image if it is touched, checked."""

    train: frozenset[str]
    equal: frozenset[str]
    touched: NDArray[np.bool_]
    checked: NDArray[np.bool_]
    by_hash: frozenset[str] = frozenset()

    @staticmethod
    def of(dataset: Dataset, evaluated: NDArray[np.object_], near: Alike | None) -> "_Seen":
        train = manifest.kept(manifest.read(dataset))
        files = manifest.column(train, "sha256")
        pairs = leaks.read(dataset, leaks.PAIRS)
        of = manifest.column(pairs, "eval_sha256")
        kept = np.isin(pairs["train_id"].to_numpy(), train["id"].to_numpy()) & manifest.among(of, evaluated)
        equal = frozenset(files[manifest.among(files, evaluated)].tolist())
        checked = manifest.among(evaluated, manifest.column(leaks.read(dataset, leaks.CHECKED), "eval_sha256"))
        leaking = equal | frozenset(manifest.column(pairs, "train_sha256")[kept].tolist())
        touched = manifest.among(evaluated, of[kept]) | manifest.among(evaluated, files)
        if near is None or not len(evaluated):
            return _Seen(leaking, equal, touched, checked)
        trains, tests, all_of_them = near.of(train)
        by_hash = frozenset(files[trains].tolist()) - leaking
        return _Seen(leaking | by_hash, equal, touched | tests, checked | all_of_them, by_hash)


def trained_on(job: Job, model: Artifact) -> list[Dataset]:
    """The datasets that a model, or a model or tokenizer that it was made from, was trained on."""
    parents = [read(job.folder(key)) for key in dict.fromkeys(model.parents.values())]
    own = [parent for parent in parents if isinstance(parent, Dataset)]
    return [*own, *(dataset for parent in parents if isinstance(parent, Checkpoint | Tokenizer) for dataset in trained_on(job, parent))]


def warnings(leaks: Mapping[str, Leak]) -> list[str]:
    """A line for models that leak, those alike in one."""
    lines = []
    for leak, names in _grouped({name: leak for name, leak in leaks.items() if leak.train_images}):
        was, they, their = ("was", "it is", "its") if len(names) == 1 else ("were", "they are", "their")
        what = "byte-equal cop" + ("y" if leak.train_images == 1 else "ies") if leak.equal_files == leak.train_images else "near duplicates"
        share = f"{leak.evaluated_images:,} of the {leak.of:,} images that {they} tested on"
        lines.append(f"{enumerated(names)} {was} trained on {leak.train_images:,} {what} of {share}: {their} numbers are inflated.")
    return lines


def label_warnings(dataset: str, leak: Mapping[str, int]) -> list[str]:
    """A line where the labelled images leak, whatever the models were trained on."""
    if not leak["train_images"]:
        return []
    share = f"{leak['evaluated_images']:,} of the {leak['of']:,} test images"
    return [f"The labelled images of {dataset} hold {leak['train_images']:,} near duplicates or copies of {share}: all numbers here are inflated."]


def remarks(leaks: Mapping[str, Leak]) -> list[str]:
    """What else a reader should know: which models were not checked, and which are clean."""
    lines = []
    for leak, names in _grouped({name: leak for name, leak in leaks.items() if leak.unchecked}):
        some = "not checked" if leak.unchecked == leak.of else f"{leak.unchecked:,} of the {leak.of:,} test images not checked"
        lines.append(f"{enumerated(names)}: {some} for leaks; add the step `leakage` to what makes {enumerated(leak.lax)}.")
    clean = [name for name, leak in leaks.items() if leak.datasets and leak.of and not leak.unchecked and not leak.train_images]
    if clean:
        lines.append(f"Checked for leaks: no near duplicate of a test image is among the train images of {enumerated(clean)}.")
    return lines


def _grouped(leaks: Mapping[str, Leak]) -> list[tuple[Leak, list[str]]]:
    groups: dict[Leak, list[str]] = {}
    for name, leak in leaks.items():
        groups.setdefault(leak, []).append(name)
    return list(groups.items())

"""The model card: one page of Markdown that goes with the files. https://arxiv.org/abs/1810.03993"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from schemas.artifacts import Dataset, Report
from schemas.errors import UserError
from schemas.exports import Registered
from ssl_tasks.export.formats import CHECKS, TOLERANCE, Outcome
from ssl_tasks.export.loading import loading, preparation, registered
from ssl_tasks.export.original import Original
from ssl_tasks.export.origins import touches
from ssl_tasks.lineage import Link, encoder
from ssl_tasks.nn.encoder import parameters

FILE = "README.md"
_COMMIT = 12


@dataclass(frozen=True)
class Background:
    """What is to be said of a checkpoint besides what it is.

    Attributes:
        links: the checkpoint, then everything that it was made from.
        rows: of reports, see `measured`.
        licence: of the exported weights; empty where none is stated.
        licences: of what they come from, by the names of stages and files; what is not among them is not stated.
    """

    links: Sequence[Link]
    rows: Sequence[dict[str, Any]] = ()
    licence: str = ""
    licences: Mapping[str, str] = field(default_factory=dict)
    registry: Registered | None = field(default=None)


def measured(reports: Iterable[Report], key: str, stage: str) -> list[dict[str, Any]]:
    """The rows of reports that are of the checkpoint with `key`, each with its report.

    Raises:
        UserError: where a report did not judge it.
    """
    found = []
    for report in reports:
        names = {text for text, taken in report.parents.items() if taken == key}
        rows = [row for row in json.loads(report.path("results.json").read_text())["rows"] if row["model"] in names]
        if not rows:
            raise UserError(f"report '{report.stage}' did not judge '{stage}': name it in that stage's models, or leave the report out of `reports`")
        found += [{**row, "report": f"{report.stage} ({report.key})"} for row in rows]
    return found


def card(original: Original, outcome: Outcome, background: Background) -> str:
    """The page."""
    parts = (_head, _about, _files, _preparation, _numbers, _use, _origin, _licences)
    text = "\n".join(line for part in parts for line in part(original, outcome, background)) + "\n"
    return re.sub(r"\n{3,}", "\n\n", text)


def _head(original: Original, _outcome: Outcome, background: Background) -> Iterator[str]:
    """What a model hub reads."""
    licence = background.licence
    known = {"license": licence} if re.fullmatch(r"[a-z0-9.-]+", licence) else {"license": "other", "license_name": json.dumps(licence or "not stated")}
    tag = "image-classification" if original.head else "image-feature-extraction"
    yield from ("---", *(f"{name}: {value}" for name, value in known.items()), f"pipeline_tag: {tag}", "library_name: timm", "---")


def _about(original: Original, _outcome: Outcome, _background: Background) -> Iterator[str]:
    artifact = original.artifact
    what = "A classifier" if original.head else "An encoder"
    yield f"# {artifact.stage}\n"
    yield f"{what}: {encoder(artifact.encoder.model_dump(mode='json'))}. {artifact.exported[:1].upper()}{artifact.exported[1:]} of stage `{artifact.stage}`.\n"
    yield f"- {parameters(original):,} parameters"
    yield f"- takes: {_channels(artifact.encoder.channels)} images of {artifact.encoder.image_size} x {artifact.encoder.image_size} pixels"
    yield f"- gives: {', '.join(f'`{name}`' for name in original.outputs)}; a feature vector has {artifact.dim} numbers"
    if artifact.classes:
        yield f"- classes: {', '.join(artifact.classes)}"


def _channels(count: int) -> str:
    return {1: "grey", 3: "RGB"}.get(count, f"{count}-channel")


def _files(_original: Original, outcome: Outcome, _background: Background) -> Iterator[str]:
    yield "\n## Files\n"
    yield (
        f"Each was loaded in its own runtime and compared with the original before it was handed out (`{CHECKS}`); "
        f"a difference of {TOLERANCE:g} of the largest value is allowed.\n"
    )
    yield "| format | checked in | images | largest difference | over the largest value |\n|---|---|---|---|---|"
    for name, made in outcome.made.items():
        sizes = ", ".join(f"{height}x{width}" for height, width in made.sizes)
        yield f"| `{name}` | {made.runtime} | {sizes}{' only' if made.fixed else ''} | {made.worst.absolute:.2g} | {made.worst.relative:.2g} |"
    yield ""
    yield from (f"- `{name}` takes images of one size alone, in batches of any number: {made.fixed}" for name, made in outcome.made.items() if made.fixed)
    yield from (f"- `{name}` was not made: {reason}" for name, reason in outcome.refused.items())


def _preparation(original: Original, _outcome: Outcome, _background: Background) -> Iterator[str]:
    artifact = original.artifact
    size = artifact.encoder.image_size
    yield "\n## Preprocessing\n"
    yield (
        f"The shorter side is resized to {round(size * 256 / 224)} pixels (bilinear, antialiased), the middle {size} x {size} are taken, and pixels in "
        f"[0, 1] are normalised by mean {artifact.mean} and standard deviation {artifact.std}. Images smaller than that are only cropped, and made larger "
        f"only where a side has less than {size} pixels.\n"
    )
    if artifact.encoder.channels in (1, 3):
        yield from _code(preparation(original))


def _numbers(_original: Original, _outcome: Outcome, background: Background) -> Iterator[str]:
    yield "\n## Numbers\n"
    if not background.rows:
        yield "No report was named."
        return
    yield "| protocol | version | metric | value | images | split | report |\n|---|---|---|---|---|---|---|"
    for row in background.rows:
        spread = f" ± {row['spread']:.4g}" if row.get("spread") is not None else ""
        cells = (row["protocol"], row["version"], row["metric"], f"{row['value']:.4g}{spread}", f"{row['n']:,}", row["split"], row["report"])
        yield f"| {' | '.join(map(str, cells))} |"


def _use(original: Original, outcome: Outcome, background: Background) -> Iterator[str]:
    yield "\n## Use\n"
    yield "In this folder, with `images` as above:"
    for name in outcome.made:
        yield from ("", *_code(loading(original, name)))
    if background.registry:
        yield from ("\nFrom MLflow's registry:\n", *_code(registered(original, background.registry)))


def _origin(original: Original, _outcome: Outcome, background: Background) -> Iterator[str]:
    yield "\n## Origin\n"
    yield f"Data version: {original.artifact.data_version or 'not under version control'}\n"
    yield "| stage | kind | key | from | what | commit |\n|---|---|---|---|---|---|"
    for link in background.links:
        cells = (link.name, link.kind, f"`{link.key}`", ", ".join(link.takes), link.summary, _short(link.commit))
        yield f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"
    yield ""
    datasets = [link.artifact for link in background.links if isinstance(link.artifact, Dataset)]
    yield from (f"- manifest of {dataset.stage}: sha256 `{dataset.manifest}`" for dataset in datasets)
    files = [touch for touch in touches(background.links, background.licences) if touch.sha256 is not None]
    yield from (f"- {file.name} ({file.role}): sha256 {f'`{file.sha256}`' if file.sha256 else 'not recorded'}" for file in files)


def _short(commit: str) -> str:
    return commit[:_COMMIT] + "-dirty" * commit.endswith("-dirty")


def _licences(original: Original, _outcome: Outcome, background: Background) -> Iterator[str]:
    yield "\n## Licences\n"
    yield "| network | role | licence |\n|---|---|---|"
    yield f"| {original.artifact.stage} | these weights | {background.licence or 'not stated'} |"
    yield from (f"| {touch.name} | {touch.role} | {touch.licence} |" for touch in touches(background.links, background.licences))


def _code(text: str) -> tuple[str, ...]:
    return ("```python", text.rstrip(), "```")

"""What stages hand over: Dataset, Tokenizer, Checkpoint, Report, Export, each a folder whose `artifact.json` is written last."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, TypeAdapter

from schemas.dvae import DVAE
from schemas.encoders import Encoder
from schemas.spec import Spec

ArtifactType = Literal["Dataset", "Tokenizer", "Checkpoint", "Report", "Export"]
MANIFEST = "artifact.json"


@dataclass(frozen=True)
class Takes:
    """Marks a reference field with the type of artifact that it accepts."""

    artifact: ArtifactType


class Base(Spec):
    """What every artifact states of itself.

    `files` maps each payload file, relative to the folder, to its sha256, `sizes` to its bytes. `parents` maps each reference of the stage to the
    key it stood for, `manifests` each that is a Dataset to the sha256 of its manifest. `weights` maps each file of weights that the stage read, as its
    config names it, to its sha256; it is empty in what was made before this was kept. `config` is the normalised stage; with `parents` it is what the
    key hashes.
    """

    key: str
    stage: str
    kind: str
    config: dict[str, Any]
    parents: dict[str, str]
    files: dict[str, str]
    sizes: dict[str, int]
    data_version: str = ""
    manifests: dict[str, str] = {}
    weights: dict[str, str] = {}
    environment: dict[str, str] = {}
    metrics: dict[str, float] = {}
    folder: Path = Field(default=Path("."), exclude=True, strict=False)

    def path(self, name: str) -> Path:
        """The payload file `name`, absolute or relative as `folder` is."""
        return self.folder / name


class Dataset(Base):
    """A manifest over images that are never copied: `manifest.parquet` (columns in `ssl_tasks/data/manifest.py`)."""

    type: Literal["Dataset"] = "Dataset"
    rows: int
    kept: int

    @property
    def manifest(self) -> str:
        """The sha256 of the manifest, which stands for the choice of images."""
        return self.files.get("manifest.parquet", "")


class Tokenizer(Base):
    """`model.safetensors`, a discrete VAE that tells images in words, and `reconstructions.png`: images, and below each what its words say."""

    type: Literal["Tokenizer"] = "Tokenizer"
    network: DVAE


class Checkpoint(Base):
    """`model.safetensors`, the encoder that it fits, and how images must be prepared for it.

    With `keep_training_state` also `training.pt`, what a stage that continues this one goes on from.
    """

    type: Literal["Checkpoint"] = "Checkpoint"
    encoder: Encoder
    mean: list[float]
    std: list[float]
    dim: int
    exported: str
    """Which part the weights are, for a reader: `encoder`, `teacher encoder`, `student encoder`."""
    classes: list[str] = []
    """Of a classifier, what its outputs stand for, in their order; empty for an encoder alone."""
    hidden: int | None = None
    """Of a classifier of two layers, the width of the first."""


class Report(Base):
    """`results.json` (one row a model, protocol and metric), figures, and one self-contained `report.html`."""

    type: Literal["Report"] = "Report"


class Export(Base):
    """A checkpoint as files of other programs, each checked against it, and `README.md`, the model card."""

    type: Literal["Export"] = "Export"
    formats: list[str]
    """Those that were made, each in a folder of its name."""
    outputs: list[str]
    """What comes out of each: `features`, `logits` of a classifier, `patches` of a network that has such."""
    encoder: Encoder
    mean: list[float]
    std: list[float]
    dim: int
    classes: list[str] = []
    fixed: dict[str, str] = {}
    """Formats that take images of the encoder's own size alone, and why."""
    refused: dict[str, str] = {}
    """Formats that were asked for and have no place for a part of the checkpoint, and which."""


Artifact = Dataset | Tokenizer | Checkpoint | Report | Export
_ADAPTER: TypeAdapter[Artifact] = TypeAdapter(Annotated[Artifact, Field(discriminator="type")])


def read(folder: Path) -> Artifact:
    """The artifact in `folder`. Raises FileNotFoundError where none was completed."""
    stated = json.loads((folder / MANIFEST).read_text())
    return _ADAPTER.validate_python({**stated, "folder": folder})


def sha256(path: Path) -> str:
    """Hex digest of a file's bytes, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def damaged(artifact: Artifact) -> list[str]:
    """Payload files that are missing or of another size than when they were sealed: what can be seen without reading them."""
    return [name for name, size in artifact.sizes.items() if not artifact.path(name).is_file() or artifact.path(name).stat().st_size != size]


def changed_files(artifact: Artifact) -> list[str]:
    """Payload files whose bytes are no longer those that were sealed; a missing file counts."""
    return [name for name, digest in artifact.files.items() if not artifact.path(name).is_file() or sha256(artifact.path(name)) != digest]


TYPES: tuple[ArtifactType, ...] = get_args(ArtifactType)

"""The six kinds of stage, told apart by `kind`."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, GetJsonSchemaHandler, NonNegativeInt, PositiveInt, StringConstraints, model_validator
from pydantic_core import CoreSchema

from schemas.artifacts import ArtifactType, Takes
from schemas.curation import Step
from schemas.distillers import Distiller
from schemas.embeddings import File
from schemas.encoders import Encoder
from schemas.evaluations import Protocol
from schemas.methods import DINOv3, Method
from schemas.resources import Resources
from schemas.sources import Source
from schemas.spec import Kinded, Spec, Unfit
from schemas.training import FITTING, Train
from schemas.views import Views

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]
DatasetRef = Annotated[str, Takes("Dataset"), Field(description="the stage that made the images' manifest")]
CheckpointRef = Annotated[str, Takes("Checkpoint"), Field(description="the stage, or the output of one, that made the encoder")]
Seed = Annotated[NonNegativeInt, Field(description="of everything random in the stage; the pipeline's where not given")]


WEIGHT_FILES = (".safetensors", ".pth", ".pt")
"""How the names of files end that `init_from` reads."""


class StageBase(Spec):
    """What every stage may say besides its own."""

    makes: ClassVar[ArtifactType]
    contract: ClassVar[int] = 1
    """Version of the code behind the stage: raised when the same config would make another artifact."""
    resources: Resources = Field(Resources(), description="where it runs, how long it may take, how often it is tried again")

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of what the stage makes; one unnamed output for most."""
        return ("",)


class Ingest(StageBase):
    """List the images of a source in a manifest."""

    makes: ClassVar[ArtifactType] = "Dataset"
    kind: Literal["ingest"] = "ingest"
    source: Source = Field(description="where the images are")


class Curate(StageBase):
    """Decide, step by step, which images of the train split are kept; other splits pass untouched."""

    makes: ClassVar[ArtifactType] = "Dataset"
    contract = 2
    kind: Literal["curate"] = "curate"
    dataset: DatasetRef
    steps: Annotated[list[Step], Field(min_length=1, description="applied in this order")]
    seed: Seed = 0


def embedding_files(stage: Curate) -> list[tuple[int, str]]:
    """The files of weights that steps of a curation embed by, each with the number of its step."""
    named = [(number, getattr(step, "embedding", None)) for number, step in enumerate(stage.steps)]
    return [(number, embedding.file) for number, embedding in named if isinstance(embedding, File)]


class InitFrom(Spec):
    """Trained weights that an encoder starts from: a stage's, which a bare name stands for, or a file's."""

    bare = "stage"
    stage: CheckpointRef | None = Field(None, description="the stage, or the output of one, whose encoder it starts from")
    file: str | None = Field(None, description=f"{', '.join(WEIGHT_FILES)}: a timm state dict or a DINOv2-format checkpoint, relative to the workspace")

    @model_validator(mode="before")
    @classmethod
    def _bare_name(cls, written: Any) -> Any:
        return {cls.bare: written} if isinstance(written, str) else written

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """The bare name of a stage stands for `{stage: name}`."""
        return {"anyOf": [{"type": "string"}, handler(core)]}

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.stage is None) == (self.file is None):
            raise Unfit("init_from is the name of a stage, or {file: PATH}", "file", "stage")
        if self.file is not None and not self.file.endswith(WEIGHT_FILES):
            raise Unfit(f"'{self.file}' is none of {', '.join(WEIGHT_FILES)}", "file")
        return self


class Pretrain(StageBase):
    """Train an encoder on the kept train images, without labels."""

    makes: ClassVar[ArtifactType] = "Checkpoint"
    contract = 2
    kind: Literal["pretrain"] = "pretrain"
    dataset: DatasetRef
    method: Method = Field(description="what the encoder learns from")
    encoder: Encoder = Field(description="the network that is trained")
    train: Train = Field(Train(), description="budget and optimizer")
    init_from: Annotated[InitFrom, Takes("Checkpoint")] | None = Field(
        None, description="trained weights that the encoder starts from: the name of a stage, or `{file: PATH}`; random ones where not given"
    )
    continues: Annotated[str, Takes("Checkpoint")] | None = Field(
        None, description="a pretrain stage with keep_training_state that this one goes on from: method, teacher and optimizer as they were, schedules anew"
    )
    keep_training_state: bool = Field(False, description="whether the artifact also holds what a stage that `continues` this one needs; several times its size")
    seed: Seed = 0

    @model_validator(mode="after")
    def _starts_once(self) -> Self:
        if self.init_from and self.continues:
            raise Unfit("a stage that continues another has its weights from there: leave out init_from or continues", "init_from")
        return self

    @model_validator(mode="after")
    def _encoder_fits(self) -> Self:
        _check_crops(self.method.views, self.encoder)
        _check_not_whitened(self.encoder, "encoder")
        if isinstance(self.method, DINOv3) and self.method.gram_size:
            _check_patches("the Gram teacher's crop", self.method.gram_size, self.encoder, "method.gram_size")
        if self.method.masks_patches and not self.encoder.is_vit:
            raise Unfit(f"{self.method.kind} masks patches, and '{self.encoder.name}' has none: take a ViT, such as vit_small_patch16_224", "encoder.name")
        return self


class Distill(StageBase):
    """Train several students in one pass over a frozen teacher; each is an output of the stage."""

    makes: ClassVar[ArtifactType] = "Checkpoint"
    contract = 2
    kind: Literal["distill"] = "distill"
    dataset: DatasetRef
    teacher: CheckpointRef
    method: Distiller = Field(description="what the students learn from the teacher")
    students: Annotated[dict[Name, Encoder], Field(min_length=1, description="a network a name; each becomes an output of the stage")]
    train: Train = Field(Train(), description="budget and optimizer, of each student")
    seed: Seed = 0

    @model_validator(mode="after")
    def _crops_fit(self) -> Self:
        for name, student in self.students.items():
            _check_crops(self.method.views, student)
            _check_not_whitened(student, f"students.{name}")
        return self

    @property
    def outputs(self) -> tuple[str, ...]:
        """One output a student."""
        return tuple(self.students)


def _check_crops(views: Views, encoder: Encoder) -> None:
    local = views.local_side(encoder.image_size) if views.local_count else 0
    if local > encoder.image_size:
        raise Unfit(f"a local crop of {local} px is larger than the encoder's image_size {encoder.image_size}", "method.views.local_size", "method")
    _check_patches("a local crop", local, encoder, "method.views.local_size")


def _check_not_whitened(encoder: Encoder, key: str) -> None:
    if encoder.whitening:
        raise Unfit("whitening is fitted to trained features: leave it out, and let a stage of kind whiten follow", f"{key}.whitening")


def _check_patches(crop: str, size: int, encoder: Encoder, key: str) -> None:
    if encoder.patch and size % encoder.patch:
        near = max(1, round(size / encoder.patch)) * encoder.patch
        raise Unfit(f"{crop} of {size} px is not a multiple of patch size {encoder.patch}: set {key}, such as to {near}", key, "method")


class Whiten(StageBase):
    """Fit a PCA whitening of an encoder's features to the kept train images, and let the encoder end in it; what comes out has length 1."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2202.10261"
    makes: ClassVar[ArtifactType] = "Checkpoint"
    kind: Literal["whiten"] = "whiten"
    dataset: DatasetRef
    checkpoint: CheckpointRef
    dim: PositiveInt | None = Field(None, description="components that are kept, those of the largest variance; all where not given")
    power: Annotated[float, Field(gt=0, le=1)] = Field(0.5, description="of the variance that each component is divided by: 0.5 gives all the same variance")
    epsilon: Annotated[float, Field(gt=0, lt=1)] = Field(1e-5, description="share of the largest variance that smaller ones are raised to")
    sample: PositiveInt = Field(100_000, description="images that it is fitted to at most, drawn at random")
    seed: Seed = 0


class Comparison(Spec):
    """A distilled student beside its teacher and beside the same network trained alone."""

    student: CheckpointRef
    teacher: CheckpointRef
    alone: CheckpointRef


class Evaluate(StageBase):
    """Judge frozen features by protocols and write one HTML report."""

    makes: ClassVar[ArtifactType] = "Report"
    kind: Literal["evaluate"] = "evaluate"
    dataset: DatasetRef
    models: Annotated[list[CheckpointRef], Field(min_length=1, description="the encoders that are judged")]
    protocols: Annotated[list[Protocol], Field(min_length=1, description="how they are judged")]
    baselines: list[Literal["pixels", "random"]] = Field(["pixels", "random"], description="raw pixels; each encoder at random initialisation")
    compare: list[Comparison] = Field([], description="which rows the two deltas of a distilled student are taken from")
    seed: Seed = 0

    @model_validator(mode="after")
    def _none_twice(self) -> Self:
        for field, named in (("models", self.models), ("baselines", self.baselines)):
            for i, name in enumerate(named):
                if name in named[:i]:
                    raise Unfit(f"'{name}' stands twice", f"{field}.{i}")
        return self


Stage = Annotated[Ingest | Curate | Pretrain | Distill | Whiten | Evaluate, *Kinded[:1]]
KINDS: dict[str, type[StageBase]] = {"ingest": Ingest, "curate": Curate, "pretrain": Pretrain, "distill": Distill, "whiten": Whiten, "evaluate": Evaluate}


def output_config(stage: StageBase, output: str) -> dict[str, Any]:
    """What of a stage's config concerns one of its outputs: of a distillation, only that output's student.

    Never its resources, nor how its training is made to fit into memory: one that ran out of it goes on under other settings.
    """
    stated = stage.model_dump(mode="json", exclude={"resources": True, "train": FITTING})
    if isinstance(stage, Distill):
        stated["students"] = {output: stated["students"][output]}
    return stated

"""The kinds of stage, told apart by `kind`."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, PositiveInt, model_validator

from schemas import fitness
from schemas.artifacts import ArtifactType, Takes
from schemas.curation import Step
from schemas.distillers import Distillers
from schemas.dvae import DVAE
from schemas.embeddings import File
from schemas.encoders import Encoder
from schemas.evaluation import Comparison, Evaluate
from schemas.exports import Format, Registered
from schemas.finetuning import VIEWS, Full, Strategy
from schemas.methods import DINOv3, Method
from schemas.methods.masked import exactly_one
from schemas.sources import Source
from schemas.spec import Kinded, Pair, Unfit
from schemas.stage import Seed, StageBase
from schemas.starts import CheckpointRef, DatasetRef, InitFrom, Name
from schemas.students import ALONE, Baseline, Student, TeacherCache
from schemas.training import FITTING, Share, Train
from schemas.views import Views
from schemas.watching import Watch

__all__ = [
    "KINDS", "Comparison", "Curate", "Distill", "Evaluate", "Export", "Finetune", "Ingest", "Pretrain", "Seed", "Stage", "StageBase", "Tokenizer",
    "Whiten", "embedding_files", "for_output", "output_config", "student_files",
]  # fmt: skip


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


class Tokenizer(StageBase):
    """Train a discrete VAE on the kept train images, without labels: it tells an image in words, which `beit` learns to predict."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2102.12092"
    makes: ClassVar[ArtifactType] = "Tokenizer"
    kind: Literal["tokenizer"] = "tokenizer"
    dataset: DatasetRef
    network: DVAE = Field(DVAE(), description="the discrete VAE that is trained")
    temperature: Pair = Field((1.0, 0.0625), description="of the Gumbel softmax, by which words are drawn, at the start and from `annealing` on")
    annealing: Share = Field(0.5, description="share of the training over which the temperature falls (the paper: 150,000 of 3 million steps)")
    kl_weight: Annotated[float, Field(ge=0)] = Field(
        6.6, description="weight of what draws the use of words at a place to uniform; 1 where a word stands for few pixels"
    )
    kl_rise: Share = Field(0.1, description="share of the training over which it rises from 0 (the paper: 5,000 of 3 million steps)")
    views: Annotated[Views, AfterValidator(exactly_one)] = Field(
        Views(count=1, scale=(0.2, 1.0), jitter=0.0, grey=0.0, blur=0.0), description="one crop and flip of an image, without change of colours"
    )
    train: Train = Field(Train(), description="budget and optimizer")
    seed: Seed = 0

    @model_validator(mode="after")
    def _trains_a_vae(self) -> Self:
        fitness.check_tokenizer(self.temperature, self.train)
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
    watch: Watch | None = Field(None, description="judge the encoder while it trains, beside the training, of which it changes nothing")
    seed: Seed = 0

    @model_validator(mode="after")
    def _starts_once(self) -> Self:
        if self.init_from and self.continues:
            raise Unfit("a stage that continues another has its weights from there: leave out init_from or continues", "init_from")
        return self

    @model_validator(mode="after")
    def _encoder_fits(self) -> Self:
        fitness.check_crops(self.method.views, self.encoder, "method.views")
        fitness.check_not_whitened(self.encoder, "encoder")
        if isinstance(self.method, DINOv3) and self.method.gram_size:
            fitness.check_patches("the Gram teacher's crop", self.method.gram_size, self.encoder, "method.gram_size")
        fitness.check_method(self.method, self.encoder)
        fitness.check_batch(self.method, self.train.batch_size)
        return self


class Distill(StageBase):
    """Train several students in one pass over a frozen teacher; each is an output of the stage, and on request its baseline too."""

    makes: ClassVar[ArtifactType] = "Checkpoint"
    contract = 3
    kind: Literal["distill"] = "distill"
    dataset: DatasetRef
    teacher: CheckpointRef | None = Field(None, description="the frozen encoder or classifier; none for students that learn from labels or each other")
    method: Distillers | None = Field(None, description="what the students learn from, a list for the sum of several")
    students: Annotated[dict[Name, Student], Field(min_length=1, description="a network a name; each becomes an output of the stage")]
    views: Annotated[Views, Field(description="what teacher and students see of an image; local crops are the students' alone")] = Views(count=1)
    train: Train = Field(Train(), description="budget and optimizer, of each student that does not state its own")
    baseline: Baseline | None = Field(None, description="alone: further outputs NAME_alone, each student trained without the teacher")
    teacher_cache: TeacherCache | None = Field(None, description="keep what the teacher says on disk; true for a cache of 20 gigabytes")
    spread: bool = Field(False, description="with several devices: share the students out among them, instead of each student's batch")
    seed: Seed = 0

    @model_validator(mode="after")
    def _filled_in(self) -> Self:
        for name, student in self.students.items():
            method = student.method or self.method
            if method is None:
                raise Unfit(f"missing 'method', of the stage or of students.{name}", "method", f"students.{name}")
            own = {field: getattr(student.train, field) for field in student.train.model_fields_set} if student.train else {}
            self.students[name] = student.model_copy(update={"method": method, "train": self.train.model_copy(update=own)})
        return self

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for name in self.students:
            fitness.of_student(name, self.students, views=self.views, batch_size=self.train.batch_size, taught=self.teacher is not None)
        return self

    @property
    def outputs(self) -> tuple[str, ...]:
        """One output a student, and then one a baseline."""
        return (*self.students, *(name + ALONE for name in self.students if self.baseline))

    def beside(self, output: str) -> tuple[str, ...]:
        """The students that must be trained for an output: its own, and those that it learns from while they train."""
        own = output if output in self.students else output.removesuffix(ALONE)
        kinds = {method.kind for method in self.students[own].methods if method.cohort and own == output}
        return tuple(name for name, student in self.students.items() if name == own or any(method.kind in kinds for method in student.methods))

    def trained(self, output: str) -> Student:
        """The student that an output is of, or is the baseline of."""
        return self.students[output if output in self.students else output.removesuffix(ALONE)]


class Finetune(StageBase):
    """Turn an encoder into a classifier of the labelled train images; without a checkpoint, train one from nothing."""

    makes: ClassVar[ArtifactType] = "Checkpoint"
    kind: Literal["finetune"] = "finetune"
    dataset: DatasetRef
    checkpoint: CheckpointRef | None = Field(None, description="the trained encoder; the other choice is `encoder`")
    encoder: Encoder | None = Field(None, description="a network that is trained from nothing, as supervised learning does")
    strategy: Strategy = Field(Full(), description="what is trained; an encoder without a checkpoint only in full")
    labels: Annotated[float, Field(gt=0, le=1)] = Field(1.0, description="share of the labelled images of each class that is used, at least one")
    smoothing: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="share of each label that is spread over all classes; as a teacher it is better without"
    )
    batch_norm: Literal["frozen", "trained"] | None = Field(
        None, description="frozen: normalise by the checkpoint's statistics; where not given frozen for a checkpoint, trained from nothing"
    )
    views: Views = Field(VIEWS, description="of the train images; one an image")
    train: Train = Field(Train(), description="budget and optimizer")
    seed: Seed = 0

    @model_validator(mode="after")
    def _from_one(self) -> Self:
        if (self.checkpoint is None) == (self.encoder is None):
            raise Unfit("a finetune stage has a checkpoint that it starts from, or an encoder that it trains from nothing", "encoder", "checkpoint")
        return self

    @model_validator(mode="after")
    def _fits(self) -> Self:
        fitness.of_classifier(self.strategy, self.encoder, self.batch_norm, self.views, self.train)
        return self

    @property
    def batch_norms(self) -> Literal["frozen", "trained"]:
        """What becomes of the encoder's batch norms."""
        return self.batch_norm or ("frozen" if self.checkpoint else "trained")


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


class Export(StageBase):
    """Hand a checkpoint out as files that other programs load, each checked against the original, with a model card."""

    makes: ClassVar[ArtifactType] = "Export"
    kind: Literal["export"] = "export"
    checkpoint: CheckpointRef
    formats: Annotated[list[Format], Field(min_length=1)] = Field(
        ["timm", "onnx", "torch_export"], description="timm: safetensors that timm.create_model loads; onnx; torch_export: torch.export's archive"
    )
    reports: Annotated[list[Annotated[str, Takes("Report")]], Takes("Report")] = Field([], description="evaluations whose numbers stand on the model card")
    licence: str = Field("", description="of the weights, for the model card")
    licences: dict[str, str] = Field({}, description="of the stages and files of weights that it comes from, by their names on the card")
    registry: Registered | None = Field(None, description="make it a version of a model in MLflow's registry")


Stage = Annotated[Ingest | Curate | Tokenizer | Pretrain | Distill | Finetune | Whiten | Evaluate | Export, *Kinded[:1]]
KINDS: dict[str, type[StageBase]] = {
    kind.model_fields["kind"].default: kind for kind in (Ingest, Curate, Tokenizer, Pretrain, Distill, Finetune, Whiten, Evaluate, Export)
}


def student_files(stage: Distill) -> dict[str, str]:
    """The files of weights that students start from, by the students' names."""
    return {name: student.init_from.file for name, student in stage.students.items() if student.init_from and student.init_from.file}


def for_output(stage: StageBase, output: str) -> StageBase:
    """The stage as far as it concerns one of its outputs.

    Of a distillation only that output's student, with those that it learns from while they train, and a baseline only where it is one. Of a
    pretraining all but how it is watched.
    """
    if isinstance(stage, Pretrain):
        return stage.model_copy(update={"watch": None})
    if not isinstance(stage, Distill):
        return stage
    name = output if output in stage.students else output.removesuffix(ALONE)
    return stage.model_copy(
        update={"students": {each: stage.students[each] for each in stage.beside(output)}, "baseline": stage.baseline if output != name else None}
    )


def output_config(stage: StageBase, output: str) -> dict[str, Any]:
    """What of a stage's config concerns one of its outputs.

    Never its resources, how it is watched, nor how its training is fitted into memory or shared out: one that ran out of it goes on under other settings.
    """
    stated = for_output(stage, output).model_dump(mode="json", exclude={"resources": True, "train": FITTING, "watch": True})
    if isinstance(stage, Distill):
        for name in ("method", "train", "teacher_cache", "spread"):  # of each student, by now
            del stated[name]
        if len(stated["students"]) > 1:  # peers, whose configs are the same but for which of them it is
            stated["output"] = output
        for student in stated["students"].values():
            student["train"] = {name: value for name, value in student["train"].items() if name not in FITTING}
    return stated

"""Evaluation: the stage that judges models."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from schemas.artifacts import ArtifactType, Takes
from schemas.expectations import Bound, expectations
from schemas.naming import names
from schemas.protocols import Protocol
from schemas.spec import Spec, Unfit
from schemas.stage import Seed, StageBase
from schemas.starts import CheckpointRef, DatasetRef


class Comparison(Spec):
    """A distilled student beside its teacher, beside the same network trained alone, or beside both."""

    student: CheckpointRef
    teacher: CheckpointRef | None = Field(None, description="what it learned from; where not given there is no difference to it")
    alone: CheckpointRef | None = Field(None, description="the same network without the teacher; where not given there is no difference to it")


class Evaluate(StageBase):
    """Judge frozen features and classifiers by protocols and write one HTML report, with what each distilled student is worth."""

    makes: ClassVar[ArtifactType] = "Report"
    contract = 4
    kind: Literal["evaluate"] = "evaluate"
    dataset: DatasetRef
    models: list[CheckpointRef] = Field([], description="the encoders and classifiers that are judged")
    distilled: list[Annotated[str, Takes("Checkpoint")]] = Field(
        [], description="distill stages, or students of them: each is judged beside its teacher and its baseline, as if `models` and `compare` said so"
    )
    protocols: Annotated[list[Protocol], Field(min_length=1, description="how they are judged")]
    baselines: list[Literal["pixels", "random"]] = Field(["pixels", "random"], description="raw pixels; each encoder at random initialisation")
    compare: list[Comparison] = Field([], description="which rows the two deltas of a distilled student are taken from")
    expect: dict[str, Bound] = Field(
        {},
        description="numbers that must be reached, or the stage fails: `knn` or `segmentation.miou` of all models not trained alone, `MODEL/knn` of one; "
        "each a comparison such as '>= 0.85'; of several seeds their mean is held against it",
    )
    repeats: PositiveInt = Field(
        1,
        description="how often each protocol that draws or fits at random is judged, under `seed`, `seed` + 1 and so on; numbers are means with a spread",
    )
    leakage: Literal["recorded", "near"] = Field(
        "recorded",
        description="how test images are sought in what models were trained on: equal files and what `leakage` steps recorded; near: also by perceptual hash",
    )
    seed: Seed = 0

    @model_validator(mode="after")
    def _none_twice(self) -> Self:
        if not self.models and not self.distilled:
            raise Unfit("names no model: list encoders in `models`, or distill stages in `distilled`", "models", "distilled")
        self.protocols[:] = [each for protocol in self.protocols for each in protocol.each()]
        for field, named in (("models", self.models), ("distilled", self.distilled), ("baselines", self.baselines)):
            for i, name in enumerate(named):
                if name in named[:i]:
                    raise Unfit(f"'{name}' stands twice", f"{field}.{i}")
        return self

    @model_validator(mode="after")
    def _expects_what_is_judged(self) -> Self:
        try:
            expectations(self.expect, names(self.protocols))
        except ValueError as error:
            raise Unfit(str(error), "expect") from None
        return self

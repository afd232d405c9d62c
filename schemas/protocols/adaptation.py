"""Protocols that train the encoder itself, by the strategies that finetune stages have too."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from schemas import fitness
from schemas.finetuning import VIEWS, Full, Strategy
from schemas.protocols.base import ProtocolSpec
from schemas.protocols.frozen import Share
from schemas.training import Train
from schemas.views import Views


class FineTuned(ProtocolSpec):
    """Accuracy after the encoder, or a part of it, is trained on the labelled train split: full, LoRA, progressive unfreezing or LP-FT."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2111.06377"
    version, title, fitting = "fine_tuned@1", "fine-tuned", True
    needs = frozenset({"train labels", "test labels", "network"})
    kind: Literal["fine_tuned"] = "fine_tuned"
    strategy: Strategy = Field(Full(), description="what is trained, and in which order")
    labels: Share = Field(1.0, description="of each class's labelled train images, at least one")
    views: Views = Field(VIEWS, description="of the train images; one an image")
    train: Train = Field(Train(layer_decay=0.75), description="budget and optimizer; full training slows lower blocks down as MAE does")
    repeats: Annotated[int, Field(ge=1)] = Field(1, description="trainings with other seeds, each with labels of its own draw; their spread is reported")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        fitness.of_classifier(self.strategy, None, None, self.views, self.train)
        return self

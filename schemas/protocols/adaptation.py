"""Protocols that train the encoder itself, by the strategies that finetune stages have too."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from schemas.finetuning import Full, Strategy
from schemas.protocols.base import ProtocolSpec
from schemas.protocols.frozen import Share
from schemas.training import Train


class FineTuned(ProtocolSpec):
    """Accuracy after the encoder, or a part of it, is trained on the labelled train split: full, LoRA, progressive unfreezing or LP-FT."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2111.06377"
    version, title, fitting = "fine_tuned@1", "fine-tuned", True
    needs = frozenset({"train labels", "test labels", "network"})
    kind: Literal["fine_tuned"] = "fine_tuned"
    strategy: Strategy = Field(Full(), description="what is trained, and in which order")
    labels: Share = Field(1.0, description="of each class's labelled train images, at least one")
    train: Train = Field(Train(), description="budget and optimizer")
    repeats: Annotated[int, Field(ge=1)] = Field(1, description="trainings with other seeds; their spread is reported")

"""Protocols that judge a classifier's own head."""

from typing import ClassVar, Literal

from pydantic import Field, PositiveInt

from schemas.protocols.base import ProtocolSpec


class Accuracy(ProtocolSpec):
    """Share of the test images whose class a classifier's own head names; one of a class that it does not know counts as wrong."""

    version, title = "accuracy@1", "accuracy"
    needs = frozenset({"classifier", "test labels"})
    kind: Literal["accuracy"] = "accuracy"


class Fidelity(ProtocolSpec):
    """How much a student classifier says what its teacher says: the share of test images that both give one class, and the mean KL(teacher || student)."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2106.05945"
    version, title = "fidelity@1", "fidelity"
    needs = frozenset({"classifier", "test images"})
    kind: Literal["fidelity"] = "fidelity"


class Calibration(ProtocolSpec):
    """How far a classifier's confidence is from its accuracy: ECE and NLL, before and after a temperature that is fitted to held-out images."""

    paper: ClassVar[str] = "https://arxiv.org/abs/1706.04599"
    version, title = "calibration@1", "calibration"
    needs = frozenset({"classifier", "train labels", "test labels"})
    kind: Literal["calibration"] = "calibration"
    bins: PositiveInt = Field(15, description="of equal width, in which confidence and accuracy are compared")

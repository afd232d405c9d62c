"""What a training is watched for, and what is done when it shows."""

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from schemas.spec import Spec, Unfit

Then = Literal["stop", "warn", "fall_back"]
"""Fail with the reason; say it and go on; or end the training with the weights of the last look that found nothing wrong."""


class Rule(Spec):
    """A bound that a number of the training must keep, such as a milestone of its k-NN accuracy."""

    metric: str = Field(description="what is bounded: a name that the monitors record, without `monitor/`, or `loss` or `gradient_norm`")
    at_least: float | None = Field(None, description="smallest value that is right")
    at_most: float | None = Field(None, description="largest value that is right")
    after: Annotated[float, Field(ge=0, le=1)] = Field(0.0, description="share of the training from which on it must hold; 1 asks only the last look")
    then: Then = Field("stop", description="stop fails with the reason; warn notes it and goes on; fall_back ends with the last good checkpoint")

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        if self.at_least is None and self.at_most is None:
            raise Unfit("a rule needs at_least, at_most or both", "metric")
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise Unfit(f"at_least {self.at_least} is above at_most {self.at_most}: no value can keep both", "at_least", "at_most")
        return self

    def keeps(self, value: float) -> bool:
        """Whether the value is within the bounds; one that is not a number is not."""
        return (self.at_least is None or value >= self.at_least) and (self.at_most is None or value <= self.at_most)

    @property
    def bound(self) -> str:
        """The bounds as words, such as `at least 0.3`."""
        bounds = (("at least", self.at_least), ("at most", self.at_most))
        return " and ".join(f"{words} {value:g}" for words, value in bounds if value is not None)


class EarlyStop(Spec):
    """Ends a training that no longer improves; what it hands over is its last state, not its best one."""

    metric: str = Field(
        "loss", description="what must improve: a name that the monitors record, without `monitor/`, or `loss` (of the last step) or `gradient_norm`"
    )
    patience: PositiveInt = Field(
        5, description="looks of the monitors in a row without improvement after which it ends; train.monitors says how many there are"
    )
    min_delta: Annotated[float, Field(ge=0)] = Field(0.0, description="an improvement is a change for the better by more than this")
    best: Literal["lowest", "highest"] | None = Field(
        None, description="which value is good; where not given the lowest of loss and gradient_norm, else the highest"
    )

    @property
    def rises(self) -> bool:
        """Whether the highest value is the best one."""
        return self.best == "highest" if self.best else self.metric not in ("loss", "gradient_norm")

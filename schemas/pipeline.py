"""Pipeline: named stages, each of whose inputs another stage makes."""

import re
from collections.abc import Iterator
from typing import Annotated, Any, Self

from pydantic import Field, NonNegativeInt, StringConstraints, field_validator, model_validator

from schemas import references
from schemas.errors import did_you_mean
from schemas.spec import Spec, Unfit
from schemas.stages import Stage
from schemas.starts import Name

StageName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*(\[[^\[\]]+\])?$")]
"""A name as in YAML, or one value of a matrix: `teacher[seed=0]`."""


_CRON = (("minute", 0, 59), ("hour", 0, 23), ("day", 1, 31), ("month", 1, 12), ("weekday", 0, 7))


class Schedule(Spec):
    """When a deployment runs by itself."""

    cron: str = Field(description="five cron fields, such as `0 3 * * 1`")
    timezone: str = Field("UTC", description="IANA name of the time zone that the fields are read in")
    force: list[str] = Field([], description="stages that each run of the deployment makes again though nothing changed: whether the code still learns")

    @field_validator("cron")
    @classmethod
    def _has_five_fields(cls, cron: str) -> str:
        fields = cron.split()
        if len(fields) != len(_CRON):
            raise ValueError("must have five fields: minute hour day month weekday")
        for text, (name, low, high) in zip(fields, _CRON, strict=True):
            numbers = re.findall(r"(?<![/\d])\d+", text)
            if not re.fullmatch(r"[\w*,/#-]+", text) or any(len(n) > 2 or not low <= int(n) <= high for n in numbers):
                raise ValueError(f"{name} must be between {low} and {high}, not {text!r}")
        return cron

    @field_validator("timezone")
    @classmethod
    def _is_known(cls, timezone: str) -> str:
        from zoneinfo import ZoneInfo

        try:
            _ = timezone == "UTC" or ZoneInfo(timezone)
        except (OSError, ValueError, KeyError):
            raise ValueError(f"no time zone {timezone[:60]!r}; a name such as UTC or Europe/Berlin") from None
        return timezone


class BrokenReferences(ValueError):
    """References of a pipeline that do not hold; `problems` lists place and message of each."""

    def __init__(self, problems: list[tuple[references.Loc, str]]) -> None:
        super().__init__("; ".join(f"{'.'.join(map(str, loc))}: {message}" for loc, message in problems))
        self.problems = problems


class Pipeline(Spec):
    """One declared experiment: where the images are, how they are curated, what is trained, how it is judged."""

    name: Name = Field(description="of the MLflow experiment and the Prefect flow")
    description: str = Field("", description="what it is for, in a sentence")
    seed: NonNegativeInt = Field(0, description="of every stage that does not state its own")
    params: dict[Name, Any] = Field({}, description="values that `${params.x}` stands for; typed parameters of a deployment")
    stages: dict[StageName, Stage] = Field(min_length=1, description="a stage a name, in any order; the references say what waits on what")
    schedule: Schedule | None = Field(None, description="when a deployment runs by itself")

    @model_validator(mode="after")
    def _references_hold(self) -> Self:
        if found := list(references.problems(self.stages, {n: s.kind for n, s in self.stages.items()})):
            raise BrokenReferences(found)
        return self

    @model_validator(mode="after")
    def _forces_stages(self) -> Self:
        for i, name in enumerate(self.schedule.force if self.schedule else []):
            if name not in self.stages:
                raise Unfit(f"no stage '{name}'; {did_you_mean(name, self.stages) or 'there are: ' + ', '.join(self.stages)}", f"schedule.force.{i}")
        return self

    def order(self) -> list[str]:
        """Stage names so that each comes after those it takes from."""
        return references.in_order(self.stages)

    def parents(self, stage: str) -> Iterator[str]:
        """The stages that `stage` takes from, each once, in the order of its fields."""
        yield from dict.fromkeys(r.stage for r in references.references(self.stages[stage]))

"""Where a stage runs, how long it may take, and how often it is tried again."""

import re
from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, field_validator, model_validator

from schemas.spec import Spec, Unfit

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Resources(Spec):
    """Pool, devices, time limit and retries of one stage."""

    pool: str = Field("local", description="Prefect work pool; `local` runs where the flow runs")
    devices: PositiveInt = Field(1, description="GPUs, or CPU slots where there is no GPU; more than one starts torchrun")
    nodes: PositiveInt = Field(1, description="hosts of a distributed training")
    timeout: str = Field("12h", description="a number and s, m, h or d; the stage's processes are killed after it")
    retries: Annotated[int, Field(ge=0, le=20)] = Field(2, description="further tries of a stage that died; each resumes from the last checkpoint")
    retry_delay: NonNegativeInt = Field(5, description="seconds before the first retry, doubled for each further one")
    store: Annotated[float, Field(ge=0)] = Field(
        32.0, description="gigabytes up to which images are decoded once, into one file; beyond, they are decoded from their own files at each step"
    )

    runner: Literal["threads", "dask"] = Field("threads", description="of a curation: what its shards of images are hashed and embedded on")
    scheduler: str | None = Field(None, description="address of a Dask scheduler, such as tcp://host:8786; a cluster on this host where not given")

    @field_validator("timeout")
    @classmethod
    def _is_a_duration(cls, text: str) -> str:
        if not re.fullmatch(r"[1-9]\d*[smhd]", text):
            raise ValueError("must be a number and s, m, h or d, such as 90s or 12h")
        return text

    @model_validator(mode="after")
    def _scheduler_is_dasks(self) -> Self:
        if self.scheduler is not None and self.runner != "dask":
            raise Unfit(f"'{self.scheduler}' needs `runner: dask`", "scheduler")
        if self.scheduler is not None and not re.fullmatch(r"(tcp|tls|ucx|wss?)://.+:\d+", self.scheduler):
            raise Unfit(f"'{self.scheduler}' is no address, such as tcp://host:8786", "scheduler")
        return self

    @property
    def seconds(self) -> int:
        """The time limit in seconds."""
        return int(self.timeout[:-1]) * _UNITS[self.timeout[-1]]

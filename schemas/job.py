"""Job: one stage made concrete, as it is handed to the process that runs it. Written as `job.json`, replayed by one shell line."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from schemas.spec import Spec
from schemas.stages import Stage

ARTIFACTS = Path(".sslflow/artifacts")
WORK = Path(".sslflow/work")
CACHE = Path(".sslflow/cache")


class Job(Spec):
    """What a stage needs besides its own config.

    Every path is relative to `workspace` unless absolute.

    Attributes:
        name: the stage's name in the pipeline.
        inputs: each reference of the stage, as written, to the key of the artifact that it stands for.
        outputs: each output that is still to be made to its key; `{"": key}` for a stage with one unnamed output.
        key: of the stage as a whole; names its work folder, where checkpoints of an interrupted training lie.
        data_version: md5 of the raw data in its `.dvc` file; empty where the data is not under DVC.
        stamp: of the bytes that the stage reads besides artifacts, such as the sha256 of the file that it starts from.
        environment: what is worth recording of the run: git commit, versions, machine.
    """

    name: str
    pipeline: str
    stage: Stage
    key: str
    inputs: dict[str, str] = {}
    outputs: dict[str, str]
    workspace: Annotated[Path, Field(strict=False)]
    data_version: str = ""
    stamp: str = ""
    environment: dict[str, str] = {}

    @property
    def work(self) -> Path:
        """Folder that survives a crash and is removed when the stage is done."""
        return self.workspace / WORK / self.key

    @property
    def cache(self) -> Path:
        """Folder for what can be made again at any time, such as decoded images."""
        return self.workspace / CACHE

    def folder(self, key: str) -> Path:
        """Where the artifact with `key` lies."""
        return self.workspace / ARTIFACTS / key

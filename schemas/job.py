"""Job: one stage made concrete, as it is handed to the process that runs it. Written as `job.json`, replayed by one shell line."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from schemas.spec import Spec
from schemas.stages import Curate, Distill, Pretrain, Stage, embedding_files, for_output, student_files

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

    def weights(self, output: str = "") -> dict[str, str]:
        """The sha256 of each file of weights that the stage reads for one of its outputs, as `stamp` has them; those that it does not tell are left out."""
        hashes = self.stamp.split("+") if self.stamp else []
        stage, concerned = self.stage, for_output(self.stage, output)
        if isinstance(stage, Pretrain) and stage.init_from and stage.init_from.file:
            return dict(zip([stage.init_from.file], hashes, strict=False))
        if isinstance(stage, Distill) and isinstance(concerned, Distill):
            of_students = dict(zip(student_files(stage), hashes, strict=False))
            return {file: of_students[name] for name, file in student_files(concerned).items() if name in of_students}
        if isinstance(stage, Curate):  # each hash is there once
            files = list(dict.fromkeys(file for _, file in embedding_files(stage)))
            hashes = hashes * len(files) if len(hashes) == 1 else hashes
            return dict(zip(files, hashes, strict=True)) if len(files) == len(hashes) else {}
        return {}

    def folder(self, key: str) -> Path:
        """Where the artifact with `key` lies."""
        return self.workspace / ARTIFACTS / key

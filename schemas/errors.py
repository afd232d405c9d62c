"""Errors that are a user's to mend: one line that says what, where and what to do. Never shown with a traceback."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


class UserError(Exception):
    """Something the user can mend and a retry cannot: bad config, missing file, full disk, corrupt artifact."""


class TryAgain(Exception):
    """What another try of the stage gets past by itself; its one line is for the user."""


class Collapse(UserError):
    """A training whose representation has collapsed; the message names the symptom and what to try."""


@dataclass(frozen=True)
class Problem:
    """One fault of a pipeline file.

    Attributes:
        file: as the user named it.
        line, column: from 1; 0 where the fault has no place (such as a missing file).
        path: dotted, such as `stages.teacher.method.prototypes`; empty for the file as a whole.
        message: what is wrong; what may be there, or did you mean.
    """

    file: Path
    line: int
    column: int
    path: str
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else str(self.file)
        return f"{place} {self.path}: {self.message}" if self.path else f"{place}: {self.message}"


class InvalidPipeline(UserError):
    """A pipeline file with one or more faults, all of them in `problems`, in the order of their lines."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`did you mean 'x'?` for the nearest of `known`; empty where none is near."""
    from difflib import get_close_matches

    near = get_close_matches(word, list(known), n=1, cutoff=0.6) if len(word) < 100 else []
    return f"did you mean '{near[0]}'?" if near else ""

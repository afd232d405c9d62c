"""Records wait in a file until a receiver has taken them; a receiver may be away."""

import time
from pathlib import Path

import pytest
from mlflow_runs import workspace

from workflows.engine import mlflow_tracker
from workflows.engine.mlflow_spool import Operation, Sender, Spool, Unreachable

__all__ = ["workspace"]


def test_the_spool_of_a_run_that_goes_on_is_left_alone(workspace: Path) -> None:
    path = workspace / ".sslflow/runs/alive/spool.jsonl"
    spool = Spool(path, {"uri": mlflow_tracker.tracking_uri(workspace), "experiment": "alive", "artifacts": "", "execution": "alive"})
    spool.add({"do": "start", "run": "", "name": "alive", "time": 1, "tags": {}})
    mlflow_tracker.resend(workspace)
    assert len(spool.pending) == 1
    with pytest.raises(BlockingIOError):
        Spool(path)
    spool.close(remove=True)


class Flaky:
    """A receiver that is away for its first calls."""

    def __init__(self, away: int) -> None:
        self.away = away
        self.got: list[int] = []

    def send(self, operations: list[Operation], ids: dict[str, str]) -> tuple[int, list[str]]:
        if self.away:
            self.away -= 1
            raise Unreachable("away")
        self.got += [o["value"] for o in operations[:2]]
        return len(operations[:2]), []


def test_a_receiver_that_comes_back_gets_everything_in_order_and_a_person_is_told_twice(tmp_path: Path) -> None:
    said: list[str] = []
    receiver = Flaky(away=2)
    spool = Spool(tmp_path / "spool.jsonl", {})
    sender = Sender(spool, lambda: receiver, said.append, lambda: None, every=0.01)
    for value in range(7):
        sender.put({"do": "log", "run": "", "value": value})
    sender.start()
    assert sender.finish(patience=10)
    assert receiver.got == list(range(7))
    assert [line.split(";")[0] for line in said] == ["MLflow takes no records now (away)", "MLflow is back"]


def test_a_receiver_that_stays_away_is_given_up_and_the_file_keeps_everything(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.jsonl", {"uri": "x"})
    sender = Sender(spool, lambda: Flaky(away=99), lambda _: None, lambda: None, every=0.01)
    sender.put({"do": "log", "run": "", "value": 1})
    sender.start()
    began = time.monotonic()
    assert not sender.finish(patience=0.3)
    assert time.monotonic() - began < 2
    spool.close(remove=False)
    again = Spool(tmp_path / "spool.jsonl")
    assert again.header == {"uri": "x"}
    assert [o["value"] for o in again.first(9)] == [1]

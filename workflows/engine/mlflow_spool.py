"""Spool: a queue of operations that outlives its process and the server it is meant for. Knows nothing of MLflow.

Every operation is a line of a file before it is sent, so nothing is lost when the server goes away or the process is killed.
"""

import fcntl
import json
import threading
import time
from collections import deque
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

Operation = dict[str, Any]
"""`{"do": verb, "run": our name of the run, ...}`; sending one twice must be the same as sending it once."""
Say = Callable[[str], None]


class Unreachable(Exception):
    """The other side cannot take operations now; what was not sent is to be sent again later."""


class Receiver(Protocol):
    """Who the operations are sent to."""

    def send(self, operations: list[Operation], ids: dict[str, str]) -> tuple[int, list[str]]:
        """Take operations from the front; how many were taken (at least one), and what was refused for good.

        Args:
            ids: our name of each run to the receiver's; added to when a run is made.

        Raises:
            Unreachable: if none could be taken now.
        """


class Spool:
    """The file behind the queue: a header, numbered operations, and the number of the last one that was sent.

    It is locked while it is open, so that a later process takes over only what a dead one left.

    Raises:
        BlockingIOError: if it is open already, in another process or in this one.
    """

    def __init__(self, path: Path, header: dict[str, Any] | None = None) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.header: dict[str, Any] = {}
        self.ids: dict[str, str] = {}
        self.pending: deque[Operation] = deque()
        self.open_runs: dict[str, None] = {}
        self._count = self._sent = 0
        self._noted: tuple[int, int] = (0, 0)
        self._lock = threading.Lock()
        self._file = path.open("a+", encoding="utf-8", errors="replace")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise
        self._load()
        if not self.header and header is not None:
            self.header = header
            self._write({"header": header})

    def _load(self) -> None:
        self._file.seek(0)
        text = self._file.read()
        for line in text.splitlines():
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:
                continue  # cut short when its process was killed
            if "header" in entry:
                self.header = entry["header"]
            elif "sent" in entry:
                self._sent = entry["sent"]
                self.ids |= entry["ids"]
            else:
                self._queue(entry)
        while self.pending and self.pending[0]["n"] <= self._sent:
            self.pending.popleft()
        if text and not text.endswith("\n"):
            self._file.write("\n")

    def _queue(self, operation: Operation) -> None:
        self._count = operation["n"]
        self.pending.append(operation)
        if operation["do"] == "start":
            self.open_runs[operation["run"]] = None
        elif operation["do"] == "end":
            self.open_runs.pop(operation["run"], None)

    def add(self, operation: Operation) -> None:
        """Put an operation at the end, on the disk first."""
        with self._lock:
            numbered = {"n": self._count + 1, **operation}
            self._write(numbered)
            self._queue(numbered)

    def first(self, count: int) -> list[Operation]:
        """The operations at the front that are to be sent next."""
        with self._lock:
            return list(islice(self.pending, count))

    def taken(self, count: int) -> None:
        """Drop operations that were sent from the front."""
        with self._lock:
            for _ in range(count):
                self._sent = self.pending.popleft()["n"]

    def note_sent(self) -> None:
        """Write down what was sent, so that a later process begins after it."""
        with self._lock:
            if (self._sent, len(self.ids)) != self._noted:
                self._noted = (self._sent, len(self.ids))
                self._write({"sent": self._sent, "ids": self.ids})

    def _write(self, entry: dict[str, Any]) -> None:
        try:
            self._file.write(json.dumps(entry) + "\n")
            self._file.flush()
        except (OSError, ValueError):
            return  # a full disk, or closed by a finish that gave up waiting: the queue in memory goes on

    def close(self, *, remove: bool) -> None:
        """Let go of the file; remove it when all of it was sent."""
        with self._lock:
            if remove:
                self.path.unlink(missing_ok=True)
            self._file.close()


class Sender(threading.Thread):
    """Sends a spool from the background: about every two seconds, with longer and longer pauses while the receiver is away.

    Args:
        connect: makes the receiver, or raises Unreachable.
        once_connected: work to do in the background after the first operations were sent.
    """

    def __init__(self, spool: Spool, connect: Callable[[], Receiver], say: Say, once_connected: Callable[[], None], every: float = 2.0) -> None:
        super().__init__(name="mlflow-sender", daemon=True)
        self._spool, self._connect, self._say, self._once_connected, self._every = spool, connect, say, once_connected, every
        self._receiver: Receiver | None = None
        self._closing = threading.Event()
        self._urgent = threading.Event()
        self._tried = time.monotonic()
        self.problem = ""
        self.settled = threading.Event()
        """Set when the first try to send has succeeded or failed."""

    def put(self, operation: Operation, *, now: bool = False) -> None:
        """Queue an operation; `now` sends what is queued without waiting for the next round."""
        self._spool.add(operation)
        if now:
            self._urgent.set()

    def run(self) -> None:
        """Send until closed and nothing is left."""
        pause, connected = 0.0, False
        while self._spool.pending or not self._closing.is_set():
            self._wait(pause)
            try:
                self._drain()
            except Unreachable as error:
                if not self.problem:
                    self._say(f"MLflow takes no records now ({error}); training goes on, they are kept in {self._spool.path} and sent when it is back")
                self.problem = str(error)
                pause = min(max(1.0, 2 * pause), 30.0)
            else:
                if self.problem:
                    self._say("MLflow is back; what was kept has been sent")
                self.problem, pause = "", 0.0
            self.settled.set()
            if not connected and not self.problem:
                connected = True
                self._once_connected()

    def _wait(self, pause: float) -> None:
        if self._closing.is_set():
            time.sleep(min(pause, 1.0))
        elif pause:
            self._closing.wait(pause)
        else:
            self._urgent.wait(self._every)
            self._urgent.clear()

    def _drain(self) -> None:
        if self._receiver is None:
            self._receiver = self._connect()
        try:
            send_all(self._spool, self._receiver, self._say, self._progressed)
        finally:
            self._spool.note_sent()

    def _progressed(self) -> None:
        self._tried = time.monotonic()

    def finish(self, patience: float) -> bool:
        """Send what is left and stop; whether all was sent.

        Args:
            patience: seconds without success after which to give up; six times as long while there is no failure either.
        """
        self._progressed()
        self._closing.set()
        self._urgent.set()
        while self.is_alive() and self._spool.pending:
            self.join(0.05)
            if time.monotonic() - self._tried > (patience if self.problem else 6 * patience):
                break
        return not self._spool.pending


def send_all(spool: Spool, receiver: Receiver, say: Say, progressed: Callable[[], None] = lambda: None) -> None:
    """Send a spool from its front until it is empty.

    Raises:
        Unreachable: as soon as the receiver cannot take more.
    """
    while operations := spool.first(2000):
        count, refused = receiver.send(operations, spool.ids)
        spool.taken(count)
        progressed()
        for message in refused:
            say(f"MLflow refused a record, which is left out: {message}")

"""How much memory a piece of work takes at its peak. `ru_maxrss` cannot tell: it keeps the peak of what ran before, even a parent's."""

import gc
import re
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def highest() -> int:
    """The process's peak of resident memory since it was last forgotten, in kB."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1])


def taken(work: Callable[[], object]) -> int:
    """kB by which resident memory rises at most while `work` runs."""
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak
    before = highest()
    work()
    return highest() - before


@contextmanager
def at_most(megabytes: int) -> Iterator[None]:
    """A limit on what the program may take of memory for itself; files that are mapped do not count."""
    gc.collect()  # what would be freed on the way would be room
    found = re.search(r"VmData:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    before = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (int(found[1]) * 1024 + megabytes * 1_000_000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)

"""How much memory a piece of work takes at its peak. `ru_maxrss` cannot tell: it keeps the peak of what ran before, even a parent's."""

import re
from collections.abc import Callable
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

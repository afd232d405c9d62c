"""Memory that is freed and soon wanted again."""

import ctypes

MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1
"""Numbers of glibc's `mallopt`."""


def keep_freed_memory() -> None:
    """Let the process keep what it frees, for its next allocation, instead of giving it back to the kernel.

    A step on a CPU allocates the same few megabytes again and again; to have the kernel map them anew each time takes about half
    of the time in which views are made. It is glibc's allocator that is told so; with another one nothing changes.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(MMAP_THRESHOLD, 1 << 25)  # the largest that it takes
        mallopt(TRIM_THRESHOLD, 1 << 30)

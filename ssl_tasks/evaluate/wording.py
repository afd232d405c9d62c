"""Small words."""

from collections.abc import Sequence


def enumerated(parts: Sequence[str]) -> str:
    """One, two and three."""
    return " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]]))

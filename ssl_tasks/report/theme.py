"""Colours of every report, for a light and for a dark page."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Theme:
    """Colours that depend on the page; `card` is the ground that figures lie on."""

    card: str
    ink: str
    muted: str
    line: str
    right: str
    wrong: str
    hues: tuple[str, ...]
    """First the teacher's, then one a student."""
    lightness: float
    """Of a class's colour in a map."""


LIGHT = Theme("#ffffff", "#1c2230", "#667085", "#e3e6ec", "#12805c", "#c2362b", ("#3b4cc0", "#d2600a", "#0b8478", "#a8328a", "#8a6d00", "#4f7a1f"), 0.42)
DARK = Theme("#171b23", "#e6e9f0", "#9aa4b5", "#2d3543", "#4cc38a", "#ff7a6b", ("#93a2ff", "#ff9d5c", "#45cbb9", "#ee86cf", "#e0bf4a", "#a5d46a"), 0.66)

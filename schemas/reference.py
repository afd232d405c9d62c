"""The YAML reference, `docs/reference.md`: the language in prose, then every mapping with its keys, from the models.

`python -m schemas.reference` writes it.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from schemas import shapes
from schemas.catalog import GROUPS, meaning, parameters, stated
from schemas.dvae import DVAE
from schemas.embeddings import Embedding
from schemas.encoders import Encoder
from schemas.exports import Registered
from schemas.pipeline import Pipeline, Schedule
from schemas.resources import Resources
from schemas.spec import Spec
from schemas.stages import Comparison, Stage
from schemas.strict_yaml import spelled
from schemas.training import Optimizer, Train
from schemas.views import PRESETS, Views

FILE = Path(__file__).parents[1] / "docs" / "reference.md"
PROSE = Path(__file__).with_name("language.md")
_UNIONS: dict[str, Any] = {"Stage": Stage, **{name.capitalize(): union for name, union in GROUPS.items()}, "Embedding": Embedding, "Optimizer": Optimizer}
_MAPPINGS: dict[str, type[Spec]] = {
    "Encoder": Encoder,
    "DVAE": DVAE,
    "Views": Views,
    "Train": Train,
    "Resources": Resources,
    "Comparison": Comparison,
    "Registered": Registered,
    "Schedule": Schedule,
}


def reference() -> str:
    """The page as Markdown."""
    return "\n".join([PROSE.read_text(), *_page()]) + "\n"


def _page() -> Iterator[str]:
    yield from ("## Pipeline\n", *described(Pipeline), "")
    for title, union in _UNIONS.items():
        yield f"## {title}: `kind`\n"
        for kind, spec in shapes.kinds(union).items():
            yield from (f"### `{kind}`\n", *described(spec), "")
    for title, spec in _MAPPINGS.items():
        yield from (f"## {title}\n", *described(spec), "")
        if spec is Views:
            yield from ("A preset sets:\n\n| preset | values that differ from the defaults above |\n|---|---|", *map(_preset, PRESETS), "")


def _preset(name: str) -> str:
    return f"| `{name}` | `{spelled(stated(Views.model_validate(name)))}` |"


def described(spec: type[Spec]) -> Iterator[str]:
    """A mapping as Markdown: its meaning, and a table of its keys."""
    yield meaning(spec) + (f" [Paper]({spec.paper})." if spec.paper else "")
    keys = parameters(spec)
    if not keys:
        return
    yield "\n| key | type | default | meaning |\n|---|---|---|---|"
    for key in keys:
        default = "required" if key.required else f"`{spelled(key.default)}`"
        yield f"| `{key.name}` | {_cell(key.type)} | {_cell(default)} | {_cell(key.description)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def write(folder: Path, pages: Mapping[str, str]) -> None:
    """Write generated pages, by their file names, and remove those in the folder that are not among them."""
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.md"):
        if old.name not in pages:
            old.unlink()
    for name, text in pages.items():
        (folder / name).write_text(text)


if __name__ == "__main__":
    FILE.write_text(reference())

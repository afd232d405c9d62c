"""How every report looks: one palette, one style sheet, pages that need nothing but themselves."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from ssl_tasks.report.theme import DARK, LIGHT


def template(folder: Path) -> Template:
    """The `report.html` of a folder: what goes into it is escaped, what is missing is an error.

    It includes `style.css` from here, which takes its colours from the global `themes`: light, dark.
    """
    loader = FileSystemLoader([folder, Path(__file__).parent])
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.globals["themes"] = (LIGHT, DARK)
    return environment.get_template("report.html")

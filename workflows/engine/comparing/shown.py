"""What `sslflow compare` shows: tables on a terminal, and one self-contained HTML page."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from schemas.errors import UserError
from ssl_tasks.report import template
from workflows.engine.comparing import Comparison
from workflows.engine.comparing.numbers import Line, Measured
from workflows.engine.display import duration, state

NOTHING = "\u2014"
NOISE = 0.05
_LONGEST = 60


def letters(count: int) -> list[str]:
    """What runs are called in tables: A to Z, then their number."""
    return [chr(ord("A") + i) if i < 26 else str(i + 1) for i in range(count)]


def show(out: Console, found: Comparison) -> None:
    """Print the runs, the settings that differ, the numbers that differ, and what does not compare."""
    called = letters(len(found.runs))
    for letter, run in zip(called, found.runs, strict=True):
        out.print(f"[bold]{letter}[/] {run['id']} {state(run['status'])}", highlight=False)
    if found.settings:
        out.print("\n[bold]settings that differ[/]")
        table = _table("key", called)
        for setting in found.settings:
            table.add_row(escape(setting.key), *(escape(told(value)) for value in setting.values))
        out.print(table)
    else:
        out.print("\nno setting differs")
    out.print(f"\n[bold]numbers that differ[/] ({found.same} are the same in all runs)" if found.lines else f"\nno number differs ({found.same} are the same)")
    if found.lines:
        table = _table("number", called, [f"{letter} - first" for letter in called[1:]])
        for line, raised in zip(found.lines, found.p, strict=True):
            cells = [number_text(number) for number in line.numbers]
            twin = any(other is not line and other.name == line.name for other in found.lines)
            table.add_row(escape(f"{line.name} ({conditions(line)})" if twin else line.name), *cells, *difference_texts(line, raised)[1:])
        out.print(table)
        out.print("[dim]intervals of 95%; ~ is within noise (p above 0.05, raised by Holm for the number of tests)[/]", highlight=False)
    for sentence in found.apart:
        out.print(f"not comparable: {escape(sentence)}", highlight=False, soft_wrap=True)


def _table(first: str, columns: Sequence[str], more: Sequence[str] = ()) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column(first, overflow="fold")
    for column in (*columns, *more):
        table.add_column(column, justify="right", overflow="fold")
    return table


def told(value: Any) -> str:
    """A setting in a cell."""
    text = NOTHING if value is None else f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."


def amount(value: float) -> str:
    """A number in a cell: three decimals of a small one."""
    return f"{value:.3f}" if abs(value) < 100 else f"{value:,.1f}"


def conditions(line: Line) -> str:
    """Under what the numbers of a line were made."""
    under = {"split": line.conditions["split"][:8], **line.conditions["settings"]}
    return ", ".join([line.conditions["version"], *(f"{key} {told(value)}" for key, value in under.items() if value not in (None, [], {}))])


def number_text(number: Measured | None) -> str:
    """A number and its interval."""
    if number is None:
        return NOTHING
    low, high = number.row.get("low"), number.row.get("high")
    return amount(number.value) + (f" [{amount(low)}, {amount(high)}]" if low is not None and high is not None else "")


def difference_texts(line: Line, raised: Sequence[float | None]) -> list[str]:
    """Each run's difference to the first of the line with its interval, behind ~ where it is within noise; empty where nothing tells."""
    texts = []
    for difference, p in zip(line.differences, raised, strict=True):
        if difference is None or p is None:
            texts.append("")
            continue
        noise = "~ " if p > NOISE else ""
        texts.append(f"{noise}{difference.mean:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}] p {p:.2g}")
    return texts


def write(found: Comparison, path: Path) -> None:
    """Write the page. Raises UserError where that cannot be."""
    try:
        path.write_text(page(found), encoding="utf-8")
    except OSError as error:
        raise UserError(f"--out {path}: cannot be written ({error.strerror})") from None


def page(found: Comparison) -> str:
    """The comparison as one HTML page that needs nothing but itself."""
    called = letters(len(found.runs))
    tested = {d.how for line in found.lines for d in line.differences if d}
    runs = [
        {
            "letter": letter,
            "id": run["id"],
            "pipeline": run["pipeline"],
            "status": run["status"],
            "started": run["started"].replace("T", " ")[:16],
            "took": duration(run["seconds"]) if "seconds" in run else "",
            "file": run.get("file", ""),
            "commit": run.get("environment", {}).get("git_commit", ""),
        }
        for letter, run in zip(called, found.runs, strict=True)
    ]
    lines = []
    for line, raised in zip(found.lines, found.p, strict=True):
        quiet = [p is None or p > NOISE for p in raised]
        differences = list(zip(difference_texts(line, raised), quiet, strict=True))[1:]
        lines.append(
            {
                "model": line.model,
                "measure": line.measure,
                "under": conditions(line),
                "numbers": [_parts(number) for number in line.numbers],
                "differences": differences,
            }
        )
    settings = [(setting.key, [told(value) for value in setting.values]) for setting in found.settings]
    facts = {"runs": len(runs), "settings that differ": len(settings), "numbers that differ": len(lines), "numbers that are the same": found.same}
    return template(Path(__file__).parent).render(
        runs=runs, letters=called, settings=settings, lines=lines, apart=found.apart, tests=sorted(tested), facts=facts, nothing=NOTHING
    )


def _parts(number: Measured | None) -> tuple[str, str]:
    """A number, and its interval as small print."""
    value, _, interval = number_text(number).partition(" ")
    return value, interval

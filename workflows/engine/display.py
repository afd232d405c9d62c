"""What a person sees: live progress of a run, and tables of plans, runs, methods and results."""

import sys
import time
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Table

from ssl_tasks.evaluate.metrics import METRICS
from workflows.engine.reuse import Plan, Planned

MARKS = {"reused": "[dim]reused[/]", "run": "[green]run[/]", "waits": "[yellow]waits[/]", "skipped": "[dim]skipped[/]"}
STATES = {"done": "green", "running": "cyan", "failed": "red", "cancelled": "yellow", "died": "red", "reused": "dim", "skipped": "yellow"}
_EVERY = 10.0


def state(word: str) -> str:
    """A status in its colour."""
    return f"[{STATES.get(word, 'default')}]{word}[/]"


def duration(seconds: float) -> str:
    """Seconds as a person says them: `41 s`, `3 min 20 s`, `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


class Live:
    """Shows the events of a run: a bar a stage on a terminal, plain lines elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars: dict[str, TaskID] = {}
        self._said: dict[str, float] = {}
        self._progress = Progress(
            TextColumn("{task.description}", justify="left"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[facts]}"),
            console=console,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._progress.stop()

    def __call__(self, stage: str, event: dict[str, Any]) -> None:
        match event["event"]:
            case "state":
                self._state(stage, event)
            case "progress":
                self._advance(stage, event)
            case "note":
                self._console.print(f"{stage}: {event['message']}", markup=False, highlight=False)

    def _state(self, stage: str, event: dict[str, Any]) -> None:
        facts = " ".join(str(event[k]) for k in ("detail",) if event.get(k))
        if event["status"] == "running" and self._console.is_terminal:
            self._bars.setdefault(stage, self._progress.add_task(escape(stage), total=None, facts=escape(facts)))
            return
        if stage in self._bars:
            self._progress.remove_task(self._bars.pop(stage))
        self._console.print(f"{escape(stage)}: {state(event['status'])} {escape(facts)}".rstrip(), highlight=False)

    def _advance(self, stage: str, event: dict[str, Any]) -> None:
        facts = _facts(event)
        if stage in self._bars:
            self._progress.update(self._bars[stage], completed=event["step"], total=event["steps"], facts=facts)
        elif time.monotonic() - self._said.get(stage, 0.0) > _EVERY:
            self._said[stage] = time.monotonic()
            self._console.print(f"{stage}: {facts}", markup=False, highlight=False)


def _facts(event: dict[str, Any]) -> str:
    values = dict(event["values"])
    left, speed = values.pop("seconds_left", None), values.pop("images_per_second", None)
    facts = [f"{event['step']}/{event['steps']}", *(f"{name} {value:.4g}" for name, value in values.items())]
    facts += [f"{speed:,.0f} images/s"] if speed is not None else []
    facts += [f"{duration(left)} left"] if left is not None else []
    return "  ".join(facts)


def plan_table(plan: Plan, sizes: dict[str, dict[str, Any]]) -> Table:
    """The stages in order, with what will happen to each and why."""
    table = Table(title=f"{plan.pipeline.name}: {len(plan.todo)} of {len(plan.stages)} stages to run", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for column in ("stage", "kind", "", "why", "parameters", "steps", "images seen"):
        table.add_column(column, justify="right" if column in ("parameters", "steps", "images seen") else "left", overflow="fold")
    for planned in plan.stages.values():
        size = sizes.get(planned.name, {})
        reason = planned.reason if planned.status != "waits" else f"{planned.reason} (after {', '.join(_unmade_parents(plan, planned))})"
        table.add_row(
            escape(planned.name), planned.stage.kind, MARKS[planned.status], escape(reason), *(size.get(k, "") for k in ("parameters", "steps", "images_seen"))
        )
    return table


def _unmade_parents(plan: Plan, planned: Planned) -> list[str]:
    return [p for p in planned.parents if plan.stages[p].status in ("run", "waits")]


def result_table(rows: list[dict[str, Any]]) -> Table:
    """Models as rows, a protocol's first number as a column; its other ones, and what models cost, stand in the report."""
    measures = _first(rows)
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("model")
    table.add_column("parameters", justify="right")
    for measure in measures:
        table.add_column(measure, justify="right")
    for model in dict.fromkeys(r["model"] for r in rows):
        cells = {_measure(r): r for r in rows if r["model"] == model}
        parameters = next(iter(cells.values())).get("parameters")
        table.add_row(escape(model), f"{parameters:,}" if parameters else "", *(_cell(cells.get(m)) for m in measures))
    return table


def _first(rows: list[dict[str, Any]]) -> list[str]:
    """Of each protocol the measure that its name stands for, else the first that tables show; all where tables show none."""
    shown = [row for row in rows if METRICS[row["metric"]].shown]
    main = {row["protocol"]: _measure(row) for row in shown if METRICS[row["metric"]].main}
    first = {row["protocol"]: main.get(row["protocol"], _measure(row)) for row in reversed(shown)}
    return list(first.values())[::-1] or list(dict.fromkeys(map(_measure, rows)))


def _measure(row: dict[str, Any]) -> str:
    """What a row is of; reports made before protocols gave several numbers name the protocol alone."""
    named: str = row.get("measure", row["protocol"])
    return named


def _cell(row: dict[str, Any] | None) -> str:
    if row is None:
        return ""
    value = f"{row['value']:.3f}" if row["value"] < 10 else f"{row['value']:,.1f}"
    return f"{value} ± {row['spread']:.3f}" if row.get("spread") else value


def console(*, to_stderr: bool = False) -> Console:
    """The terminal, or where there is none a plain stream that folds and cuts no line."""
    stream = sys.stderr if to_stderr else sys.stdout
    return Console(file=stream, width=None if stream.isatty() else 10_000, soft_wrap=not stream.isatty())

"""The command line. Each command is a few lines over the modules beside this one, imported when it is called."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from schemas.errors import InvalidPipeline, Problem, UserError
from workflows.engine import cli_compare, cli_methods, cli_models
from workflows.engine.cli_options import DONE, FAILED, INTERRUPTED, INVALID, Json, Workspace, print_json

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Self-supervised vision models as a reproducible pipeline.",
)

app.add_typer(cli_models.app)
app.add_typer(cli_compare.app)
app.add_typer(cli_methods.app)

File = Annotated[Path, typer.Argument(help="Pipeline YAML", show_default=False)]
Sets = Annotated[list[str], typer.Option("--set", metavar="PATH=VALUE", help="Override a value, such as stages.teacher.train.epochs=5.", show_default=False)]
Start = Annotated[str, typer.Option("--from", metavar="STAGE", help="Run this stage and all that depend on it again; what it takes from must be made.")]
Until = Annotated[str, typer.Option("--until", metavar="STAGE", help="Stop after this stage.")]
Force = Annotated[list[str], typer.Option("--force", metavar="STAGE", help="Run this stage again, and all that depend on it.", show_default=False)]


def main() -> None:
    """Run the command line; a user's mistake is one line on stderr and an exit status, never a traceback."""
    try:
        _check_origin()
        app()
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(INVALID)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@app.command(epilog="Example: sslflow validate workflows/quickstart.yaml")
def validate(files: Annotated[list[Path], typer.Argument(help="Pipeline YAML files", show_default=False)], sets: Sets = [], as_json: Json = False) -> None:  # noqa: B006 (typer copies it)
    """Check pipeline files: every fault of each, with its place, and warnings of what is unlikely to work."""
    from schemas.load import load, warnings

    faults, doubts = [], []
    for file in files:
        try:
            pipeline = load(file, sets)
            doubts += warnings(file, sets)
            if not as_json:
                print(f"{file}: valid, {len(pipeline.stages)} stages: {' -> '.join(pipeline.order())}")
        except InvalidPipeline as invalid:
            faults += invalid.problems
    if as_json:
        print_json({"valid": not faults, "problems": [_stated(p) for p in faults], "warnings": [_stated(p) for p in doubts]})
    else:
        for line in [*map(str, faults), *(f"warning: {doubt}" for doubt in doubts)]:
            print(line, file=sys.stderr)
    if faults:
        raise SystemExit(INVALID)


@app.command(epilog="Example: sslflow plan workflows/quickstart.yaml --set stages.teacher.train.epochs=5")
def plan(file: File, sets: Sets = [], start: Start = "", until: Until = "", force: Force = [], workspace: Workspace = Path("."), as_json: Json = False) -> None:  # noqa: B006
    """Show what would run, what is made already, and why."""
    from schemas.load import warnings
    from workflows.engine.run import Selection, plan_pipeline
    from workflows.engine.sizes import sizes

    made = plan_pipeline(file, workspace.resolve(), sets, select=Selection(start, until, force))
    doubts = warnings(file, sets)
    if as_json:
        extent = sizes(made)
        stages = [
            {
                "stage": p.name,
                "kind": p.stage.kind,
                "status": p.status,
                "reason": p.reason,
                "key": p.key,
                "parents": p.parents,
                "missing": p.missing,
                **extent.get(p.name, {}),
            }
            for p in made.stages.values()
        ]
        print_json({"pipeline": made.pipeline.name, "to_run": [p.name for p in made.todo], "stages": stages, "warnings": [_stated(p) for p in doubts]})
        return
    from workflows.engine.display import console, plan_table

    console().print(plan_table(made, sizes(made)))
    for doubt in doubts:
        print(f"warning: {doubt}", file=sys.stderr)


@app.command(epilog="Example: sslflow run workflows/quickstart.yaml --until teacher")
def run(file: File, sets: Sets = [], start: Start = "", until: Until = "", force: Force = [], workspace: Workspace = Path("."), as_json: Json = False) -> None:  # noqa: B006
    """Run what is not made yet; interrupted training goes on where it was."""
    from workflows.engine.display import Live, console
    from workflows.engine.explain import outcome_json, print_outcome
    from workflows.engine.run import Selection, run_pipeline, unheard

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    out = console(to_stderr=as_json)
    live = Live(out)
    with _quiet_stdout() if as_json else nullcontext(), live:
        outcome = run_pipeline(file, workspace, sets, select=Selection(start, until, force), listen=unheard if as_json else live)
    if as_json:
        print_json(outcome_json(outcome))
    else:
        print_outcome(out, outcome)
    raise SystemExit({"nothing to do": DONE, "done": DONE, "failed": FAILED, "cancelled": INTERRUPTED}[outcome.status])


@app.command(epilog="Example: sslflow runs --json")
def runs(workspace: Workspace = Path("."), limit: Annotated[int, typer.Option(help="How many of the newest.")] = 20, as_json: Json = False) -> None:
    """List what ran, when, and how it ended."""
    from itertools import islice

    from workflows.engine import ledger

    records = list(islice(ledger.runs(workspace.resolve()), limit))
    if as_json:
        print_json(records)
        return
    from rich.table import Table

    from workflows.engine.display import console, duration, state

    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("run", "status", "started", "took", "made", "reused"):
        table.add_column(column)
    for record in records:
        made = [n for n, s in record["stages"].items() if s["status"] == "done"]
        reused = [n for n, s in record["stages"].items() if s["status"] == "reused"]
        took = duration(record["seconds"]) if "seconds" in record else ""
        table.add_row(record["id"], state(record["status"]), record["started"].replace("T", " ")[:19], took, ", ".join(made), ", ".join(reused))
    console().print(table if records else "no runs yet; start one with `sslflow run FILE`")


@app.command(epilog="Example: sslflow show students.small; sslflow show clean --image train/0/0000.bmp")
def show(
    name: Annotated[str, typer.Argument(help="Run id, artifact key (or the start of one), stage, RUN/STAGE, or `latest`")],
    image: Annotated[str, typer.Option(metavar="ID", help="Why this image is in or out: an id, a uri, or a sha256 or its start.")] = "",
    against: Annotated[str, typer.Option(metavar="OTHER", help="Which images came in and went out since this Dataset, and why.")] = "",
    workspace: Workspace = Path("."),
    as_json: Json = False,
) -> None:
    """Explain a run, or an artifact down to the data, config and commit that made it; an image of a Dataset; or what two Datasets differ in."""
    from workflows.engine import lineage
    from workflows.engine.explain import artifact_json, print_artifact, print_run

    folder = workspace.resolve()
    if image or against:
        from workflows.engine import explain_images as images

        if image and against:
            raise UserError("--image asks of one dataset, --against compares two: give one of them")
        if image:
            fates = images.fates(folder, name, image)
            print_json(images.image_json(fates)) if as_json else images.print_image(fates)
        else:
            told = images.difference(folder, name, against)
            print_json(told) if as_json else images.print_difference(told)
        return
    found = lineage.find(folder, name)
    if as_json:
        print_json(found if isinstance(found, dict) else artifact_json(folder, found))
    elif isinstance(found, dict):
        print_run(folder, found)
    else:
        print_artifact(folder, found)


@app.command(epilog="Example: sslflow replay .sslflow/work/KEY/failure")
def replay(folder: Annotated[Path, typer.Argument(help="Folder that the error named", show_default=False)]) -> None:
    """Run the step whose loss was not finite again, and say where it begins."""
    from ssl_tasks.replay import main as run_again

    raise SystemExit(run_again(folder))


@app.command(epilog="Example: sslflow schema > pipeline.schema.json")
def schema() -> None:
    """Print the JSON Schema of a pipeline file, with which an editor completes it."""
    from schemas.json_schema import pipeline_schema

    print_json(pipeline_schema())


@app.command(epilog="Example: sslflow deploy workflows/quickstart.yaml --pool local --cron '0 3 * * 1'")
def deploy(
    file: Annotated[Path, typer.Argument(help="Pipeline YAML, or a folder of which each with a schedule is deployed", show_default=False)],
    pool: Annotated[str, typer.Option(help="Prefect work pool whose workers run it.")],
    cron: Annotated[str, typer.Option(help="Schedule; the YAML's own where not given.")] = "",
    sets: Sets = [],  # noqa: B006
    workspace: Workspace = Path("."),
) -> None:
    """Register the pipeline as a Prefect deployment, with its parameters and schedule."""
    from workflows.engine.deploy import deploy as register
    from workflows.engine.deploy import scheduled

    for each in scheduled(file) if file.is_dir() else [file]:
        name = register(each, pool, cron or None, overrides=tuple(sets), workspace=workspace.resolve())
        print(f"deployed {name}; start it with: prefect deployment run '{name}'")


@app.command(epilog="Example: sslflow up --worker")
def up(worker: Annotated[bool, typer.Option("--worker", help="Also start a process worker on the pool `local`.")] = False) -> None:
    """Start a persistent Prefect server on this machine, that later runs and deploys find by themselves."""
    from workflows.engine.servers import up as start

    start(worker)


@app.command(epilog="Example: sslflow down")
def down() -> None:
    """Stop what `up` started."""
    from workflows.engine.servers import down as stop

    stop()


@app.command(epilog="Example: sslflow ui --port 5000")
def ui(port: Annotated[int, typer.Option(help="Port of the MLflow UI.")] = 5000, workspace: Workspace = Path(".")) -> None:
    """Serve the MLflow UI on this workspace's store, and say where Prefect's is."""
    from workflows.engine.mlflow_ui import ui as serve
    from workflows.engine.servers import address

    serve(workspace.resolve(), port, address() or "")


def _stated(problem: Problem) -> dict[str, Any]:
    return {**asdict(problem), "file": str(problem.file)}


@contextmanager
def _quiet_stdout() -> Iterator[None]:
    """Send whatever a library prints to stderr, so that stdout holds one JSON document."""
    keep = os.dup(1)
    sys.stdout.flush()
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(keep, 1)
        os.close(keep)


def _check_origin() -> None:
    """Refuse to run beside a foreign package that is called `workflows` or `schemas` too."""
    import schemas
    import workflows

    here = Path(__file__).resolve().parents[2]
    for package in (workflows, schemas):
        if Path(package.__file__ or "").resolve().parents[1] != here:
            raise UserError(f"another package named '{package.__name__}' comes before sslflow's: {package.__file__}; use an environment of its own")


if __name__ == "__main__":
    main()

"""`sslflow methods`: everything that a pipeline may name, what is known of it, and which method to choose."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console

from schemas.catalog import Entry, catalog
from schemas.choosing import Choice, Use, advise
from schemas.encoders import Encoder
from schemas.errors import UserError, did_you_mean
from workflows.engine.cli_options import Json, print_json

app = typer.Typer()


@app.command(epilog="Example: sslflow methods --json; sslflow methods --advise --images 20000 --encoder resnet50 --task global")
def methods(
    asked: Annotated[bool, typer.Option("--advise", help="Say which pretraining method to choose, and why.")] = False,
    images: Annotated[int, typer.Option(min=1, help="With --advise: how many images there are to train on.")] = 100_000,
    encoder: Annotated[str, typer.Option(help="With --advise: the timm model that is to be trained.")] = "vit_small_patch16_224",
    task: Annotated[Use, typer.Option(help="With --advise: what features are for, places, whole images or both.")] = "both",
    as_json: Json = False,
) -> None:
    """List every curation step, method, distiller and protocol, with paper and parameters; or say which method to choose."""
    from workflows.engine.display import console

    if asked:
        choices = advise(images, _known(encoder), task)
        print_json([choice._asdict() for choice in choices]) if as_json else _print_advice(console(), choices)
    elif as_json:
        print_json([asdict(entry) for entry in catalog()])
    else:
        _print_catalog(console(), catalog())


def _known(name: str) -> Encoder:
    """An encoder that timm knows by its name."""
    import timm

    if not timm.is_model(name.split(".")[0]):
        raise UserError(f"--encoder '{name}': timm has no such model; {did_you_mean(name, timm.list_models()) or 'see timm.list_models()'}")
    return Encoder.model_construct(name=name)


def _print_advice(out: Console, choices: list[Choice]) -> None:
    for choice in choices:
        out.print(f"[bold]{choice.what}[/]  {choice.why}", highlight=False)
        out.print(f"    {choice.source}", style="dim", highlight=False, markup=False)


def _print_catalog(out: Console, entries: list[Entry]) -> None:
    """Every entry with its one-line meaning, its paper, and its parameters with their defaults."""
    group = ""
    for entry in entries:
        if entry.group != group:
            group = entry.group
            out.print(f"\n[bold underline]{group}[/]")
        out.print(f"[bold]{entry.kind}[/]  {entry.meaning}", highlight=False)
        if entry.paper:
            out.print(f"    {entry.paper}", style="dim", highlight=False)
        for line in _facts(entry):
            out.print(f"    {line}", highlight=False, markup=False)
        for parameter in entry.parameters:
            default = "required" if parameter.required else f"= {parameter.default}"
            out.print(f"    {parameter.name} ({parameter.type}) {default}  {parameter.description}", style="dim", highlight=False, markup=False)


def _facts(entry: Entry) -> Iterator[str]:
    """Family, year, needs and figures of a pretraining method, a line each."""
    if (facts := entry.facts) is None:
        return
    wants = f"; a batch of {facts.smallest_batch} or more" if facts.smallest_batch else ""
    yield f"{facts.family}, {facts.year}; exports the {facts.exports}; encoders: {facts.encoders}; needs: {', '.join(facts.needs) or 'nothing besides'}{wants}"
    if facts.figures:
        yield "published: " + "; ".join(map(str, facts.figures))
    if facts.measured:
        yield f"measured here: {facts.measured}"

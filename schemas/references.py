"""Which fields of a stage name other stages, and what they may name."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from schemas.artifacts import ArtifactType, Takes
from schemas.spec import Spec
from schemas.stages import StageBase

Loc = tuple[str | int, ...]


@dataclass(frozen=True)
class Reference:
    """A place in a stage that names what another stage makes: `teacher`, `students.small`, `teacher[seed=0]`."""

    loc: Loc
    takes: ArtifactType
    text: str

    @property
    def stage(self) -> str:
        """The stage that is named, with its matrix values: `students[seed=0].small` is of `students[seed=0]`."""
        return split(self.text)[0]

    @property
    def output(self) -> str:
        """The output that is named; empty for the unnamed one."""
        return split(self.text)[1]


def split(text: str) -> tuple[str, str]:
    """Stage and output of a reference; a dot inside brackets belongs to the stage."""
    head, bracket, tail = text.rpartition("]")
    stage, _, output = tail.partition(".")
    return head + bracket + stage, output


def references(spec: Spec, loc: Loc = ()) -> Iterator[Reference]:
    """Every reference in `spec`, depth first, in the order in which the fields are declared."""
    for name, field in type(spec).model_fields.items():
        mark = next((m for m in (*field.metadata, *_inner(field.annotation)) if isinstance(m, Takes)), None)
        yield from _walk(getattr(spec, name), mark, (*loc, name))


def _inner(annotation: Any) -> Iterator[Any]:
    for argument in get_args(annotation):
        yield argument
        yield from _inner(argument)


def _walk(value: Any, mark: Takes | None, loc: Loc) -> Iterator[Reference]:
    if isinstance(value, Spec):
        yield from references(value, loc)
    elif isinstance(value, str) and mark:
        yield Reference(loc, mark.artifact, value)
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from _walk(item, mark, (*loc, i))
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _walk(item, mark, (*loc, key))


def problems(stages: Mapping[str, StageBase], kinds: Mapping[str, str]) -> Iterator[tuple[Loc, str]]:
    """What is wrong with the references of `stages`: missing stages and outputs, wrong types, cycles.

    Args:
        stages: the stages that are valid by themselves.
        kinds: the kind of each stage of the file, valid or not, so that a broken stage is not called missing.
    """
    for name, stage in stages.items():
        for reference in references(stage):
            if message := _wrong(reference, name, stages, kinds):
                yield ("stages", name, *reference.loc), message
    yield from (((("stages", cycle[0])), f"stages wait on each other: {' -> '.join((*cycle, cycle[0]))}") for cycle in cycles(stages))


def _wrong(reference: Reference, name: str, stages: Mapping[str, StageBase], kinds: Mapping[str, str]) -> str:
    wanted = f"'{reference.text}'"
    if reference.stage not in kinds:
        makers = [n for n, s in stages.items() if s.makes == reference.takes and n != name]
        near = _did_you_mean(reference.stage, list(kinds))
        return f"no stage {wanted}; {near or 'stages that make a ' + reference.takes + ': ' + (', '.join(makers) or 'none')}"
    maker = stages.get(reference.stage)
    if maker is None:
        return ""
    if maker.makes != reference.takes:
        return f"{wanted} makes a {maker.makes}, wanted a {reference.takes}"
    if reference.output not in maker.outputs:
        made = ", ".join(f"{reference.stage}.{o}" if o else reference.stage for o in maker.outputs)
        return f"no output {wanted}; '{reference.stage}' makes {made}"
    return ""


def _did_you_mean(word: str, known: list[str]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(word, known, n=1, cutoff=0.6)
    return f"did you mean '{near[0]}'?" if near else ""


def cycles(stages: Mapping[str, StageBase]) -> list[tuple[str, ...]]:
    """Each cycle of the graph once, as the stages on it."""
    found: list[tuple[str, ...]] = []
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            found.append(path[path.index(name) :])
        elif name not in done and name in stages:
            for reference in references(stages[name]):
                visit(reference.stage, (*path, name))
            done.add(name)

    for name in stages:
        visit(name, ())
    return found


def in_order(stages: Mapping[str, StageBase]) -> list[str]:
    """Stage names so that each comes after those it takes from; the file's order where that leaves a choice."""
    placed: list[str] = []

    def place(name: str) -> None:
        if name not in placed:
            for reference in references(stages[name]):
                place(reference.stage)
            placed.append(name)

    for name in stages:
        place(name)
    return placed

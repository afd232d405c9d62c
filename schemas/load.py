"""From a YAML file to a Pipeline, or to all of its faults at once.

In this order: `extends`, `--set`, `${...}`, `matrix`, the pipeline's seed, references in lists, `distilled`; then the models validate.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from schemas import references
from schemas.distilled import judged
from schemas.errors import InvalidPipeline, Problem, did_you_mean
from schemas.explain import at, explain
from schemas.interpolate import interpolate
from schemas.locate import Node, Place, described, join, located, plain
from schemas.matrix import expand, meant, spread
from schemas.overlay import overlay, override
from schemas.pipeline import Pipeline
from schemas.shapes import find, kind_of, written_references
from schemas.stages import KINDS, Stage, StageBase
from schemas.strict_yaml import parse, read

_STAGE: TypeAdapter[Stage] = TypeAdapter(Stage)
_LONGEST_CHAIN = 20
_MOST_PROBLEMS = 200
_PARAMETERS = Path("parameters")


def load(file: Path, overrides: Sequence[str] = (), params: Mapping[str, Any] | None = None, environ: Mapping[str, str] = os.environ) -> Pipeline:
    """The pipeline of a file.

    Args:
        overrides: `stages.teacher.train.epochs=5`, as after `--set`; values are read as YAML.
        params: values of a deployment for parameters that the file declares; they win over file and overrides.

    Raises:
        InvalidPipeline: with every fault of the file, those that it extends, and the overrides.
    """
    return loads(read(file), file, overrides, params, environ)


def loads(
    text: str,
    file: Path = Path("pipeline.yaml"),
    overrides: Sequence[str] = (),
    params: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Pipeline:
    """As `load`, for the text of a file; `extends` is relative to the folder of `file`.

    Raises:
        InvalidPipeline: as `load`.
    """
    return _checked(text, file, overrides, params, environ)[0]


def warnings(file: Path, overrides: Sequence[str] = (), params: Mapping[str, Any] | None = None, environ: Mapping[str, str] = os.environ) -> list[Problem]:
    """What of a valid file is unlikely to work, each at its place, in the order of the lines; see `schemas.advice`.

    Raises:
        InvalidPipeline: as `load`.
    """
    from schemas.advice import advice

    pipeline, root = _checked(read(file), file, overrides, params, environ)
    return _in_order([at(find(root, loc).node, message) for loc, message in advice(pipeline)])


def _checked(text: str, file: Path, overrides: Sequence[str], params: Mapping[str, Any] | None, environ: Mapping[str, str]) -> tuple[Pipeline, Node]:
    """The pipeline, and the tree that it was made from."""
    problems: list[Problem] = []
    try:
        root = _extended(text, file, problems)
        for assignment in overrides:
            root = override(root, assignment, problems)
        root = interpolate(_with_params(root, params or {}, problems), environ, problems)
        root = _with_seed(expand(root, problems))
        pipeline, root, faults = _validated(root)
    except InvalidPipeline as stop:
        raise InvalidPipeline(_in_order([*problems, *stop.problems])) from None
    early = {_spot(problem) for problem in problems}
    problems += [fault for fault in faults if _spot(fault) not in early]
    if problems or pipeline is None:
        raise InvalidPipeline(_in_order(problems))
    return pipeline, root


def _extended(text: str, file: Path, problems: list[Problem], chain: tuple[Path, ...] = ()) -> Node:
    """The file's tree, laid over those that it extends."""
    root = parse(text, file, problems)
    if root is None or root.value is None:
        raise InvalidPipeline([Place(file, 1, 1).problem("", "the file is empty; a pipeline has a name and stages")])
    if not isinstance(root.value, dict):
        raise InvalidPipeline([root.place.problem("", f"a pipeline is a mapping with a name and stages, not {described(root)}")])
    link = root.value.get("extends")
    if link is None:
        return root
    root = replace(root, value={key: node for key, node in root.value.items() if key != "extends"})
    base, fault = _base(link, (*chain, file))
    if fault:
        problems.append(link.place.problem("extends", fault))
        return root
    below = _extended(read(base), base, problems, (*chain, file))
    return replace(overlay(below, root), place=root.place)


def _base(link: Node, chain: tuple[Path, ...]) -> tuple[Path, str]:
    """The file that `extends` names, and why it cannot be used."""
    if not isinstance(link.value, str):
        return Path(), f"must be the path of a file, not {described(link)}"
    base = chain[-1].parent / link.value
    try:
        if base.resolve() in (file.resolve() for file in chain):
            return base, f"files extend each other: {' -> '.join(map(str, (*chain, base)))}"
        read(base)
    except InvalidPipeline as unread:
        return base, f"{base} {unread.problems[0].message}"
    except (OSError, ValueError) as error:
        return base, f"{described(link)} is no path: {error}"
    return base, f"a chain of more than {_LONGEST_CHAIN} files" if len(chain) > _LONGEST_CHAIN else ""


def _with_params(root: Node, params: Mapping[str, Any], problems: list[Problem]) -> Node:
    """Put a deployment's values in the place of those in the file."""
    declared = root.value.get("params", Node({}, root.place))
    if not params or not isinstance(declared.value, dict):
        return root
    values = dict(declared.value)
    for name, value in params.items():
        place = Place(_PARAMETERS)
        if name in values:
            values[name] = located(_literal(value), place, join("params", name))
        else:
            hint = did_you_mean(name, values) or f"there are: {', '.join(values) or 'none'}"
            problems.append(place.problem(join("params", name), f"unknown parameter; {hint}"))
    return replace(root, value={**root.value, "params": replace(declared, value=values)})


def _literal(value: Any) -> Any:
    """A value in which `${` stands for itself; what YAML has no word for, such as a path, becomes text."""
    if isinstance(value, Mapping):
        return {key: _literal(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_literal(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float) else str(value).replace("${", "$${")


def _with_seed(root: Node) -> Node:
    """Give the pipeline's seed to each stage that has a seed and states none."""
    seed, stages = root.value.get("seed"), root.value.get("stages")
    if seed is None or stages is None or not isinstance(stages.value, dict):
        return root

    def seeded(stage: Node) -> Node:
        kind = stage.value.get("kind") if isinstance(stage.value, dict) else None
        model = KINDS.get(kind.value) if kind and isinstance(kind.value, str) else None
        if model is None or "seed" not in model.model_fields or "seed" in stage.value:
            return stage
        return replace(stage, value={**stage.value, "seed": seed})

    return _with_stages(root, replace(stages, value={name: seeded(stage) for name, stage in stages.value.items()}))


def _with_stages(root: Node, stages: Node) -> Node:
    return replace(root, value={**root.value, "stages": stages})


def _validated(root: Node) -> tuple[Pipeline | None, Node, list[Problem]]:
    """The pipeline, or None; the tree with references in lists spread; and what the models and the references find wrong."""
    stages = root.value.get("stages")
    valid: dict[str, StageBase] = {}
    if stages is not None and isinstance(stages.value, dict):
        valid = _valid(stages)
        stages = judged(spread(stages, valid), valid)
        root, valid = _with_stages(root, stages), _valid(stages)
    try:
        return Pipeline.model_validate(plain(root)), root, []
    except ValidationError as error:
        faults = explain(error, root, _MOST_PROBLEMS)
    broken = _broken_references(stages.value, valid) if stages is not None and isinstance(stages.value, dict) else []
    return None, root, faults + [at(find(root, loc).node, message) for loc, message in broken]


def _broken_references(stages: Mapping[str, Node], valid: Mapping[str, StageBase]) -> Iterator[tuple[references.Loc, str]]:
    """References that do not hold, also those of stages that are not valid otherwise."""
    kinds = {name: kind_of(node) for name, node in stages.items()}
    yield from references.problems(valid, kinds)
    for name in (name for name in stages if name not in valid):
        for written in written_references(stages[name], Stage):
            for text in meant(written.text, kinds, valid) if isinstance(written.loc[-1], int) else [written.text]:
                if message := references.wrong(replace(written, text=text), name, valid, kinds):
                    yield ("stages", name, *written.loc), message


def _valid(stages: Node) -> dict[str, StageBase]:
    """The stages that are valid by themselves."""
    valid: dict[str, StageBase] = {}
    for name, node in stages.value.items():
        with suppress(ValidationError):
            valid[name] = _STAGE.validate_python(plain(node))
    return valid


def _spot(problem: Problem) -> tuple[Path, int, int, str]:
    """What makes two problems one: the place, or the path where there is no place."""
    return problem.file, problem.line, problem.column, "" if problem.line else problem.path


def _in_order(problems: list[Problem]) -> list[Problem]:
    """By file and line, each fault of a place once."""
    once: dict[tuple[Any, ...], Problem] = {}
    for problem in problems:
        once.setdefault((*_spot(problem), problem.message), problem)
    return sorted(once.values(), key=lambda p: (str(p.file), p.line, p.column))

"""Which fields of a stage name other stages, and what they may name."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any, get_args

from pydantic.fields import FieldInfo

from schemas.artifacts import ArtifactType, Takes
from schemas.baselines import NAME_IT, by_labels, by_pretraining
from schemas.distillers import DINOv2Students
from schemas.encoders import Encoder
from schemas.errors import did_you_mean
from schemas.expectations import strangers
from schemas.methods import PROTOTYPES, BEiT
from schemas.naming import names
from schemas.spec import Spec, Unfit
from schemas.stages import KINDS, Distill, Evaluate, Finetune, Pretrain, StageBase, Tokenizer, Whiten

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
        yield from _walk(getattr(spec, name), mark(field), (*loc, name))


def mark(field: FieldInfo) -> Takes | None:
    """What the references in a field take; None for a field without any."""
    return next((m for m in (*field.metadata, *_inner(field.annotation)) if isinstance(m, Takes)), None)


def _inner(annotation: Any) -> Iterator[Any]:
    for argument in get_args(annotation):
        yield argument
        yield from _inner(argument)


def _walk(value: Any, taken: Takes | None, loc: Loc) -> Iterator[Reference]:
    if isinstance(value, Spec):
        yield from references(value, loc)
    elif isinstance(value, str) and taken:
        yield Reference(loc, taken.artifact, value)
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from _walk(item, taken, (*loc, i))
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _walk(item, taken, (*loc, key))


def problems(stages: Mapping[str, StageBase], kinds: Mapping[str, str]) -> Iterator[tuple[Loc, str]]:
    """What is wrong with the references of `stages`: missing stages and outputs, wrong types, cycles.

    Args:
        stages: the stages that are valid by themselves.
        kinds: the kind of each stage of the file, valid or not, so that a broken stage is not called missing.
    """
    for name, stage in stages.items():
        for reference in references(stage):
            if message := wrong(reference, name, stages, kinds):
                yield ("stages", name, *reference.loc), message
        if isinstance(stage, Evaluate):
            yield from ((("stages", name, *loc), message) for loc, message in _unjudged(stage, stages))
        if isinstance(stage, Finetune):
            yield from ((("stages", name, *loc), message) for loc, message in _not_finetuned(stage, stages))
        if isinstance(stage, Pretrain) and stage.continues and (earlier := stages.get(split(stage.continues)[0])):
            yield from ((("stages", name, *loc), message) for loc, message in _not_continued(stage, stage.continues, earlier))
        if isinstance(stage, Pretrain) and isinstance(stage.method, BEiT):
            yield from ((("stages", name, *loc), message) for loc, message in _other_words(stage.encoder, stage.method.tokenizer, stages))
        if isinstance(stage, Distill) and stage.teacher and (earlier := stages.get(split(stage.teacher)[0])):
            yield from ((("stages", name, *loc), message) for loc, message in _without_prototypes(stage, stage.teacher, earlier))
        if isinstance(stage, Distill) and stage.baseline:
            yield from ((("stages", name, *loc), message) for loc, message in _without_baseline(stage, stages))
    yield from ((("stages", cycle[0]), f"stages wait on each other: {' -> '.join((*cycle, cycle[0]))}") for cycle in cycles(stages))


def wrong(reference: Reference, name: str, stages: Mapping[str, StageBase], kinds: Mapping[str, str]) -> str:
    """What is wrong with one reference of the stage `name`; empty where nothing is known to be."""
    wanted = f"'{reference.text}'"
    if reference.stage not in kinds:
        if values := [n for n in kinds if n.startswith(f"{reference.stage}[")]:
            return f"{wanted} is a matrix of {len(values)} stages; name one: {', '.join(values)}"
        makers = [f"{n}.{o}" if o else n for n, s in stages.items() if s.makes == reference.takes and n != name for o in s.outputs]
        hint = did_you_mean(reference.stage, kinds) or f"what makes a {reference.takes}: {', '.join(makers) or 'none'}"
        return f"no stage {wanted}; {hint}"
    maker = stages.get(reference.stage)
    makes = maker or KINDS.get(kinds[reference.stage])
    if makes and makes.makes != reference.takes:
        return f"{wanted} makes a {makes.makes}, wanted a {reference.takes}"
    if maker is None:
        return ""
    if reference.output not in maker.outputs:
        made = [f"{reference.stage}.{output}" if output else reference.stage for output in maker.outputs]
        hint = did_you_mean(reference.output, filter(None, maker.outputs)) if reference.output else ""
        return f"no output {wanted}; {hint + ' ' if hint else ''}'{reference.stage}' makes {', '.join(made)}"
    return ""


def _unjudged(stage: Evaluate, stages: Mapping[str, StageBase]) -> Iterator[tuple[Loc, str]]:
    for i, text in enumerate(stage.distilled):
        maker = stages.get(split(text)[0])
        if maker and maker.makes == "Checkpoint" and not isinstance(maker, Distill):
            yield ("distilled", i), f"'{split(text)[0]}' is no distill stage: name it in `models`"
    for i, comparison in enumerate(stage.compare):
        for reference in references(comparison, ("compare", i)):
            if reference.text not in stage.models:
                yield reference.loc, f"'{reference.text}' is not among the models of the stage"
    if not stage.distilled:  # else they are not known, for a reason that is told above
        yield from ((("expect",), line) for line in strangers(stage.expect, names(stage.protocols), stage.models))


def encoder_of(checkpoint: str, stages: Mapping[str, StageBase]) -> Encoder | None:
    """The encoder of a checkpoint before it is made, without a whitening; None where the stages do not tell."""
    name, output = split(checkpoint)
    others = {other: stage for other, stage in stages.items() if other != name}
    match stages.get(name):
        case Pretrain() as stage:
            return stage.encoder
        case Distill() as stage if output in stage.outputs:
            return stage.trained(output).encoder
        case Finetune() as stage:
            return stage.encoder or encoder_of(str(stage.checkpoint), others)
        case Whiten() as stage:
            return encoder_of(stage.checkpoint, others)
        case _:
            return None


def _not_finetuned(stage: Finetune, stages: Mapping[str, StageBase]) -> Iterator[tuple[Loc, str]]:
    """Why a checkpoint cannot be trained by the strategy of a stage."""
    if not stage.checkpoint:
        return
    earlier, encoder = stages.get(split(stage.checkpoint)[0]), encoder_of(stage.checkpoint, stages)
    if isinstance(earlier, Whiten) and not stage.strategy.frozen:
        yield ("strategy",), f"'{stage.checkpoint}' is whitened, which cannot be trained: take linear or mlp, or its checkpoint '{earlier.checkpoint}'"
    if encoder and not encoder.is_vit and stage.strategy.kind == "lora":
        yield ("strategy",), f"lora adapts the blocks of a vision transformer, and '{encoder.name}' has none: take unfreezing, lp_ft or full"


def _not_continued(stage: Pretrain, name: str, earlier: StageBase) -> Iterator[tuple[Loc, str]]:
    """Why a stage cannot go on with the method, the encoder and the optimizer of the one that it continues."""
    if not isinstance(earlier, Pretrain):
        if earlier.makes == "Checkpoint":
            yield ("continues",), f"'{name}' is no pretrain stage: only one can be continued"
        return
    if not earlier.keep_training_state:
        yield ("continues",), f"'{name}' does not keep its training state: set stages.{name}.keep_training_state to true"
    if stage.method.kind != earlier.method.kind:
        yield ("method",), f"continues '{name}', whose method is {earlier.method.kind}, not {stage.method.kind}"
    elif isinstance(stage.method, BEiT) and isinstance(earlier.method, BEiT) and stage.method.tokenizer != earlier.method.tokenizer:
        yield ("method", "tokenizer"), f"continues '{name}', which learned the words of '{earlier.method.tokenizer}', not of '{stage.method.tokenizer}'"
    here, there = (each.encoder.model_dump(exclude={"image_size"}) for each in (stage, earlier))
    for key in (key for key in here if here[key] != there[key]):
        yield ("encoder", key), f"continues '{name}', whose encoder.{key} is {there[key]}, not {here[key]}: only image_size may differ"
    if stage.train.optimizer.kind != earlier.train.optimizer.kind:
        message = f"continues '{name}', whose optimizer is {earlier.train.optimizer.kind}, not {stage.train.optimizer.kind}"
        yield ("train", "optimizer"), message


def _other_words(encoder: Encoder, name: str, stages: Mapping[str, StageBase]) -> Iterator[tuple[Loc, str]]:
    """Why the words of a tokenizer are not one for each of an encoder's patches."""
    if not isinstance(tokenizer := stages.get(split(name)[0]), Tokenizer):
        return
    here = {"image_size": encoder.image_size, "patch_size": encoder.patch, "channels": encoder.channels}
    if wrong := {key: value for key, value in here.items() if value and value != getattr(tokenizer.network, key)}:
        told = ", ".join(f"{key} {getattr(tokenizer.network, key)}, where the encoder's is {value}" for key, value in wrong.items())
        yield ("method", "tokenizer"), f"'{name}' has network.{told}: its words must be one for each of the encoder's patches"


def _without_prototypes(stage: Distill, teacher: str, earlier: StageBase) -> Iterator[tuple[Loc, str]]:
    """Why students cannot learn from the prototypes of a teacher, which is pretrained along with them."""
    learners = [method for student in stage.students.values() for method in student.methods if isinstance(method, DINOv2Students)]
    if not learners or earlier.makes != "Checkpoint":
        return
    wanted = f"dinov2 learns from the prototypes of a teacher that is pretrained by {', '.join(PROTOTYPES)}"
    if not isinstance(earlier, Pretrain):
        yield ("teacher",), f"'{teacher}' is no pretrain stage: {wanted}"
    elif earlier.method.kind not in PROTOTYPES:
        yield ("teacher",), f"'{teacher}' is pretrained by {earlier.method.kind}: {wanted}"
    elif not earlier.keep_training_state:
        yield ("teacher",), f"'{teacher}' does not keep its training state, which holds its prototypes: set stages.{teacher}.keep_training_state to true"
    elif earlier.method.kind == "dino" and any(method.patch_weight for method in learners):
        yield ("teacher",), f"'{teacher}' is pretrained by dino, which looks at no patches: set patch_weight of dinov2 to 0"


def _without_baseline(stage: Distill, stages: Mapping[str, StageBase]) -> Iterator[tuple[Loc, str]]:
    """Why students cannot be trained alone by what the config names, or by what their teacher is pretrained by."""
    assert stage.baseline
    teacher = stages.get(split(stage.teacher)[0]) if stage.teacher else None
    for name in (name for name in stage.students if by_labels(stage, name) is None):
        method = stage.baseline.method or (teacher.method if isinstance(teacher, Pretrain) else None)
        if method:
            try:
                by_pretraining(stage, name, method)
            except Unfit as error:
                yield ("baseline",), str(error)
        elif teacher and teacher.makes == "Checkpoint":
            yield ("baseline",), f"'{stage.teacher}', the teacher of '{name}', is no pretrain stage: {NAME_IT}"


def _graph(stages: Mapping[str, StageBase]) -> dict[str, set[str]]:
    return {name: {r.stage for r in references(stage) if r.stage in stages} for name, stage in stages.items()}


def cycles(stages: Mapping[str, StageBase]) -> list[tuple[str, ...]]:
    """Cycles of the graph that share no stage, as the stages on each: a stage waits on the one after it."""
    graph, found = _graph(stages), []
    while True:
        try:
            TopologicalSorter(graph).prepare()
        except CycleError as error:
            cycle = error.args[1][:0:-1]
            first = min(range(len(cycle)), key=lambda i: list(stages).index(cycle[i]))
            found.append((*cycle[first:], *cycle[:first]))
            graph = {name: needs - set(cycle) for name, needs in graph.items() if name not in cycle}
        else:
            return found


def in_order(stages: Mapping[str, StageBase]) -> list[str]:
    """Stage names so that each comes after those it takes from; the file's order where that leaves a choice."""
    graph = _graph(stages)
    placed: dict[str, None] = {}
    while len(placed) < len(graph):
        placed[next(name for name, needs in graph.items() if name not in placed and needs <= placed.keys())] = None
    return list(placed)

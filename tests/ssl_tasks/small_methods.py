"""Every pretraining method and every distillation method, small enough for a test, on tiny encoders."""

from dataclasses import dataclass
from functools import cache
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from schemas import methods as configs
from schemas.distillers import Distiller as DistillerConfig
from schemas.dvae import DVAE as DVAEConfig
from schemas.encoders import Encoder
from schemas.spec import Spec
from schemas.students import Student as StudentConfig
from schemas.views import Views
from ssl_tasks.distill.network import Network, Seen
from ssl_tasks.distill.objective import Lesson, Setting
from ssl_tasks.distill.objectives import OBJECTIVES, build, wants_places
from ssl_tasks.distill.student import Student
from ssl_tasks.method import Method
from ssl_tasks.methods import build as build_method
from ssl_tasks.nn.classifier import classifier_head
from ssl_tasks.nn.dvae import DVAE
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.nn.heads import PrototypeHead
from ssl_tasks.nn.patch_distillation import Heads

ENCODERS = {
    "vit": Encoder(name="vit_tiny_patch16_224", image_size=16, patch_size=4, width=32, depth=1, heads=2, channels=1),
    "convnet": Encoder(
        name="resnetv2_18", image_size=16, channels=1, stem="half", options={"layers": [1, 1], "channels": [8, 16], "stem_chs": 8, "zero_init_last": False}
    ),
}
COLOURED = {name: encoder.model_copy(update={"channels": 3}) for name, encoder in ENCODERS.items()}
KNOWN_INSIDE = {
    "vit": ENCODERS["vit"],
    "swin": Encoder(
        name="swin_tiny_patch4_window7_224",
        image_size=16,
        channels=1,
        options={"patch_size": 2, "window_size": 2, "embed_dim": 16, "depths": [1, 1], "num_heads": [1, 2], "drop_path_rate": 0.0},
    ),
    "convnextv2": Encoder(name="convnextv2_atto", image_size=16, channels=1, options={"patch_size": 1, "depths": [1, 1, 1, 1], "dims": [8, 8, 16, 16]}),
}
"""By the architecture that a method asks for."""
SMALL: dict[str, Any] = {
    "hidden": 48,
    "output": 32,
    "queue": 40,
    "prototypes": 24,
    "bottleneck": 16,
    "patch_prototypes": 20,
    "patch_hidden": 40,
    "patch_bottleneck": 12,
    "decoder_width": 32,
    "decoder_depth": 1,
    "decoder_heads": 2,
    "discriminator_width": 16,
    "negatives": 20,
    "dim": 16,
    "local_hidden": 40,
    "local_output": 12,
    "branch": 12,
    "permutations": 10,
    "dimension": 6,
    "slice_size": 8,
    "clusters": 6,
    "granularities": (3, 6),
    "predictor_hidden": 48,
    "tokenizer": "words",
    "target_blocks": 1,
    "masks": 3,
    "predictor_width": 32,
    "predictor_depth": 1,
    "predictor_heads": 2,
}
"""Parameters of methods that are made small, wherever a method has one of that name."""
BATCH, CLASSES = 16, 5
VIEWS = {True: Views(count=2, local_count=2, local_size=8), False: Views(count=1)}
"""What students see, by whether their method has a use for local crops."""
PAIR = Views(count=2)
"""What students see whose method compares two views."""
TEACHER = Encoder(name="vit_tiny_patch16_224", image_size=16, patch_size=4, width=24, depth=2, heads=2, channels=1)


def views_for(config: Any) -> Views:
    """What students of a method see."""
    return PAIR if config.two_views and not config.multi_crop else VIEWS[config.multi_crop]


def members(union: Any) -> list[type[Spec]]:
    """Classes of a union that is told apart by `kind`, or of one that has a single member yet."""
    inside = get_args(union)[0]
    return list(get_args(inside)) or [inside]


@cache
def teacher(dtype: torch.dtype) -> Network:
    """A frozen classifier with a random encoder, the same for every test."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = TimmEncoder(TEACHER)
        network = Network(encoder, classifier_head(encoder.dim, CLASSES), ["blocks.0", "last"], places=True)
    return network.requires_grad_(False).eval().to(dtype)


def heads() -> Heads:
    """The prototype heads of that teacher."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return Heads(PrototypeHead(24, 32, 12, 20), PrototypeHead(24, 32, 12, 28)).requires_grad_(False)


def tokenizer(encoder: Encoder) -> DVAE:
    """One with random weights, whose words are one for each of an encoder's patches."""
    assert encoder.patch
    shape = {"image_size": encoder.image_size, "patch_size": encoder.patch, "channels": encoder.channels}
    return DVAE(DVAEConfig(**shape, vocabulary=24, dim=8, width=8, depth=1)).eval()


class Peer(Network):
    """Another student, whose numbers become as precise as those of the views that it gets."""

    def forward(self, views: Any, *others: Any) -> Seen:
        self.to(views[0].dtype)
        return super().forward(views, *others)


def small_student(config: Any, encoder: Encoder) -> Student:
    """A student of one method, with the torch random state that there is."""
    written = StudentConfig(**encoder.model_dump(), method=config)
    head = config.of_scores
    network = Network(TimmEncoder(encoder), None, [tap.student for tap in config.taps], places=wants_places([config]))
    if head:
        network.classifier = classifier_head(network.encoder.dim, CLASSES)
    shapes = teacher(torch.float32).shapes() if config.taught else None
    setting = Setting(network.shapes(), shapes, network, 4 * BATCH, tuple(map(str, range(CLASSES))), heads() if OBJECTIVES[type(config)].heads else None)
    student = Student(written, views_for(config), network, [build(config, setting)])
    with torch.random.fork_rng():
        torch.manual_seed(2)
        peer = Peer(TimmEncoder(encoder), classifier_head(network.encoder.dim, CLASSES)).train()
    for objective in student.each():
        objective.meet({"peer": peer} if head else {})
    return student


def lesson(student: Student, views: list[Tensor], own: slice = slice(None), seed: int = 0) -> Lesson:
    """What a student learns from: what the teacher says of global views of BATCH images, and labels, of this process's share.

    One image has no label, so that processes have unlike numbers of labelled ones.
    """
    count = views_for(student.each()[0].config).count
    rows = torch.arange(BATCH)[own]
    labels = torch.where(rows == 3, -1, rows % CLASSES)
    return Lesson(teacher(views[0].dtype)(views[:count]), views, count, rows, labels, seed, BATCH, own)


def inputs(method: Method, views: list[Tensor], own: slice = slice(None), seed: int = 0) -> tuple[Any, ...]:
    """What a method's forward takes before `progress`."""
    return (views, lesson(method, views, own, seed)) if isinstance(method, Student) else (views,)


@dataclass(frozen=True)
class Case:
    """A pretraining or distillation method with a config small enough for a test, on a tiny encoder."""

    config: Any
    encoder: Encoder

    @property
    def views(self) -> Views:
        found: Views = self.config.views if hasattr(self.config, "views") else views_for(self.config)
        return found

    def make(self, seed: int = 0, images: int = BATCH + 4) -> Method:
        torch.manual_seed(seed)
        if type(self.config) in members(DistillerConfig):
            return small_student(self.config, self.encoder).train()
        words = tokenizer(self.encoder) if "tokenizer" in self.config.takes else None
        return build_method(self.config, TimmEncoder(self.encoder), images=images, tokenizer=words).train()


def cases() -> dict[str, Case]:
    """Every member of both unions on every encoder that it takes; of the pretraining methods under their kind, of the others under `distill-KIND`."""
    found = {}
    for member in members(configs.Method) + members(DistillerConfig):
        config: Any = member(**{name: value for name, value in SMALL.items() if name in member.model_fields})
        title = f"distill-{config.kind}" if member in members(DistillerConfig) else config.kind
        found |= {f"{title}-{name}": Case(config, encoder) for name, encoder in fitting(member).items()}
    return found


def fitting(member: Any) -> dict[str, Encoder]:
    """The tiny encoders that a method or a distiller takes."""
    if architectures := ("vit",) * getattr(member, "masks_patches", False) or getattr(member, "architectures", ()):
        return {name: KNOWN_INSIDE[name] for name in architectures}
    return COLOURED if "colour" in getattr(member, "needs", ()) else ENCODERS


CASES = cases()
every_method = pytest.mark.parametrize("case", CASES.values(), ids=CASES)

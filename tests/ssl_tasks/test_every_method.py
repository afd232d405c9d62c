"""What holds for every method and every distiller: a new one is tested by being in its union."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError
from small_methods import BATCH, CASES, ENCODERS, Case, every_method, inputs, members
from torch import Tensor, nn

from schemas import methods as configs
from schemas.distillers import Distiller as DistillerConfig
from schemas.encoders import Encoder
from schemas.spec import Spec
from schemas.views import Views
from ssl_tasks.data.draw import Draw
from ssl_tasks.data.views import augment
from ssl_tasks.distill.student import Student
from ssl_tasks.method import Method, Terms
from ssl_tasks.methods.clustering.pcl import PCL
from ssl_tasks.methods.contrastive.adco import AdCo
from ssl_tasks.methods.contrastive.clsa import CLSA
from ssl_tasks.methods.contrastive.densecl import DenseCL
from ssl_tasks.methods.contrastive.moco import MoCo
from ssl_tasks.nn.ema import Teacher
from ssl_tasks.nn.encoder import TimmEncoder


def images(encoder: Encoder, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (BATCH, encoder.channels, 18, 18), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def views_of(method: Method, seed: int = 0) -> list[Tensor]:
    encoder = next(part for part in method.modules() if isinstance(part, TimmEncoder))
    return method.views(images(encoder.config), Draw(torch.Generator().manual_seed(seed), BATCH))


def terms(method: Method, views: list[Tensor], progress: float = 0.9) -> Terms:
    """The loss, with what a teacher says of the views for a student."""
    return method(*inputs(method, views), progress)  # type: ignore[no-any-return]  # a module's call is untyped


def step(method: Method, optimizer: torch.optim.Optimizer, views: list[Tensor], progress: float = 0.9) -> float:
    """One step as the training loop takes it."""
    loss = torch.stack(list(terms(method, views, progress).values())).sum()
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]  # of torch
    method.before_step(progress)
    optimizer.step()
    method.after_step(progress)
    return loss.item()


def adam(method: Method, rate: float = 3e-3) -> torch.optim.Optimizer:
    return torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], rate)


def test_the_unions_are_not_empty() -> None:
    assert {"simclr-vit", "vicreg-convnet", "dino-vit", "distill-feature-convnet"} <= set(CASES)


@every_method
def test_terms_are_finite_scalars_that_differ_from_zero(case: Case) -> None:
    method = case.make()
    named = terms(method, views_of(method))
    assert named
    assert all(term.shape == () and term.isfinite() and term > 0 for term in named.values())


@every_method
def test_every_trainable_parameter_gets_a_gradient_and_no_other_one(case: Case) -> None:
    method = case.make()
    torch.stack(list(terms(method, views_of(method)).values())).sum().backward()  # type: ignore[no-untyped-call]  # of torch
    without = [name for name, p in method.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert without == []
    assert [name for name, p in method.named_parameters() if not p.requires_grad and p.grad is not None] == []


@every_method
def test_every_trainable_parameter_is_moved_by_a_step(case: Case) -> None:
    method = case.make()
    before = {name: p.detach().clone() for name, p in method.named_parameters() if p.requires_grad}
    step(method, adam(method), views_of(method))
    assert [name for name, p in method.named_parameters() if name in before and torch.equal(p, before[name])] == []


@every_method
def test_teachers_stay_in_eval_mode_and_are_not_trained(case: Case) -> None:
    method = case.make().train()
    for teacher in (m for m in method.modules() if isinstance(m, Teacher)):
        assert not any(m.training for m in teacher.modules() if getattr(m, "running_mean", m) is not None)  # without: the same in both modes
        assert not any(p.requires_grad for p in teacher.parameters())


@every_method
def test_views_are_those_of_the_config(case: Case) -> None:
    method = case.make()
    expected = augment(case.views, images(case.encoder), case.encoder.image_size, Draw(torch.Generator().manual_seed(3), BATCH))
    for ours, theirs in zip(views_of(method, 3)[: len(expected)], expected, strict=True):  # masks come behind
        assert torch.equal(ours, theirs)


@every_method
def test_the_exported_encoder_works_alone_and_is_part_of_the_method(case: Case) -> None:
    method = case.make()
    step(method, adam(method), views_of(method))
    exported = method.exported()
    assert isinstance(exported, TimmEncoder)
    kept = {"pooling", "head", "sees"}  # of a method that exports a descriptor, or an encoder of lightness alone
    assert exported.config.model_dump(exclude=kept) == case.encoder.model_dump(exclude=kept)
    alone = TimmEncoder(exported.config)
    alone.load_state_dict(exported.state_dict())
    x = views_of(method)[0]
    assert torch.equal(alone.eval()(x), exported.eval()(x))
    assert exported in list(method.modules())


@every_method
def test_the_state_dict_is_all_that_a_resume_needs(case: Case) -> None:
    first, views = case.make(), views_of(case.make())
    optimizer = adam(first)
    step(first, optimizer, views)
    second = case.make(seed=1)
    second.load_state_dict(first.state_dict())
    resumed = adam(second)
    resumed.load_state_dict(deepcopy(optimizer.state_dict()))
    assert step(first, optimizer, views) == step(second, resumed, views)
    for name, value in second.state_dict().items():
        assert torch.equal(value, first.state_dict()[name]), name


@every_method
def test_the_same_seed_gives_the_same_loss_and_another_one_another(case: Case) -> None:
    def losses(seed: int) -> list[float]:
        method = case.make(seed)
        optimizer = adam(method)
        return [step(method, optimizer, views_of(method, i)) for i in range(2)]

    assert losses(0) == losses(0)
    assert losses(0) != losses(1)


@every_method
def test_looking_changes_nothing(case: Case) -> None:
    method = case.make()
    step(method, adam(method), views_of(method))
    before = {name: value.clone() for name, value in method.state_dict().items()}
    method.eval()
    with torch.no_grad():
        terms(method, views_of(method))
        numbers = method.monitored(views_of(method))
    assert all(isinstance(number, float) for number in numbers.values())
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())


@pytest.mark.parametrize("name", ["simclr-convnet", "vicreg-convnet"])
def test_the_spread_of_embeddings_tells_a_collapse_to_a_point(name: str) -> None:
    method, views = CASES[name].make(), views_of(CASES[name].make())
    with torch.no_grad():
        for _ in range(40):  # until batch norm's running statistics have settled
            terms(method, views)
        healthy = method.eval().monitored(views)["embedding_std"]
        for p in method.exported().parameters():
            p.zero_()
        collapsed = method.monitored(views)["embedding_std"]
    assert healthy > 0.05
    assert collapsed < 1e-6


@every_method
def test_a_batch_is_learned_by_heart_in_twenty_steps(case: Case) -> None:
    """A moving-average teacher or a memory bank stands still and is sure of itself here, so that the loss has a fixed target and can come near zero.

    The keys of an untrained encoder hardly differ: MoCo's and SEED's softmax must be cold to tell them apart in so few steps. MoCo's queue, random at
    first, is filled beforehand. So it is with CLSA and with AdCo, whose negatives stand still too. SwAV has no teacher that could stand still: its
    codes are of this batch alone and sharp. DINOv3's prototypes, whose length is free, begin short and take longer, and so do class scores, where
    labels and a random teacher contradict each other. Soft labels must be cold: their loss is never below the teacher's entropy. There are no local
    crops, which hold next to nothing of an image of noise.
    PCL is MoCo before its images are clustered. VICReg-exp's soft maximum of covariances never comes near zero and is least for what has no
    spread yet: it weighs little.
    Turned noise is noise: RotNet learns four pictures by heart of each, and takes longer too. So do I-JEPA and data2vec 2, whose predictors
    have to say what a random teacher says of noise that they do not see, and CPC, which learns noise by heart from the noise above, of fewer
    and larger patches here.
    """
    sharp = dict.fromkeys(("teacher_temperature", "teacher_temperature_start", "patch_teacher_temperature"), 1e-3)
    still = {**dict.fromkeys(("momentum", "bank_momentum", "center_momentum"), 1.0), **sharp}
    if case.config.kind.startswith("moco") or case.config.kind in ("adco", "clsa", "densecl", "pcl", "seed", "soft_labels"):
        still["temperature"] = 0.005
    if case.config.kind == "adco":
        still["negatives_rate"] = 0.0
    if case.config.kind == "vicreg_exp":
        still["covariance"] = 0.1
    if case.config.kind == "pcl":
        still["warmup"] = 1.0
    config = case.config.model_copy(update={name: value for name, value in still.items() if name in type(case.config).model_fields})
    if hasattr(config, "views"):
        config = config.model_copy(update={"views": config.views.model_copy(update={"local_count": 0})})
    if isinstance(config, configs.SwAV):
        config = config.model_copy(update={"epsilon": 0.01, "queue": 0})
    if isinstance(config, configs.CPC):
        config = config.model_copy(update={"patches": 3, "steps": 2, "depth": 2})
    method = replace(case, config=config).make()
    optimizer, views = adam(method, 1e-2), views_of(method)
    filled = method.negatives if isinstance(method, AdCo) else method.queue if isinstance(method, CLSA | DenseCL | MoCo | PCL) else None
    while filled is not None and not filled.is_full:
        terms(method, views)
        method.after_step(0.9)
    slow = isinstance(config, configs.CPC | configs.DINOv3 | configs.RotNet | configs.Data2Vec2 | configs.IJEPA) or getattr(config, "of_scores", False)
    losses = [step(method, optimizer, views) for _ in range(40 if slow else 20)]
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize(
    ("member", "views"),
    [
        (configs.SimCLR, {"count": 3}),
        (configs.VICReg, {"local_count": 2, "local_size": 8}),
        (configs.DINO, {"count": 1}),
    ],
)
def test_views_that_a_method_cannot_learn_from_are_refused(member: Callable[..., Spec], views: dict[str, int]) -> None:
    with pytest.raises(ValidationError, match="this method"):
        member(views=Views(**views))  # type: ignore[arg-type]  # of several types


def test_a_student_of_another_image_size_sees_the_same_views_resized() -> None:
    encoder = ENCODERS["vit"].model_copy(update={"image_size": 8})
    method = Case(members(DistillerConfig)[0](), encoder).make()
    assert isinstance(method, Student)
    large = torch.rand(BATCH, 1, 16, 16)
    small = nn.functional.interpolate(large, size=8, mode="bilinear", antialias=True)
    said = inputs(method, [large])[1]
    assert method([large], said, 0.5) == method([small], said, 0.5)

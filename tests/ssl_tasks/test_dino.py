"""The parts of DINO that keep it from collapsing, one by one."""

import math

import pytest
import torch
from numpy.testing import assert_allclose
from torch import Tensor, nn

from schemas.encoders import Encoder
from schemas.methods import DINO as DINOConfig
from schemas.views import Views
from ssl_tasks.methods.self_distillation.dino import DINO
from ssl_tasks.nn.ema import Teacher
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.nn.heads import PrototypeHead

VIT = Encoder(name="vit_tiny_patch16_224", image_size=16, patch_size=4, width=32, depth=1, heads=2, channels=1)
RESNET = Encoder(name="resnetv2_18", image_size=16, channels=1, stem="half", options={"layers": [1], "channels": [8], "stem_chs": 8})
CONFIG = DINOConfig(prototypes=12, hidden=24, bottleneck=8, momentum=0.9, views=Views(local_count=2, local_size=8))


def made(encoder: Encoder = VIT, **changes: float) -> DINO:
    torch.manual_seed(0)
    return DINO(CONFIG.model_copy(update=changes), TimmEncoder(encoder)).train()


def views(seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(6, 1, side, side, generator=generator) for side in (16, 16, 8, 8)]


def loss_of(method: DINO, progress: float = 0.5) -> Tensor:
    loss: Tensor = method(views(), progress)["dino"]
    return loss


def moved(method: DINO, progress: float = 0.5) -> None:
    """One plain gradient step, with all that the training loop calls."""
    optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=0.5)
    loss_of(method, progress).backward()  # type: ignore[no-untyped-call]  # of torch
    method.before_step(progress)
    optimizer.step()
    optimizer.zero_grad()
    method.after_step(progress)


def test_teacher_and_student_start_equal_and_share_no_memory() -> None:
    method = made()
    for theirs, ours in zip(method.teacher_encoder.parameters(), method.encoder.parameters(), strict=True):
        assert torch.equal(theirs, ours)
        assert theirs.data_ptr() != ours.data_ptr()


def test_no_gradient_reaches_the_teacher() -> None:
    method = made()
    loss_of(method).backward()  # type: ignore[no-untyped-call]  # of torch
    teacher = [*method.teacher_encoder.parameters(), *method.teacher_head.parameters()]
    assert all(p.grad is None and not p.requires_grad for p in teacher)
    assert not method.teacher_encoder(views()[0]).requires_grad


def test_the_teacher_sees_the_global_crops_only() -> None:
    method = made()
    sizes: list[tuple[int, ...]] = []
    method.teacher_encoder.network.register_forward_hook(lambda _module, given, _out: sizes.append(tuple(given[0].shape)))
    loss_of(method)
    assert sizes == [(12, 1, 16, 16)]


def test_the_teacher_follows_by_the_formula_of_a_moving_average() -> None:
    method = made()
    before = [p.clone() for p in method.teacher_encoder.parameters()]
    moved(method, progress=0.0)
    for old, new, student in zip(before, method.teacher_encoder.parameters(), method.encoder.parameters(), strict=True):
        assert_allclose(new, 0.9 * old + 0.1 * student.detach(), atol=1e-6)


@pytest.mark.parametrize(("progress", "expected"), [(0.0, 0.996), (0.25, 0.99658579), (0.5, 0.998), (0.75, 0.99941421), (1.0, 1.0)])
def test_the_momentum_rises_to_one_by_half_a_cosine(progress: float, expected: float) -> None:
    method = made(momentum=0.996)
    with torch.no_grad():
        for theirs, ours in zip(method.teacher_head.parameters(), method.head.parameters(), strict=True):
            theirs.zero_()
            ours.fill_(1.0)
    method.after_step(progress)
    for theirs in method.teacher_head.parameters():
        assert_allclose(theirs, torch.full_like(theirs, 1 - expected), atol=1e-7)


def test_batch_norm_statistics_of_the_teacher_are_the_students() -> None:
    method = made(RESNET)
    moved(method)
    running = {name: b for name, b in method.teacher_encoder.network.named_buffers() if "running" in name}
    assert running
    assert all(torch.equal(b, method.encoder.get_buffer(name)) and b.abs().max() > 0 for name, b in running.items())


def test_a_teacher_ignores_train_mode() -> None:
    teacher = Teacher(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Dropout(0.5)))
    assert not any(m.training for m in nn.ModuleList([teacher]).train()[0].modules())


def test_the_center_is_the_moving_average_of_raw_teacher_logits_and_moves_after_the_loss() -> None:
    method = made()
    globals_ = torch.cat(views()[:2])
    first = method.teacher_head(method.teacher_encoder(globals_)).mean(0)
    before = loss_of(method)
    assert_allclose(method.targets.center, 0.1 * first, atol=1e-7)
    assert_allclose(method.eval()(views(), 0.5)["dino"].detach(), loss_of(method.eval()).detach())
    assert loss_of(method.train()) != before
    assert_allclose(method.targets.center, 0.9 * 0.1 * first + 0.1 * first, atol=1e-7)


def test_the_center_worked_out_by_hand() -> None:
    method = DINO(CONFIG.model_copy(update={"prototypes": 4}), TimmEncoder(VIT))
    method.targets.move(torch.tensor([[2.0, 1, 0, 0], [0, 1, 2, 0]]))
    assert_allclose(method.targets.center, [0.1, 0.1, 0.1, 0], atol=1e-7)


def test_the_last_layer_stands_still_at_first_and_then_moves() -> None:
    method = made(freeze_last_layer=0.2)
    last, other = method.head.prototypes.weight, method.head.mlp[0].weight
    for progress, moves in ((0.0, False), (0.19, False), (0.2, True)):
        before, other_before = last.detach().clone(), other.detach().clone()  # type: ignore[operator]  # a parameter
        moved(method, progress)
        assert torch.equal(last, before) is not moves
        assert not torch.equal(other, other_before)  # type: ignore[arg-type]  # likewise


def test_the_teachers_temperature_warms_up_on_a_straight_line() -> None:
    method = made(teacher_temperature_start=0.04, teacher_temperature=0.07, teacher_temperature_warmup=0.3)
    assert_allclose([method.targets.temperature(p) for p in (0, 0.1, 0.3, 0.9)], [0.04, 0.05, 0.07, 0.07])
    assert made(teacher_temperature_warmup=0.0, teacher_temperature=0.07).targets.temperature(0.0) == 0.07


def test_logits_are_cosines_whatever_the_length_of_prototypes() -> None:
    torch.manual_seed(0)
    head, features = PrototypeHead(6, 8, 4, 10), torch.randn(50, 6)
    logits = head(features)
    with torch.no_grad():
        head.prototypes.weight *= torch.rand(10, 1) * 9 + 1
    assert_allclose(head(features).detach(), logits.detach(), atol=1e-6)
    assert logits.abs().max() <= 1


def test_the_head_starts_truncated_normal_without_biases() -> None:
    torch.manual_seed(0)
    head = PrototypeHead(64, 512, 64, 128)
    for layer in (*head.mlp, head.prototypes):
        if isinstance(layer, nn.Linear):
            assert_allclose(layer.weight.std().item(), 0.02, rtol=0.03)
            assert layer.bias is None or not layer.bias.any()


def test_monitors_tell_the_two_collapses_from_each_other() -> None:
    method = made()
    numbers = {}
    for name, bottleneck in (("uniform", 0.0), ("dominant", 1.0)):
        for head in (method.head, method.teacher_head.network):
            with torch.no_grad():
                for p in head.parameters():
                    p.zero_()
                head.mlp[-1].bias.fill_(bottleneck)  # type: ignore[union-attr,operator]  # a linear layer's
                head.prototypes.weight[0] = 1  # type: ignore[union-attr,index]  # likewise
        numbers[name] = method.eval().monitored(views())
    assert_allclose([numbers["uniform"][k] for k in ("teacher_entropy", "mean_entropy")], [1, 1], atol=1e-6)
    assert_allclose([numbers["dominant"][k] for k in ("teacher_entropy", "mean_entropy")], [0, 0], atol=1e-6)
    assert abs(numbers["uniform"]["teacher_student_kl"]) < 1e-6
    healthy = made().eval().monitored(views())
    assert 0 < healthy["teacher_entropy"] < healthy["mean_entropy"] < 1
    assert healthy["teacher_student_kl"] > 0


def test_without_sharpening_the_loss_is_that_of_a_uniform_teacher() -> None:
    method = made(teacher_temperature=1e6, teacher_temperature_start=1e6, student_temperature=1e6)
    method.targets.center.copy_(method.teacher_head(method.teacher_encoder(torch.cat(views()[:2]))).mean(0))
    assert_allclose(loss_of(method).detach(), math.log(12), atol=1e-5)

"""Students that teach each other, their branches, or their own next epoch."""

import math
from copy import deepcopy
from typing import Any

import pytest
import torch
from small_methods import BATCH, CASES, CLASSES, ENCODERS
from test_every_method import adam, step, views_of
from torch import Tensor, nn

from schemas.distillers import DML, ONE, PSKD
from schemas.encoders import Encoder
from schemas.errors import InvalidPipeline, UserError
from schemas.load import loads
from schemas.stages import output_config
from ssl_tasks.distill.network import Network, Seen, Shapes
from ssl_tasks.distill.objective import Lesson, Objective, Setting
from ssl_tasks.distill.objectives import build
from ssl_tasks.losses.scores import cross_entropy, divergence
from ssl_tasks.nn.branches import branch
from ssl_tasks.nn.classifier import classifier_head
from ssl_tasks.nn.encoder import TimmEncoder

CONV = ENCODERS["convnet"]
DROPPING = ENCODERS["vit"].model_copy(update={"depth": 2, "options": {"drop_path_rate": 0.5, "proj_drop_rate": 0.5}})
LABELS = torch.arange(4) % CLASSES


def network(encoder: Encoder = CONV, seed: int = 0) -> Network:
    torch.manual_seed(seed)
    made = TimmEncoder(encoder)
    return Network(made, classifier_head(made.dim, CLASSES)).train()


def images(count: int = 4, seed: int = 0) -> Tensor:
    return torch.randn(count, 1, 16, 16, generator=torch.Generator().manual_seed(seed))


def lesson(views: list[Tensor], rows: Tensor | None = None, labels: Tensor = LABELS) -> Lesson:
    return Lesson(None, views, len(views), torch.arange(len(views[0])) if rows is None else rows, labels)


def objective(config: Any, student: Network, images: int = 8) -> Objective:
    shapes = Shapes(8, 8, (0, 0), {}, CLASSES, 16)
    return build(config, Setting(shapes, None, student, images, tuple("abcde"))).train()


# DML


def test_a_student_learns_the_mean_of_what_its_peers_say() -> None:
    student, peers = network(), {f"peer{i}": network(seed=i).eval() for i in (1, 2)}
    learner, views = objective(DML(peers=2.0), student), [images()]
    learner.meet(peers)
    seen = student(views)
    found = learner(seen, lesson(views), 0.5)
    said = [peer(views).logits for peer in peers.values()]
    assert found["dml_peers"].item() == pytest.approx(sum(divergence(seen.logits, one).item() for one in said))
    assert found["dml_labels"].item() == pytest.approx(cross_entropy(seen.logits, LABELS).item())


@pytest.mark.parametrize("encoder", [CONV, DROPPING], ids=["batch norm", "dropout"])
def test_a_look_changes_nothing_of_a_peer_and_draws_nothing(encoder: Encoder) -> None:
    student, peer = network(), network(encoder, seed=1)
    learner, views = objective(DML(), student), [images()]
    learner.meet({"peer": peer})
    seen, before, state = student(views), deepcopy(peer.state_dict()), torch.get_rng_state()
    torch.autograd.backward(learner(seen, lesson(views), 0.5)["dml_peers"])
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in peer.state_dict().items())
    assert all(p.grad is None for p in peer.parameters())
    assert all(module.training for module in peer.modules())


def test_peers_are_no_part_of_a_student() -> None:
    learner = objective(DML(), network())
    learner.meet({"peer": network(seed=1)})
    assert list(learner.parameters()) == []
    assert learner.state_dict() == {}


def test_peers_see_the_views_at_their_own_size() -> None:
    small = network(CONV.model_copy(update={"image_size": 8}), seed=1).eval()
    student, views = network(), [images(), images(seed=1)]
    learner = objective(DML(), student)
    learner.meet({"small": small})
    shrunk = [nn.functional.interpolate(view, size=8, mode="bilinear", antialias=True) for view in views]
    seen = student(views)
    expected = divergence(seen.logits, small(shrunk).logits)
    assert learner(seen, lesson(views), 0.5)["dml_peers"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_peer_that_has_no_place_on_the_device_is_left_out() -> None:
    student, views, losses = network(), [images()], list[float]()
    learner, here, elsewhere = objective(DML(), student), network(seed=1), network(seed=2).to("meta")
    seen = student(views)
    for peers in ({"here": here}, {"here": here, "elsewhere": elsewhere}, {"elsewhere": elsewhere}):
        learner.meet(peers)
        losses.append(learner(seen, lesson(views), 0.5)["dml_peers"].item())
    assert losses[0] == losses[1] > losses[2] == 0.0


def test_a_peer_whose_weights_are_no_longer_finite_is_left_out() -> None:
    student, well, ill, views = network(), network(seed=1), network(seed=2), [images()]
    with torch.no_grad():
        for parameter in ill.parameters():
            parameter.mul_(math.nan)
    seen, losses = student(views), []
    for peers in ({"well": well}, {"well": well, "ill": ill}, {"ill": ill}):
        learner = objective(DML(), student)
        learner.meet(peers)
        losses.append(learner(seen, lesson(views), 0.5)["dml_peers"])
    assert losses[0] == losses[1] > 0
    assert losses[2] == 0
    torch.autograd.backward(losses[1])
    assert all(p.grad is None or p.grad.isfinite().all() for p in student.parameters())


PEERS = """
name: x
stages:
  raw: {kind: ingest, source: digits}
  s: {kind: distill, dataset: raw, method: dml, students: {STUDENTS}, train: {TRAIN}}
"""
PAIR = "a: {name: resnet18}, b: {name: resnet18}"
BEGUN = "{name: resnet18, init_from: {file: weights.pth}}"


@pytest.mark.parametrize(
    ("students", "train", "message"),
    [
        ("a: {name: resnet18}", "", "dml learns from its peers, and 'a' has none: add another student that learns so"),
        ("a: {name: resnet18}, b: {name: resnet18, method: cross_entropy}", "", "dml learns from its peers, and 'a' has none"),
        (f"a: {BEGUN}, b: {BEGUN}", "", "'b' and 'a' start from the same weights"),
        (PAIR, "sharding: fsdp", "dml looks at its peers, of which fsdp keeps a part on each device: set sharding to ddp"),
        ("a: {name: resnet18}, b: {name: resnet18, channels: 1}", "", "channels 1 is not the 3 of 'a'"),
    ],
)
def test_peers_that_cannot_teach_each_other_are_refused(students: str, train: str, message: str) -> None:
    with pytest.raises(InvalidPipeline, match=message):
        loads(PEERS.replace("STUDENTS", students).replace("TRAIN", train))


def test_peers_may_be_one_network_and_each_is_known_by_all_of_them() -> None:
    """Random weights follow from a student's name; a change of one peer makes all of them anew."""
    stage = loads(PEERS.replace("STUDENTS", PAIR + ", c: {name: resnet18, method: cross_entropy}").replace("TRAIN", "")).stages["s"]
    assert {output: list(output_config(stage, output)["students"]) for output in stage.outputs} == {"a": ["a", "b"], "b": ["a", "b"], "c": ["c"]}


# ONE


def test_the_first_branch_is_the_student_and_the_gated_ensemble_teaches_all() -> None:
    student, views = network(), [images()]
    learner: Any = objective(ONE(temperature=2.0, rampup=0.5), student).eval()
    trunk: list[Tensor] = []
    student.eval().encoder.backbone.get_submodule("stages.0").register_forward_hook(lambda *seen: trunk.append(seen[2]))
    seen = student(views)
    found = learner(seen, lesson(views), 0.25)
    branches = [seen.logits, *(other(trunk[0]) for other in learner.others)]
    shares = learner.gate(trunk[0].mean(dim=(2, 3))).softmax(dim=1)
    ensemble = sum(shares[:, i, None] * one for i, one in enumerate(branches))
    assert len(branches) == shares.shape[1] == 3
    assert found["one_branches"].item() == pytest.approx(sum(cross_entropy(one, LABELS).item() for one in branches))
    assert found["one_ensemble"].item() == pytest.approx(cross_entropy(ensemble, LABELS).item())
    taught = sum(divergence(one, ensemble, 2.0).item() for one in branches)
    assert found["one_distillation"].item() == pytest.approx(math.exp(-5 * 0.5**2) * taught)
    assert learner(student(views), lesson(views), 0.6)["one_distillation"].item() == pytest.approx(taught), "after the ramp-up"


def test_the_ensemble_is_not_pulled_to_the_branches() -> None:
    """Its gate learns from labels alone."""
    student, views = network(), [images()]
    learner: Any = objective(ONE(), student)
    torch.autograd.backward(learner(student(views), lesson(views), 0.5)["one_distillation"])
    assert all(p.grad is None for p in learner.gate.parameters())
    assert all(any(p.grad is not None and p.grad.any() for p in other.parameters()) for other in learner.others)


SPLIT = {
    "resnet": (Encoder(name="resnet10t", image_size=32, channels=1), "layer3", "layer4"),
    "resnetv2": (CONV, "stages.0", "stages.1"),
    "convnext": (Encoder(name="convnext_atto", image_size=32, channels=1), "stages.2", "stages.3"),
    "vit": (Encoder(name="vit_tiny_patch16_224", image_size=16, channels=1, patch_size=4, width=16, depth=3, heads=2), "blocks.1", "blocks.2"),
    "vit with registers": (Encoder(name="vit_small_patch14_reg4_dinov2", image_size=28, channels=1, width=16, depth=2, heads=2), "blocks.0", "blocks.1"),
    "shallow vit": (ENCODERS["vit"], "norm_pre", "blocks.0"),
}


@pytest.mark.parametrize(("encoder", "below", "above"), SPLIT.values(), ids=SPLIT)
def test_a_branch_with_the_students_own_weights_says_what_the_student_says(encoder: Encoder, below: str, above: str) -> None:
    whole, said = network(encoder).eval().encoder, list[Tensor]()
    whole.run_whole_blocks()
    whole.backbone.get_submodule(below).register_forward_hook(lambda *heard: said.append(heard[2]))
    batch = torch.randn(2, 1, encoder.image_size, encoder.image_size)
    expected, theirs, cut = whole(batch), whole.state_dict(), branch(whole).eval()
    assert not torch.equal(cut(said[0]), expected), "its first weights are its own"
    assert [name for name in cut.state_dict() if name.startswith("backbone.blocks") or "layer" in name or "stages" in name] == [
        name for name in theirs if name.startswith(f"backbone.{above}.")
    ]
    cut.load_state_dict({name: theirs[name] for name in cut.state_dict()})
    torch.testing.assert_close(cut(said[0]), expected)


@pytest.mark.parametrize(
    ("encoder", "named"),
    [
        (Encoder(name="mobilenetv3_small_050", image_size=32), "'mobilenetv3_small_050'"),
        (ENCODERS["vit"].model_copy(update={"pooling": "gem"}), "'vit_tiny_patch16_224' with encoder.pooling"),
    ],
)
def test_a_network_whose_split_is_not_known_is_refused(encoder: Encoder, named: str) -> None:
    with pytest.raises(UserError, match=f"it is not known where {named} splits into branches: take a ResNet, a ConvNeXt or a plain ViT"):
        objective(ONE(), network(encoder))


def test_branches_of_a_compiled_network_are_refused() -> None:
    with pytest.raises(InvalidPipeline, match="one looks at layers inside the encoder, and a compiled one shows none"):
        loads(PEERS.replace("dml", "one").replace("STUDENTS", "a: {name: resnet18}").replace("TRAIN", "compile: true"))


@pytest.mark.parametrize("memory", [{"pieces": 4}, {"checkpointing": True}, {"pieces": 4, "checkpointing": True}], ids=" ".join)
def test_branches_get_the_same_gradients_in_little_memory(memory: dict[str, Any]) -> None:
    case = CASES["distill-one-vit"]

    def stepped(**memory: Any) -> dict[str, Tensor]:
        method = case.make().double()
        for encoder in (module for module in method.modules() if isinstance(module, TimmEncoder)):
            encoder.memory(**memory)
        views = [view.double() for view in views_of(method)]
        for _ in range(2):
            step(method, torch.optim.SGD(method.parameters(), 0.1), views)
        return {name: p.detach() for name, p in method.named_parameters()}

    torch.testing.assert_close(stepped(**memory), stepped(), rtol=1e-9, atol=1e-9)


# PS-KD


def remembering(images: int = 8, alpha: float = 0.8) -> Any:
    return objective(PSKD(alpha=alpha), network(), images)


def seen_as(logits: Tensor) -> Seen:
    return Seen(torch.zeros(len(logits), 1), logits=logits)


FIRST, SECOND = torch.randn(2, 4, CLASSES, generator=torch.Generator().manual_seed(0))


def test_targets_are_labels_at_first_and_then_mixed_with_what_was_said_an_epoch_ago() -> None:
    learner, views, rows = remembering(), [images()], torch.tensor([5, 0, 3, 6])
    assert learner(seen_as(FIRST), lesson(views, rows), 0.5)["ps_kd"].item() == pytest.approx(cross_entropy(FIRST, LABELS).item())
    targets = 0.6 * nn.functional.one_hot(LABELS, CLASSES) + 0.4 * FIRST.softmax(dim=1)
    expected = -(targets * SECOND.log_softmax(dim=1)).sum(dim=1).mean().item()
    assert learner(seen_as(SECOND), lesson(views, rows), 0.5)["ps_kd"].item() == pytest.approx(expected)
    torch.testing.assert_close(learner.past[rows], SECOND.softmax(dim=1))
    assert not learner.past[[1, 2, 4, 7]].any(), "images that were not seen yet"


def test_in_one_batch_some_images_were_seen_before_and_some_not() -> None:
    learner, views = remembering(), [images()]
    learner(seen_as(FIRST), lesson(views, torch.tensor([0, 1, 2, 3])), 0.0)
    found = learner(seen_as(SECOND), lesson(views, torch.tensor([0, 1, 4, 5])), 0.5)["ps_kd"].item()
    past = torch.cat([0.4 * FIRST[:2].softmax(dim=1), torch.zeros(2, CLASSES)])
    targets = torch.tensor([0.6, 0.6, 1, 1])[:, None] * nn.functional.one_hot(LABELS, CLASSES) + past
    assert found == pytest.approx(-(targets * SECOND.log_softmax(dim=1)).sum(dim=1).mean().item())


def test_several_views_of_an_image_remember_their_mean_and_all_learn_it() -> None:
    learner, views = remembering(), [images()] * 2
    learner(seen_as(torch.cat([FIRST, SECOND])), lesson(views), 0.0)
    mean = (FIRST.softmax(dim=1) + SECOND.softmax(dim=1)) / 2
    torch.testing.assert_close(learner.past[:4], mean)
    targets = (0.2 * nn.functional.one_hot(LABELS, CLASSES) + 0.8 * mean).repeat(2, 1)
    both = torch.cat([SECOND, FIRST])
    expected = -(targets * both.log_softmax(dim=1)).sum(dim=1).mean().item()
    assert learner(seen_as(both), lesson(views), 1.0)["ps_kd"].item() == pytest.approx(expected)


def test_an_image_without_label_is_left_out() -> None:
    labels = torch.tensor([0, -1, 2, -1])
    for _ in range(2):
        learner = remembering()
        found = learner(seen_as(FIRST), lesson([images()], labels=labels), 0.5)["ps_kd"].item()
        assert found == pytest.approx(cross_entropy(FIRST, labels).item())


def test_a_look_is_not_remembered() -> None:
    learner = remembering().eval()
    learner(seen_as(FIRST), lesson([images()]), 0.5)
    assert not learner.past.any()


def test_what_is_kept_of_imagenet_takes_five_gigabytes() -> None:
    student, shapes = network(), Shapes(8, 8, (0, 0), {}, 1000, 16)
    with torch.device("meta"):
        learner: Any = build(PSKD(), Setting(shapes, None, student, 1_281_167, tuple(map(str, range(1000)))))
    assert learner.past.nbytes / 1e9 == pytest.approx(5.12, abs=0.01)


def test_a_student_comes_to_say_the_labels() -> None:
    """Twenty epochs of one batch: its own past does not hold it back."""
    method: Any = CASES["distill-ps_kd-convnet"].make()
    optimizer, views = adam(method, 1e-2), views_of(method)
    for i in range(20):
        step(method, optimizer, views, i / 20)
    logits = method.network(views).logits
    assert (logits.argmax(dim=1) == torch.arange(BATCH) % CLASSES).double().mean() > 0.9

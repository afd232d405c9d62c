"""Weights of other code bases and of other image sizes: what fits gives the same features, what does not is refused in one line."""

import argparse
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tiny_pipeline import DINO, VIT, made, plan
from tiny_training import Recorder
from torch import Tensor
from torch.nn.functional import conv2d, gelu, interpolate, layer_norm, linear, silu

from schemas.artifacts import Checkpoint, sha256
from schemas.encoders import Encoder
from schemas.errors import UserError
from ssl_tasks.checkpoints import load_encoder
from ssl_tasks.learner import Learner
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.pretrain import pretrain
from ssl_tasks.weights import State, fitted, initialise, looks_like, read_weights

WIDTH, HEADS = 32, 2
PLAIN = Encoder(name="vit_small_patch14_dinov2", image_size=28, patch_size=7, width=WIDTH, depth=2, heads=HEADS)
REGISTERS = PLAIN.model_copy(update={"name": "vit_small_patch14_reg4_dinov2"})
GATED = PLAIN.model_copy(update={"name": "vit_giant_patch14_dinov2", "options": {"mlp_ratio": 2.0}})
CONV = Encoder(name="resnet10t", image_size=32)


def dinov2(registers: int = 0, gated: bool = False) -> State:
    """Random weights under the names of https://github.com/facebookresearch/dinov2: `dinov2/models/vision_transformer.py`."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator) * 0.3

    def norm(name: str) -> State:
        return {f"{name}.weight": 1 + normal(WIDTH), f"{name}.bias": normal(WIDTH)}

    def dense(name: str, rows: int, columns: int) -> State:
        return {f"{name}.weight": normal(rows, columns), f"{name}.bias": normal(rows)}

    state = {"cls_token": normal(1, 1, WIDTH), "pos_embed": normal(1, 17, WIDTH), "mask_token": normal(1, WIDTH)}
    state |= {"patch_embed.proj.weight": normal(WIDTH, 3, 7, 7), "patch_embed.proj.bias": normal(WIDTH)}
    state |= {"register_tokens": normal(1, registers, WIDTH)} if registers else {}
    for block in (f"blocks.{i}" for i in range(2)):
        state |= norm(f"{block}.norm1") | norm(f"{block}.norm2")
        state |= dense(f"{block}.attn.qkv", 3 * WIDTH, WIDTH) | dense(f"{block}.attn.proj", WIDTH, WIDTH)
        state |= {f"{block}.ls1.gamma": normal(WIDTH), f"{block}.ls2.gamma": normal(WIDTH)}
        if gated:
            state |= dense(f"{block}.mlp.w12", 2 * WIDTH, WIDTH) | dense(f"{block}.mlp.w3", WIDTH, WIDTH)
        else:
            state |= dense(f"{block}.mlp.fc1", 4 * WIDTH, WIDTH) | dense(f"{block}.mlp.fc2", WIDTH, 4 * WIDTH)
    return state | norm("norm")


def dinov2_features(state: State, images: Tensor) -> Tensor:
    """CLS tokens of DINOv2's network, written out from its paper and code for images of the size it was trained at."""

    def dense(name: str, x: Tensor) -> Tensor:
        return linear(x, state[f"{name}.weight"], state[f"{name}.bias"])

    def norm(name: str, x: Tensor) -> Tensor:
        return layer_norm(x, (WIDTH,), state[f"{name}.weight"], state[f"{name}.bias"], eps=1e-6)

    patches = conv2d(images, state["patch_embed.proj.weight"], state["patch_embed.proj.bias"], stride=7).flatten(2).transpose(1, 2)
    x = torch.cat([state["cls_token"].expand(len(images), -1, -1), patches], dim=1) + state["pos_embed"]
    if "register_tokens" in state:
        x = torch.cat([x[:, :1], state["register_tokens"].expand(len(images), -1, -1), x[:, 1:]], dim=1)
    for block in (f"blocks.{i}" for i in range(2)):
        q, k, v = dense(f"{block}.attn.qkv", norm(f"{block}.norm1", x)).reshape(*x.shape[:2], 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
        attention = (q @ k.transpose(-1, -2) / (WIDTH // HEADS) ** 0.5).softmax(dim=-1)
        x = x + state[f"{block}.ls1.gamma"] * dense(f"{block}.attn.proj", (attention @ v).transpose(1, 2).flatten(2))
        inner = norm(f"{block}.norm2", x)
        if f"{block}.mlp.w12.weight" in state:
            gate, value = dense(f"{block}.mlp.w12", inner).chunk(2, dim=-1)
            inner = dense(f"{block}.mlp.w3", silu(gate) * value)
        else:
            inner = dense(f"{block}.mlp.fc2", gelu(dense(f"{block}.mlp.fc1", inner)))
        x = x + state[f"{block}.ls2.gamma"] * inner
    return norm("norm", x)[:, 0]


def written(state: Any, path: Path) -> Path:
    """The state as a file, safetensors or PyTorch's by its name."""
    if path.suffix == ".safetensors":
        save_file({name: value.contiguous() for name, value in state.items()}, path)
    else:
        torch.save(state, path)
    return path


def training_format(state: State) -> dict[str, Any]:
    """As the training code saves it: teacher and student with their heads, blocks in chunks, the student behind DDP, and its arguments."""
    chunked = {name.replace("blocks.0.", "blocks.0.0.").replace("blocks.1.", "blocks.1.1."): value for name, value in state.items()}
    teacher = {f"backbone.{name}": value for name, value in chunked.items()} | {"dino_head.last_layer.weight": torch.zeros(3)}
    student = {f"module.backbone.{name}": value + 1 for name, value in chunked.items()}
    return {"student": student, "teacher": teacher, "epoch": 3, "args": argparse.Namespace(lr=0.1)}


@pytest.mark.parametrize(
    ("config", "state"),
    [(PLAIN, dinov2()), (REGISTERS, dinov2(registers=4)), (GATED, dinov2(gated=True))],
    ids=["plain", "registers", "gated"],
)
@pytest.mark.parametrize("form", ["weights.safetensors", "weights.pth", "training.pt"])
def test_dinov2_checkpoints_of_every_form_give_dinov2s_features(tmp_path: Path, config: Encoder, state: State, form: str) -> None:
    path = written(training_format(state) if form == "training.pt" else state, tmp_path / form)
    encoder = TimmEncoder(config).eval()
    initialise(encoder, read_weights(path), form)
    images = torch.randn(3, 3, 28, 28)
    torch.testing.assert_close(encoder(images), dinov2_features(state, images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("config", [PLAIN, CONV], ids=["vit", "convnet"])
def test_a_timm_state_dict_with_a_classifier_gives_the_same_features(tmp_path: Path, config: Encoder) -> None:
    source, encoder = TimmEncoder(config).eval(), TimmEncoder(config).eval()
    head = "head" if config is PLAIN else "fc"
    weights = {**source.backbone.state_dict(), f"{head}.weight": torch.zeros(10, source.dim), f"{head}.bias": torch.zeros(10)}
    note = initialise(encoder, read_weights(written({"state_dict": weights}, tmp_path / "a.pth")), "a.pth")
    images = torch.randn(2, 3, config.image_size, config.image_size)
    assert torch.equal(encoder(images), source(images))
    assert note.endswith(f"left out: {head}.weight, {head}.bias")


def test_position_embeddings_are_resampled_to_the_grid_and_the_cls_token_is_kept() -> None:
    state = dinov2()
    larger = TimmEncoder(PLAIN.model_copy(update={"image_size": 56}))
    initialise(larger, state, "it")
    made: Tensor = larger.backbone.pos_embed
    grid = state["pos_embed"][:, 1:].reshape(1, 4, 4, WIDTH).permute(0, 3, 1, 2)
    expected = interpolate(grid, size=(8, 8), mode="bicubic", antialias=True).flatten(2).transpose(1, 2)
    torch.testing.assert_close(made[:, 1:], expected)
    assert torch.equal(made[:, 0], state["pos_embed"][:, 0])


def test_a_colour_network_made_grey_sees_grey_images_as_before() -> None:
    colour, grey = TimmEncoder(PLAIN).eval(), TimmEncoder(PLAIN.model_copy(update={"channels": 1})).eval()
    initialise(grey, colour.backbone.state_dict(), "it")
    images = torch.randn(2, 1, 28, 28)
    torch.testing.assert_close(grey(images), colour(images.expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"width": 48, "heads": 3}, r"cls_token is \(1, 1, 32\), not \(1, 1, 48\); .*; and \d+ more"),
        ({"depth": 3}, r"blocks\.2\.norm1\.weight is missing; .*; and 11 more"),
        ({"depth": 1}, r"blocks\.1\.norm1\.weight has no place; .*; and 11 more"),
        ({"name": "vit_small_patch16_224"}, r"blocks\.0\.ls1\.gamma has no place"),
        ({"name": REGISTERS.name}, r"reg_token is missing"),
        ({"name": "resnet10t", "patch_size": None, "width": None, "depth": None, "heads": None}, r"conv1\.0\.weight is missing"),
    ],
)
def test_weights_of_another_network_are_refused_in_one_line_that_says_what_they_look_like(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as refused:
        initialise(TimmEncoder(PLAIN.model_copy(update=changed)), dinov2(), "file.pth")
    assert str(refused.value).startswith("file.pth looks like a ViT of width 32, depth 2, patch 7, 3 channels, and '")
    assert str(refused.value).endswith("make `encoder` the network that it is of")
    assert "\n" not in str(refused.value)


def test_what_a_file_looks_like_is_told_of_vits_and_convnets() -> None:
    assert looks_like(dinov2(registers=4)) == "a ViT of width 32, depth 2, patch 7, 4 registers, 3 channels"
    assert looks_like(TimmEncoder(CONV).backbone.state_dict()).endswith("whose first layer has width 24, kernel 3, 3 channels")


def test_what_is_neither_encoder_nor_head_is_not_dropped_in_silence() -> None:
    with pytest.raises(UserError, match=r"adapter\.weight has no place"):
        fitted(TimmEncoder(PLAIN), dinov2() | {"adapter.weight": torch.zeros(1)}, "it")


def test_a_file_is_not_read_by_running_what_it_says(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"evil.pth cannot be read as weights: weights_only=True blocked"):
        read_weights(written({"model": Path("x")}, tmp_path / "evil.pth"))


@pytest.mark.parametrize(("name", "content"), [("a.safetensors", b"abc"), ("a.pth", b"abc"), ("a.pt", b"")])
def test_a_damaged_file_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=f"{name} cannot be read as weights"):
        read_weights(tmp_path / name)


def test_a_missing_file_and_one_without_tensors_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none.pth does not exist; the path is relative to the workspace"):
        read_weights(tmp_path / "none.pth")
    with pytest.raises(UserError, match=r"holds no tensors .* it has optimizer, epoch"):
        read_weights(written({"optimizer": {}, "epoch": 3}, tmp_path / "a.pth"))


class Stop(Exception):
    """Ends a stage before its first step."""


def begun(stages: str, workspace: Path, tracker: Recorder | None = None) -> State:
    """State of the method of the last stage, before its first step."""
    seen: State = {}

    def watch(learner: Learner) -> None:
        seen.update({name: value.clone() for name, value in learner.method.state_dict().items()})
        raise Stop

    planned = plan(stages, workspace)
    *before, last = planned.todo
    made(planned, *(stage.name for stage in before))
    with pytest.raises(Stop):
        pretrain(planned.job(last), tracker or Recorder(), watch)
    return seen


def test_student_and_teacher_start_from_a_file(tmp_path: Path) -> None:
    source = TimmEncoder(Encoder.model_validate({"name": "vit_tiny_patch16_224", "image_size": 64, "patch_size": 8, "width": 16, "depth": 2, "heads": 2}))
    written(source.backbone.state_dict(), tmp_path / "own.pth")
    tracker = Recorder()
    state = begun(f"  high: {{kind: pretrain, dataset: raw, method: {DINO}, encoder: {VIT}, init_from: {{file: own.pth}}}}", tmp_path, tracker)
    assert tracker.notes[0] == "starts from own.pth: a ViT of width 16, depth 2, patch 8, 3 channels"
    for name, value in source.backbone.state_dict().items():
        if name != "pos_embed":
            assert torch.equal(state[f"encoder.backbone.{name}"], value)
        assert torch.equal(state[f"encoder.backbone.{name}"], state[f"teacher_encoder.network.backbone.{name}"])


def test_an_encoder_starts_from_that_of_a_stage_it_names(tmp_path: Path) -> None:
    stages = f"""
  first: {{kind: pretrain, dataset: raw, method: {DINO}, encoder: {VIT}, train: {{epochs: 1, batch_size: 8}}}}
  second: {{kind: pretrain, dataset: raw, method: {{kind: simclr, hidden: 8, output: 8}}, encoder: {VIT}, init_from: first, seed: 5}}
"""
    state = begun(stages, tmp_path)
    handed_over = read_weights(made(plan(stages, tmp_path), "first")["first"].path("model.safetensors"))
    assert all(torch.equal(state[f"encoder.backbone.{name}"], value) for name, value in handed_over.items())


def test_a_neck_is_started_from_where_the_encoder_has_the_same(tmp_path: Path) -> None:
    necked, train = VIT.replace("}", ", neck: 12}"), "train: {epochs: 1, batch_size: 8, monitors: 1}"
    simclr = "method: {kind: simclr, hidden: 8, output: 8}"
    stages = f"""
  first: {{kind: pretrain, dataset: raw, {simclr}, encoder: {necked}, {train}}}
  second: {{kind: pretrain, dataset: raw, {simclr}, encoder: ENCODER, {train}, init_from: first, seed: 5}}
"""
    state = begun(stages.replace("ENCODER", necked), tmp_path)
    first = made(plan(stages.replace("ENCODER", necked), tmp_path), "first")["first"]
    assert isinstance(first, Checkpoint)
    handed_over = load_encoder(first).neck.state_dict()
    assert handed_over
    assert all(torch.equal(state[f"encoder.neck.{name}"], value) for name, value in handed_over.items())
    tracker = Recorder()
    begun(stages.replace("ENCODER", VIT), tmp_path, tracker)
    assert tracker.notes[0].endswith("; without its neck")


def test_a_file_that_changed_after_the_plan_is_not_trained_from(tmp_path: Path) -> None:
    stage = f"  high: {{kind: pretrain, dataset: raw, method: {DINO}, encoder: {VIT}, init_from: {{file: own.pth}}}}"
    planned = plan(stage, tmp_path)
    path = written(TimmEncoder(Encoder.model_validate({"name": "resnet10t"})).backbone.state_dict(), tmp_path / "own.pth")
    job = planned.job(planned.stages["high"]).model_copy(update={"stamp": "0" * 64})
    assert sha256(path) != job.stamp
    with pytest.raises(UserError, match=r"own\.pth has changed since the run was planned: run again"):
        pretrain(job, Recorder())

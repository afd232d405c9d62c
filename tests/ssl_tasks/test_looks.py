"""Pictures of models show what is there: known worlds, and the networks' own computations heard in the middle."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from evaluated import job
from matplotlib.figure import Figure
from sklearn.metrics import confusion_matrix
from small_world import TRAIN, VIT, SmallWorld, protocol
from torch import Tensor

from schemas.artifacts import Checkpoint
from schemas.encoders import Encoder
from schemas.methods import MAE as MAEConfig
from ssl_tasks import methods
from ssl_tasks.artifacts import draft, seal
from ssl_tasks.checkpoints import save_encoder, save_training_state
from ssl_tasks.evaluate.findings import Plate, Skipped
from ssl_tasks.evaluate.looks import attention, confusion, patch_pca, prototypes, reconstructions
from ssl_tasks.evaluate.protocols import apply
from ssl_tasks.evaluate.report import neighbourhoods, plane
from ssl_tasks.evaluate.report.pictures import grid
from ssl_tasks.methods.masked.mae import MAE
from ssl_tasks.nn import vit
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.nn.packed import last_attention
from ssl_tasks.report.theme import DARK, LIGHT

SMALL_MAE = {"kind": "mae", "decoder_width": 16, "decoder_depth": 1, "decoder_heads": 2}
SMALL_DINO = {"kind": "dino", "hidden": 16, "bottleneck": 8, "prototypes": 12}
ROTARY = {"name": "vit_small_patch16_dinov3", "image_size": 32, "patch_size": 8, "width": 24, "depth": 2, "heads": 2}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SmallWorld:
    """With two more models that kept their training state: `mae` and `dino`; `mae_alone` did not."""
    made = SmallWorld(tmp_path_factory.mktemp("looks"))
    for name, method, kept in (("mae", SMALL_MAE, True), ("mae_alone", SMALL_MAE, False), ("dino", SMALL_DINO, True)):
        made.models[name] = pretrained(made, name, method, kept)
        made.inputs[name] = made.models[name].key
    return made


def pretrained(world: SmallWorld, name: str, method: dict[str, Any], kept: bool) -> Checkpoint:
    stage = {"kind": "pretrain", "dataset": "raw", "method": method, "encoder": VIT, "train": TRAIN, "keep_training_state": kept}
    made: Any = job(world.workspace, name, stage, {"raw": world.inputs["raw"]})
    folder = draft(made)
    torch.manual_seed(1)
    trained = methods.build(made.stage.method, TimmEncoder(Encoder(**VIT)))
    encoder: Any = trained.exported()
    save_encoder(folder, encoder)
    if kept:
        save_training_state(folder, {"method": trained.state_dict(), "optimizer": {}})
    sealed = seal(made, folder, encoder=encoder.config.model_dump(mode="json"), mean=[0.5] * 3, std=[0.25] * 3, dim=encoder.dim, exported="encoder")
    assert isinstance(sealed, Checkpoint)
    return sealed


def plate(world: SmallWorld, kind: str, model: str, **settings: Any) -> Plate:
    (found,) = apply(protocol(kind, **settings), world.subject(model))[1]
    return found


def pictures(figure: Figure) -> list[Any]:
    return [image.get_array() for axes in figure.axes for image in axes.images]


class TestAttention:
    @pytest.mark.parametrize("config", [VIT, ROTARY], ids=lambda config: str(config["name"]))
    def test_it_is_what_the_last_block_reads_by(self, config: dict[str, Any]) -> None:
        torch.manual_seed(0)
        encoder, images = TimmEncoder(Encoder(**config)).eval(), torch.randn(3, 3, 32, 32)
        block: Any = encoder.backbone.blocks[-1]
        read: list[Tensor] = []
        block.attn.proj.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
        went_in: list[Tensor] = []
        block.attn.register_forward_pre_hook(lambda _, inputs: went_in.append(inputs[0]))
        encoder.run_whole_blocks()
        with torch.no_grad():
            encoder(images)
            weights = last_attention(encoder.backbone, vit.embed(encoder.backbone, images))
            width = went_in[0].shape[-1]
            v = torch.nn.functional.linear(went_in[0], block.attn.qkv.weight[2 * width :])
            if block.attn.qkv.bias is not None:
                v = v + block.attn.qkv.bias[2 * width :]
            elif getattr(block.attn, "v_bias", None) is not None:
                v = v + block.attn.v_bias
        values = v.unflatten(2, (2, -1)).transpose(1, 2)
        torch.testing.assert_close((weights @ values).transpose(1, 2).flatten(2), read[0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:3]))

    def test_maps_are_of_the_patches_alone(self) -> None:
        torch.manual_seed(0)
        encoder, images = TimmEncoder(Encoder(**ROTARY)).eval(), torch.randn(2, 3, 32, 32)
        maps = attention.cls_attention(encoder, images)
        assert maps.shape == (2, 2, 4, 4)
        whole = last_attention(encoder.backbone, vit.embed(encoder.backbone, images))[:, :, 0]
        assert encoder.prefix_tokens == 5  # CLS and four registers
        torch.testing.assert_close(maps.flatten(2), whole[..., 5:])
        assert bool((maps.sum((2, 3)) < 1).all())

    def test_a_convnet_and_a_vit_without_cls_token_are_told_so(self, world: SmallWorld) -> None:
        with pytest.raises(Skipped, match="no plain ViT"):
            apply(protocol("attention"), world.subject("convnet"))
        bare = TimmEncoder(Encoder(**{**VIT, "options": {"class_token": False, "global_pool": "avg"}})).eval()
        with pytest.raises(Skipped, match="no CLS token"):
            attention.cls_attention(bare, torch.randn(1, 3, 32, 32))

    def test_a_figure_has_the_image_and_a_map_a_head(self, world: SmallWorld) -> None:
        found = plate(world, "attention", "vit", images=3)
        assert len(pictures(found.draw(LIGHT))) == 3 * (1 + 2)
        assert "2 heads" in found.caption


class TestPatchPCA:
    def planted(self, share: float = 0.25) -> tuple[np.ndarray, np.ndarray]:
        """Patches (4, 64, 16) of two regions, and which are of the smaller one."""
        generator = np.random.default_rng(0)
        inside = np.arange(64) < 64 * share
        middles = np.where(inside[:, None], 1.0, -1.0) * np.eye(16)[0] * 5
        return middles + generator.normal(0, 0.3, (4, 64, 16)), np.tile(inside, (4, 1))

    def test_the_smaller_of_two_planted_regions_is_the_foreground(self) -> None:
        patches, inside = self.planted()
        colours, front = patch_pca.painted(patches, foreground=True)
        np.testing.assert_array_equal(front, inside)
        assert (colours[~inside] == 0).all()

    def test_without_a_foreground_the_regions_differ_in_the_first_colour(self) -> None:
        patches, inside = self.planted()
        red = patch_pca.painted(patches, foreground=False)[0][..., 0]
        assert red[inside].min() > red[~inside].max() or red[inside].max() < red[~inside].min()

    def test_scores_are_those_of_a_trusted_pca_but_for_their_sign(self) -> None:
        from sklearn.decomposition import PCA

        flat = self.planted()[0].reshape(-1, 16)
        ours, theirs = patch_pca.components(flat, flat, 3), PCA(3).fit_transform(flat)
        np.testing.assert_allclose(np.abs(ours), np.abs(theirs), atol=1e-8)

    def test_the_order_of_images_changes_no_colour(self) -> None:
        patches, _ = self.planted()
        forward, backward = (patch_pca.painted(patches[order], True)[0] for order in ([0, 1, 2, 3], [3, 2, 1, 0]))
        np.testing.assert_allclose(forward, backward[::-1], atol=1e-9)

    def test_a_collapsed_model_is_told_so(self) -> None:
        with pytest.raises(Skipped, match="collapsed"):
            patch_pca.painted(np.ones((2, 16, 8)), foreground=True)


class TestReconstructions:
    def test_visible_patches_stay_and_the_others_are_the_decoders(self) -> None:
        torch.manual_seed(0)
        method = MAE(MAEConfig(**SMALL_MAE, normalise_target=False), TimmEncoder(Encoder(**VIT))).eval()
        images = torch.randn(2, 3, 32, 32)
        masked, made = reconstructions.reconstructed(method, images, seed=0)
        hidden = (masked == 0).all(1)
        assert hidden.float().mean() == method.masked / method.grid**2
        torch.testing.assert_close(made.permute(0, 2, 3, 1)[~hidden], images.permute(0, 2, 3, 1)[~hidden])
        assert not torch.equal(made.permute(0, 2, 3, 1)[hidden], images.permute(0, 2, 3, 1)[hidden])

    def test_a_decoder_that_predicts_standardised_patches_rightly_gives_the_image_back(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from ssl_tasks.losses.masked import standardised
        from ssl_tasks.nn.patches import patchify

        method = MAE(MAEConfig(**SMALL_MAE), TimmEncoder(Encoder(**VIT))).eval()
        images = torch.rand(2, 3, 32, 32)
        monkeypatch.setattr(method, "predicted", lambda images, _: standardised(patchify(images, 8)))
        torch.testing.assert_close(reconstructions.reconstructed(method, images, 0)[1], images, rtol=1e-5, atol=1e-5)

    def test_they_need_the_decoder(self, world: SmallWorld) -> None:
        assert len(pictures(plate(world, "reconstructions", "mae", images=4).draw(LIGHT))) == 12
        with pytest.raises(Skipped, match=r"set stages\.mae_alone\.keep_training_state to true"):
            apply(protocol("reconstructions"), world.subject("mae_alone"))
        with pytest.raises(Skipped, match="not trained by mae"):
            apply(protocol("reconstructions"), world.subject("dino"))


class TestConfusion:
    def test_the_matrix_is_scikit_learns(self) -> None:
        generator = np.random.default_rng(0)
        true, said = generator.integers(0, 5, 300), generator.integers(0, 5, 300)
        np.testing.assert_array_equal(confusion.matrix(true, said, 5), confusion_matrix(true, said))

    def test_what_is_taken_for_no_known_class_is_counted_apart(self) -> None:
        assert confusion.matrix(np.array([0, 1, 1]), np.array([0, -1, 0]), 2).tolist() == [[1, 0], [1, 0]]

    def test_pairs_come_by_their_share_of_the_true_class(self) -> None:
        counts = np.array([[90, 10, 0], [0, 5, 5], [3, 0, 7]])
        assert confusion.pairs(counts, 5) == [(1, 2), (2, 0), (0, 1)]

    @pytest.mark.parametrize("classes", [3, 15, 40])
    def test_any_number_of_classes_is_drawn(self, classes: int) -> None:
        counts = np.full((classes, classes), 2) + 50 * np.eye(classes, dtype=int)
        names = [f"class {i}" for i in range(classes)]
        figure = confusion.drawn(counts, names, DARK) if classes <= confusion.LARGEST else confusion.listed(counts, confusion.pairs(counts, 20), names, DARK)
        assert figure.axes

    def test_a_probe_of_each_kind_judges(self, world: SmallWorld) -> None:
        names = [plate(world, "confusion", model, probe=probe).name for model, probe in (("vit", "linear"), ("vit", "knn"), ("classifier", "classifier"))]
        assert names == ["confusion-linear-vit", "confusion-knn-vit", "confusion-classifier-classifier"]
        with pytest.raises(Skipped, match="is no classifier"):
            apply(protocol("confusion", probe="classifier"), world.subject("vit"))


class TestPrototypes:
    def test_members_are_the_nearest_first(self) -> None:
        own, scores = np.array([0, 1, 0, 0]), np.array([0.2, 0.9, 0.8, 0.5], np.float32)
        assert prototypes.members(own, scores, 0).tolist() == [2, 3, 0]

    def test_planted_clusters_are_found(self) -> None:
        generator = torch.Generator().manual_seed(0)
        truth = torch.arange(90) % 3
        features = torch.eye(8)[truth] * torch.rand(90, 1, generator=generator).add(0.5) + 0.05 * torch.randn(90, 8, generator=generator)
        own, scores, count = prototypes.centroids(features, 3, seed=0)
        assert count == 3
        assert [len(set(own[truth.numpy() == c])) for c in range(3)] == [1, 1, 1]
        assert scores.min() > 0.8

    def test_those_of_a_head_are_what_the_teacher_says(self, world: SmallWorld) -> None:
        subject = world.subject("dino")
        features = torch.from_numpy(np.array(subject.features))
        found = prototypes.of_head(subject, features)
        assert found is not None
        assert found[2] == 12
        from ssl_tasks.evaluate.looks.whole import trained

        method: Any = trained(subject)
        with torch.no_grad():
            said = method.teacher_head(features)
        np.testing.assert_array_equal(found[0], said.argmax(1).numpy())
        assert "12 prototypes" in plate(world, "prototypes", "dino").caption

    def test_a_model_without_them_gets_centroids(self, world: SmallWorld) -> None:
        assert "centroids of k-means" in plate(world, "prototypes", "vit", clusters=3, images=2).caption


class TestGallery:
    def test_neighbours_are_those_of_brute_force(self, world: SmallWorld) -> None:
        subject = world.subject("vit")
        parts, x = subject.world.parts, np.array(subject.features, np.float64)
        unit = x / np.linalg.norm(x, axis=1, keepdims=True)
        expected = parts.bank[np.argsort(-(unit[parts.queries] @ unit[parts.bank].T), axis=1, kind="stable")[:, :8]]
        np.testing.assert_array_equal(neighbourhoods.nearest(subject.features, parts), expected)

    def test_it_shows_as_many_queries_as_asked(self, world: SmallWorld) -> None:
        assert len(pictures(plate(world, "gallery", "vit", queries=4).draw(LIGHT))) == 4 * 9


class TestMap:
    def test_planted_classes_lie_apart_and_the_same_each_time(self) -> None:
        truth = np.arange(60) % 3
        features = (np.eye(6)[truth] + np.random.default_rng(0).normal(0, 0.05, (60, 6))).astype(np.float32)
        first, again = plane.places(features, 0), plane.places(features, 0)
        np.testing.assert_array_equal(first, again)
        middles = np.array([first[truth == c].mean(0) for c in range(3)])
        assert (np.linalg.norm(first[:, None] - middles, axis=2).argmin(1) == truth).all()


def test_pictures_of_a_grid_stay_inside_of_it() -> None:
    picture = np.zeros((3, 8, 8), np.uint8)
    for rows, columns, labels in ((2, 3, ["a", "b"]), (1, 13, []), (3, 1, [])):
        figure = grid([[picture] * columns] * rows, {0: "first"}, LIGHT, labels, together=2)
        (axes,) = figure.axes
        assert len(axes.images) == rows * columns
        assert all(0 <= edge <= axes.get_xlim()[1] for image in axes.images for edge in image.get_extent()[:2])
        assert all(0 <= edge <= axes.get_ylim()[1] for image in axes.images for edge in image.get_extent()[2:])


def test_plates_of_several_models_have_names_of_their_own(world: SmallWorld, tmp_path: Path) -> None:
    names = [plate(world, kind, model).name for kind in ("patch_pca", "gallery") for model in ("vit", "convnet", "classifier")]
    assert len(set(names)) == 6
    for name in names:
        (tmp_path / f"{name}.png").touch()

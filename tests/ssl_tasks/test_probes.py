"""Probes on frozen features: against scikit-learn, in worlds with a known answer, and that no test label has a say."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from small_world import SmallWorld, protocol

from ssl_tasks.evaluate.findings import Plate
from ssl_tasks.evaluate.frozen import linear_probe
from ssl_tasks.evaluate.frozen.linear_probe import Head, scores, train
from ssl_tasks.evaluate.frozen.tokens import Tokens, batches, tokens
from ssl_tasks.evaluate.protocols import apply
from ssl_tasks.nn.blocks import last_blocks


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SmallWorld:
    return SmallWorld(tmp_path_factory.mktemp("probes"))


def planted(seed: int, n: int, classes: int = 4, width: int = 6, noise: float = 0.6) -> tuple[Tokens, np.ndarray]:
    """Features as of two blocks and their patches, of which only the block before the last tells the class."""
    generator = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    rows = generator.normal(size=(n, 3 * width))
    rows[:, width : 2 * width] = 3 * np.eye(width)[labels] + generator.normal(0, noise, (n, width))
    return Tokens(rows.astype(np.float32), width, 2, True), labels


class TestTokens:
    def test_they_are_what_timm_gives_for_the_last_blocks(self, world: SmallWorld) -> None:
        subject = world.subject("vit")
        batch = subject.prepare(next(subject.batches(np.arange(5))))
        with torch.inference_mode():
            expected: Any = subject.encoder.backbone.get_intermediate_layers(batch, n=2, norm=True, return_prefix_tokens=True)
            found = last_blocks(subject.encoder, batch, 2)
        for mine, (patches, prefix) in zip(found, expected[::-1], strict=True):
            torch.testing.assert_close(mine, torch.cat([prefix, patches], dim=1))

    def test_the_last_cls_token_is_the_models_feature_and_all_is_read_from_disk_the_second_time(self, world: SmallWorld) -> None:
        found = tokens(world.subject("vit"), 4)  # it has two blocks
        assert (found.blocks, found.rows.shape[1]) == (2, 3 * 24)
        np.testing.assert_allclose(found.rows[:, found.columns(1, False)], world.subject("vit").features, atol=1e-5)
        again = world.subject("vit")
        again.prepare = None  # type: ignore[assignment,method-assign]  # what made them cannot be called
        np.testing.assert_array_equal(tokens(again, 4).rows, found.rows)

    def test_a_convnet_gives_its_last_stage_alone(self, world: SmallWorld) -> None:
        subject = world.subject("convnet")
        found = tokens(subject, 4)
        np.testing.assert_array_equal(found.rows, subject.features)
        heads = linear_probe.grid(protocol("linear_probe", learning_rates=[0.1, 0.01]), found)  # type: ignore[arg-type]
        assert heads == [Head(1, False, 0.01), Head(1, False, 0.1)]

    def test_columns_are_those_of_blocks_and_patches(self) -> None:
        found = Tokens(np.arange(8)[None].astype(np.float32), 2, 3, True)
        assert found.rows[:, found.columns(2, False)].tolist() == [[0, 1, 2, 3]]
        assert found.rows[:, found.columns(1, True)].tolist() == [[0, 1, 6, 7]]

    def test_every_pass_sees_every_image_once(self) -> None:
        each = batches(10, 4, 5, seed=3)
        assert sorted(np.concatenate(each).tolist()) == sorted([*range(10), *range(10)])
        assert {len(step) for step in batches(10, 64, 3, 0)} == {10}


class TestLinearProbe:
    HEADS = [Head(blocks, average, rate) for blocks in (1, 2) for average in (False, True) for rate in (0.01, 0.1, 0.5)]

    def trained(self, found: Tokens, labels: np.ndarray, heads: list[Head], rows: np.ndarray, steps: int = 60) -> list[np.ndarray]:
        made = train(found, np.arange(300), heads, labels, 4, steps, 32, 5, "cpu", torch.float64)
        return scores(found, rows, made, "cpu")

    def test_heads_that_learn_together_are_those_that_learn_alone(self) -> None:
        found, labels = planted(0, 400)
        rows = np.arange(300, 400)
        together = self.trained(found, labels, self.HEADS, rows)
        for head, logits in zip(self.HEADS, together, strict=True):
            np.testing.assert_allclose(logits, self.trained(found, labels, [head], rows)[0], rtol=0, atol=1e-8)

    def test_a_head_takes_the_steps_of_sgd_as_numpy_takes_them(self) -> None:
        found, labels = planted(1, 300)
        head, steps = Head(2, False, 0.3), 7
        x, y = found.rows[:, :12].astype(np.float64), np.eye(4)[labels]
        weight = 0.01 * torch.randn(4, 12, generator=torch.Generator().manual_seed(5), dtype=torch.float64).numpy()
        bias, speed, lift = np.zeros(4), np.zeros((4, 12)), np.zeros(4)
        for step, rows in enumerate(batches(300, 32, steps, 5)):
            logits = x[rows] @ weight.T + bias
            error = np.exp(logits) / np.exp(logits).sum(1, keepdims=True) - y[rows]
            speed, lift = 0.9 * speed + error.T @ x[rows] / 32, 0.9 * lift + error.mean(0)
            rate = 0.3 * 32 / 256 * (1 + np.cos(np.pi * step / steps)) / 2
            weight, bias = weight - rate * speed, bias - rate * lift
        np.testing.assert_allclose(self.trained(found, labels, [head], np.arange(300), steps)[0], x @ weight.T + bias, atol=1e-10)

    def test_it_reaches_what_logistic_regression_reaches_and_only_where_the_class_is(self) -> None:
        found, labels = planted(2, 1300, noise=1.2)
        rows = np.arange(300, 1300)
        reads = found.columns(2, False)
        reference = LogisticRegression(C=1.0, max_iter=1000).fit(found.rows[:300, reads], labels[:300]).score(found.rows[rows][:, reads], labels[rows])
        accuracy = {
            h: float((each.argmax(1) == labels[rows]).mean()) for h, each in zip(self.HEADS, self.trained(found, labels, self.HEADS, rows, 400), strict=True)
        }
        assert accuracy[Head(2, False, 0.1)] == pytest.approx(reference, abs=0.02)
        assert accuracy[Head(1, True, 0.1)] < 0.35

    def test_a_head_that_diverges_is_not_chosen_and_harms_no_other(self) -> None:
        found, labels = planted(3, 400)
        sane, wild = self.trained(found, labels, [Head(2, False, 0.1), Head(2, False, math.inf)], np.arange(300, 400))
        assert (sane.argmax(1) == labels[300:]).mean() > 0.9
        assert not wild.any()

    def test_the_choice_and_the_answers_see_no_test_label(self, world: SmallWorld) -> None:
        asked = protocol("linear_probe")
        shares, captions = [], []
        first = world.subject("vit").world.parts
        for number in np.unique(first.labels[first.bank]):
            subject = world.subject("vit")
            parts = subject.world.parts
            parts.labels[parts.queries] = number
            numbers, plates = apply(asked, subject)
            shares.append(numbers[0].values[0])
            captions.append(plates[0].caption)
        assert sum(shares) == pytest.approx(1)  # one fixed answer an image, scored against each class in turn
        assert len(set(captions)) == 1

    def test_the_page_shows_which_head_was_chosen(self, world: SmallWorld) -> None:
        numbers, [plate] = apply(protocol("linear_probe"), world.subject("vit"))
        assert [number.metric for number in numbers] == ["accuracy", "top5"]
        assert isinstance(plate, Plate)
        assert plate.section == "results"
        assert "learning rate" in plate.caption
        assert "held-out train images" in plate.caption

"""What models take to run: FLOPs against a count by hand, and times that are only held to what any machine must show."""

import json
import time
from pathlib import Path

import pytest
import torch
from classified import family, judged
from evaluated import datasets, done, evaluation
from torch import Tensor, nn

from schemas.encoders import Encoder
from ssl_tasks.checkpoints import WEIGHTS
from ssl_tasks.evaluate import timing
from ssl_tasks.nn.classifier import Classifier, classifier_head
from ssl_tasks.nn.encoder import TimmEncoder


def test_flops_of_a_convnet_are_two_a_multiply_and_add() -> None:
    first, second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 6, 3, stride=2, padding=1)
    model = nn.Sequential(first, nn.BatchNorm2d(4), nn.ReLU(), second, nn.Flatten(), nn.Linear(96, 5)).eval()
    by_hand = 8 * 8 * 4 * (3 * 9) + 4 * 4 * 6 * (4 * 9) + 96 * 5
    assert timing.flops(model, (3, 8, 8)) == 2 * by_hand


@pytest.mark.parametrize("head", [False, True])
def test_flops_of_a_vit_count_its_attention_too(head: bool) -> None:
    width, patches, depth, tokens = 8, 16, 2, 17
    config = {"name": "vit_tiny_patch16_224", "image_size": 16, "channels": 1, "patch_size": 4, "depth": depth, "width": width, "heads": 2}
    encoder = TimmEncoder(Encoder.model_validate({**config, "options": {"mlp_ratio": 2}})).eval()
    model = Classifier(encoder, classifier_head(width, 3), ["a", "b", "c"]) if head else encoder
    projections = tokens * width * (3 * width + width + 2 * width + 2 * width)
    attention = 2 * tokens * tokens * width  # every token with every token, once for the weights and once for the sum
    by_hand = patches * (4 * 4) * width + depth * (projections + attention) + head * width * 3
    assert timing.flops(model, (1, 16, 16)) == 2 * by_hand


def test_counting_and_timing_change_nothing_of_a_model() -> None:
    model = TimmEncoder(Encoder(name="resnet10t", image_size=16, channels=1, stem="cifar", options={"channels": [4] * 4, "stem_width": 8})).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    timing.flops(model, (1, 16, 16))
    timing.speed(model, (1, 16, 16), "cpu", batch=4, repeats=3)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module.training for module in model.modules())


class Sleeper(nn.Module):
    """Takes 4 ms a pass, the first few 60."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.passes = nn.Parameter(torch.zeros(1)), 0

    def forward(self, images: Tensor) -> Tensor:
        self.passes += 1
        time.sleep(0.06 if self.passes <= timing.WARM_UP else 0.004)
        return images


def test_a_latency_is_a_median_after_the_warm_up_and_a_throughput_counts_images() -> None:
    found = timing.speed(Sleeper(), (1, 4, 4), "cpu", batch=10, repeats=9)
    assert 4 <= found.latency < 40  # a busy machine sleeps long, but not as long as the warm-up, every other time
    assert 250 < found.throughput <= 2500
    assert found.passes == 9


def test_a_slow_model_is_timed_a_few_times_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "SECONDS", 0.0)
    assert timing.speed(Sleeper(), (1, 4, 4), "cpu", batch=2, repeats=30).passes == 3


def test_the_machine_is_named() -> None:
    devices = timing.devices()
    assert devices["cpu"].endswith(("thread", "threads"))
    assert ("cuda" in devices) == torch.cuda.is_available()


def test_costs_are_rows_of_trained_models_and_of_no_delta(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssl_tasks.evaluate.report.page.write", lambda *_: None)
    inputs = family(tmp_path, datasets(tmp_path)[1])
    quick = {"kind": "cost", "batch": 8, "repeats": 3}
    report = done(evaluation(tmp_path, inputs, **judged((0,)), protocols=[{"kind": "knn", "k": 5}, quick]))[""]
    found = json.loads(report.path("results.json").read_text())
    rows = {(row["model"], row["metric"]): row["value"] for row in found["rows"] if row["version"] == "cost@1"}
    assert {model for model, _ in rows} == set(judged((0,))["models"])
    weights = tmp_path / ".sslflow/artifacts" / inputs["teacher"] / WEIGHTS
    assert rows["teacher", "megabytes"] == weights.stat().st_size / 1e6
    assert rows["teacher", "flops"] > rows["students[seed=0].small", "flops"] > rows["students[seed=0].tiny", "flops"] > 0
    assert rows["teacher", "parameters"] == found["rows"][0]["parameters"] + 3 * (16 + 1)  # with the head
    assert min(rows["teacher", metric] for metric in ("latency_cpu", "throughput_cpu")) > 0
    assert rows["students[seed=0].small_alone", "latency_cpu"] == rows["students[seed=0].small", "latency_cpu"]  # one network, timed once
    assert found["timed_on"].keys() == timing.devices().keys()
    assert not [entry for entry in found["deltas"] if entry["measure"].startswith("cost")]
    assert found["students"][0]["cost"]["distilled"]["flops"] == rows["students[seed=0].small", "flops"]

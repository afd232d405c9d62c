"""A tokenizer and who learns its words: what does not fit is told before anything runs."""

from pathlib import Path

import pytest

from schemas.advice import advice
from schemas.errors import InvalidPipeline
from schemas.load import loads
from schemas.references import references

GOOD = """\
name: words
stages:
  raw: {kind: ingest, source: digits}
  words:
    kind: tokenizer
    dataset: raw
    network: {image_size: 16, patch_size: 4, channels: 1, vocabulary: 256}
    views: {flip: 0}
    train: {epochs: 20, batch_size: 64}
  teacher:
    kind: pretrain
    dataset: raw
    method: {kind: beit, tokenizer: words, views: {flip: 0}}
    encoder: {name: vit_tiny_patch16_224, image_size: 16, patch_size: 4, channels: 1}
    train: {epochs: 20, batch_size: 64}
"""


def faults(text: str) -> list[str]:
    with pytest.raises(InvalidPipeline) as caught:
        loads(text, Path("x.yaml"), environ={})
    return str(caught.value).split("\n")


def test_the_pipeline_that_the_cases_break_is_good() -> None:
    pipeline = loads(GOOD)
    assert pipeline.order() == ["raw", "words", "teacher"]
    assert [(r.loc, r.takes, r.text) for r in references(pipeline.stages["teacher"])] == [
        (("dataset",), "Dataset", "raw"),
        (("method", "tokenizer"), "Tokenizer", "words"),
    ]
    assert advice(pipeline) == []


@pytest.mark.parametrize(
    ("good", "bad", "told"),
    [
        (
            "network: {image_size: 16",
            "network: {image_size: 32",
            "13:37 stages.teacher.method.tokenizer: 'words' has network.image_size 32, where the encoder's is 16: its words "
            "must be one for each of the encoder's patches",
        ),
        (
            "network: {image_size: 16, patch_size: 4, channels: 1",
            "network: {image_size: 16, patch_size: 8",
            "13:37 stages.teacher.method.tokenizer: 'words' has network.patch_size 8, where the encoder's is 4, channels 3, where the "
            "encoder's is 1: its words must be one for each of the encoder's patches",
        ),
        ("{kind: beit, tokenizer: words, views: {flip: 0}}", "{kind: beit}", "13:5 stages.teacher.method: missing 'tokenizer'"),
        ("{kind: beit, tokenizer: words, views: {flip: 0}}", "beit", "13:5 stages.teacher.method: missing 'tokenizer'"),
        ("tokenizer: words", "tokenizer: wrds", "13:37 stages.teacher.method.tokenizer: no stage 'wrds'; did you mean 'words'?"),
        ("tokenizer: words", "tokenizer: abc", "13:37 stages.teacher.method.tokenizer: no stage 'abc'; what makes a Tokenizer: words"),
        ("tokenizer: words", "tokenizer: raw", "13:37 stages.teacher.method.tokenizer: 'raw' makes a Dataset, wanted a Tokenizer"),
        ("dataset: raw\n    method", "dataset: words\n    method", "12:14 stages.teacher.dataset: 'words' makes a Tokenizer, wanted a Dataset"),
        (
            "patch_size: 4, channels: 1, vocabulary",
            "patch_size: 5, channels: 1, vocabulary",
            "7:27 stages.words.network.image_size: image_size 16 is not",
        ),
        ("vocabulary: 256", "vocabulary: 1", "7:71 stages.words.network.vocabulary: must be at least 2, not the number 1"),
        ("views: {flip: 0}\n", "views: {flip: 0}\n    temperature: [0.1, 1]\n", "9:5 stages.words.temperature: temperature [0.1, 1] must fall, to above 0"),
        ("batch_size: 64}\n  teacher", "compile: true}\n  teacher", "9:34 stages.words.train.compile: compile is for an encoder, and a tokenizer has none"),
        (
            "name: vit_tiny_patch16_224, image_size: 16, patch_size: 4",
            "name: resnet18, image_size: 16",
            "14:21 stages.teacher.encoder.name: beit masks patches",
        ),
    ],
    ids=lambda text: text[:40],
)
def test_a_fault_is_told_where_it_stands(good: str, bad: str, told: str) -> None:
    assert GOOD.count(good) == 1
    assert [line for line in faults(GOOD.replace(good, bad)) if line.startswith(f"x.yaml:{told}")]


def test_a_checkpoint_is_no_tokenizer() -> None:
    other = "  other: {kind: pretrain, dataset: raw, method: mae, encoder: {name: vit_tiny_patch16_224, image_size: 16, patch_size: 4, channels: 1}}\n"
    told = faults(GOOD.replace("tokenizer: words", "tokenizer: other") + other)
    assert told == ["x.yaml:13:37 stages.teacher.method.tokenizer: 'other' makes a Checkpoint, wanted a Tokenizer"]


def test_a_tokenizer_is_no_model_to_judge() -> None:
    told = faults(GOOD + "  report: {kind: evaluate, dataset: raw, models: [words], protocols: [knn]}\n")
    assert told == ["x.yaml:16:51 stages.report.models.0: 'words' makes a Tokenizer, wanted a Checkpoint"]


def test_who_goes_on_goes_on_with_the_same_words() -> None:
    kept = GOOD.replace("    encoder: {name", "    keep_training_state: true\n    encoder: {name")
    stages = kept.split("  words:\n")[1].split("  teacher:\n")
    later = f"  words2:\n{stages[0]}  later:\n    continues: teacher\n{stages[1]}"
    loads(kept + later)
    told = faults(kept + later.replace("tokenizer: words", "tokenizer: words2"))
    assert [line.split(": ", 1)[1] for line in told] == ["continues 'teacher', which learned the words of 'words', not of 'words2'"]


def test_a_baseline_has_no_tokenizer() -> None:
    students = """\
  students:
    kind: distill
    dataset: raw
    teacher: teacher
    method: feature
    baseline: alone
    students: {small: {name: vit_tiny_patch16_224, image_size: 16, patch_size: 4, channels: 1, depth: 2}}
"""
    told = faults(GOOD + students)
    assert len(told) == 1
    assert "baseline of 'small': beit learns from a tokenizer, and a baseline has none; name another method" in told[0]


def test_a_mirrored_digit_is_warned_of_in_a_tokenizer_too() -> None:
    [(place, message)] = advice(loads(GOOD.replace("    views: {flip: 0}\n", "")))
    assert place == ("stages", "words", "views", "flip")
    assert "mirrored" in message

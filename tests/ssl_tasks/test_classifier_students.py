"""Students that become classifiers, in stages that follow each other: supervised teachers, generations, assistants, peers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from test_distill import NARROW, VIEWS, job, teach, workspace
from tiny_training import CONV, TRAIN, VIT, Recorder, process, ranks, stripes

from schemas.artifacts import Checkpoint, read
from schemas.encoders import Encoder
from schemas.errors import UserError
from schemas.stages import Distill
from schemas.training import AdamW
from ssl_tasks.checkpoints import WEIGHTS, load_classifier
from ssl_tasks.nn.features import prepare
from ssl_tasks.run import run

__all__ = ["workspace"]

CLASSES = ["class 0", "class 1", "class 2", "class 3"]
SUPERVISED = TRAIN.model_copy(update={"epochs": 24.0, "optimizer": AdamW(learning_rate=5e-3), "monitors": 1, "checkpoint_steps": 1000})
BRIEF = {"train": {**SUPERVISED.model_dump(), "epochs": 2.0}}
STEADY = {"train": {**SUPERVISED.model_dump(), "epochs": 2.0, "optimizer": {"kind": "sgd", "learning_rate": 0.01}}}
"""Adam would blow up the rounding by which two processes differ from one."""
UNSPOILT = VIEWS.model_copy(update={"jitter": 0.0})


def learn(
    folder: Path, name: str, method: Any, students: dict[str, Any], teacher: str = "", outputs: tuple[str, ...] = (), tracker: Any = None, **stated: Any
) -> dict[str, Checkpoint]:
    """A distill stage with its artifacts; what student `s` of stage `a` has learned is taught by `a.s`."""
    networks = {n: {**(s.model_dump() if isinstance(s, Encoder) else s)} for n, s in students.items()}
    written = {"dataset": "data", "teacher": teacher or None, "method": method, "students": networks, "seed": 5, **stated}
    stage = Distill.model_validate({"views": UNSPOILT.model_dump(), "train": SUPERVISED.model_dump(), **written})
    inputs = {"data": "data", **({teacher: teacher} if teacher else {})}
    made = run(job(folder, name, stage, inputs, {output: f"{name}.{output}" for output in outputs or stage.outputs}), tracker or Recorder())
    return {output: artifact for output, artifact in made.items() if isinstance(artifact, Checkpoint)}


def accuracy(artifact: Checkpoint) -> float:
    """Of 200 images that nobody has trained on; chance is 1/4."""
    classifier = load_classifier(artifact)
    assert classifier is not None
    images = torch.from_numpy(stripes(280)[0][80:])
    with torch.inference_mode():
        said = classifier(prepare(images, artifact.encoder.image_size, artifact.mean, artifact.std)).argmax(dim=1)
    return (said == torch.arange(80, 280) % 4).double().mean().item()


def test_generations_are_stages_of_which_each_is_taught_by_the_one_before(workspace: Path) -> None:
    made = [learn(workspace, "gen0", "cross_entropy", {"s": CONV})["s"]]
    for generation in (1, 2):
        made.append(learn(workspace, f"gen{generation}", "born_again", {"s": CONV}, f"gen{generation - 1}.s")["s"])
    assert [artifact.classes for artifact in made] == [CLASSES] * 3
    assert min(map(accuracy, made)) > 0.6
    assert len({artifact.files[WEIGHTS] for artifact in made}) == 3
    assert made[2].exported == "student encoder with classifier"


def test_an_assistant_stands_between_a_teacher_and_a_small_student(workspace: Path) -> None:
    hinton = {"kind": "hinton", "temperature": 2.0}
    teacher = learn(workspace, "large", "cross_entropy", {"s": CONV})["s"]
    assistant = learn(workspace, "middle", hinton, {"s": VIT}, "large.s")["s"]
    small = learn(workspace, "small", {**hinton, "alpha": 1.0}, {"s": NARROW}, "middle.s")["s"]
    assert small.classes == assistant.classes == teacher.classes == CLASSES
    assert min(accuracy(artifact) for artifact in (teacher, assistant, small)) > 0.5
    assert small.metrics["parameters"] < assistant.metrics["parameters"]


@pytest.mark.slow
def test_every_way_to_learn_class_scores_makes_classifiers_in_one_pass(workspace: Path) -> None:
    learn(workspace, "teacher", "cross_entropy", {"s": CONV})
    kinds = ["bucila", {"kind": "logits", "weight": 0.1}, "hinton", "dkd", "soft_labels", {"kind": "born_again", "variant": "cwtm"}, "tf_kd", "one", "ps_kd"]
    named = {each if isinstance(each, str) else str(each["kind"]): each for each in kinds}
    students = {name: {**CONV.model_dump(), "method": method} for name, method in named.items()}
    students |= {name: {**CONV.model_dump(), "method": "dml"} for name in ("peer_a", "peer_b")}
    both = {**NARROW.model_dump(), "method": ["feature", {"kind": "hinton", "alpha": 1.0}]}
    made = learn(workspace, "all", None, {**students, "both": both}, "teacher.s")
    accuracies = {name: accuracy(artifact) for name, artifact in made.items()}
    assert accuracies.keys() == {*students, "both"}
    assert {name: value for name, value in accuracies.items() if value < 0.5} == {}
    assert all(artifact.classes == CLASSES for artifact in made.values())


def test_the_baseline_of_a_classifier_learns_from_labels_from_the_same_first_weights(workspace: Path) -> None:
    learn(workspace, "teacher", "cross_entropy", {"s": CONV}, **BRIEF)
    made = learn(workspace, "students", "hinton", {"s": NARROW}, "teacher.s", baseline="alone", **BRIEF)
    assert made.keys() == {"s", "s_alone"}
    assert made["s_alone"].classes == CLASSES
    assert made["s_alone"].files[WEIGHTS] != made["s"].files[WEIGHTS]
    plain = learn(workspace, "supervised", "cross_entropy", {"s": NARROW}, **BRIEF)["s"]
    assert made["s_alone"].files[WEIGHTS] == plain.files[WEIGHTS]


def test_a_peer_that_is_made_already_learns_along_and_is_not_made_again(workspace: Path) -> None:
    """A student ends the same whether its peers are asked for or not, but not without them."""
    peers = {"a": CONV, "b": CONV, "c": NARROW}
    whole = learn(workspace, "whole", "dml", peers, **BRIEF)
    assert whole["a"].files[WEIGHTS] != whole["b"].files[WEIGHTS]
    rest = learn(workspace, "rest", "dml", peers, outputs=("b",), **BRIEF)
    assert list(rest) == ["b"]
    assert rest["b"].files[WEIGHTS] == whole["b"].files[WEIGHTS]
    pair = learn(workspace, "pair", "dml", {"a": CONV, "b": CONV}, **BRIEF)
    assert pair["b"].files[WEIGHTS] != whole["b"].files[WEIGHTS]


def test_peers_that_were_cut_off_go_on_together(workspace: Path) -> None:
    """Each from the same step, as each looks at the others: also where the newest checkpoint of one was lost."""
    often = {"train": {**SUPERVISED.model_dump(), "epochs": 3.0, "checkpoint_steps": 2}}
    peers = {"a": CONV, "b": NARROW}
    whole = learn(workspace, "whole", "dml", peers, **often)
    child = process(_learn_until, workspace, peers, often, 7)
    child.join(60)
    assert child.exitcode == 1
    (workspace / ".sslflow/work/cut-work/checkpoints/b/step-000000006.pt").write_bytes(b"cut short")
    tracker = Recorder()
    made = learn(workspace, "cut", "dml", peers, tracker=tracker, **often)
    assert {note for note in tracker.notes if "goes on" in note} == {"a: goes on from step 4", "b: goes on from step 4"}
    assert {name: artifact.files[WEIGHTS] for name, artifact in made.items()} == {name: artifact.files[WEIGHTS] for name, artifact in whole.items()}


def _learn_until(folder: Path, peers: dict[str, Encoder], often: dict[str, Any], last: int) -> None:
    class Interrupting(Recorder):
        def metrics(self, values: Mapping[str, float], step: int) -> None:
            if step > last:
                raise KeyboardInterrupt

    torch.set_num_threads(1)
    learn(folder, "cut", "dml", peers, tracker=Interrupting(), **often)


def test_peers_on_two_processes_learn_what_they_learn_on_one(workspace: Path) -> None:
    ranks(2, _learn_as_rank, workspace)
    (alone, together) = (learn(workspace, "alone", "dml", {"a": CONV, "b": NARROW}, **STEADY), read(workspace / ".sslflow/artifacts/together.b"))
    assert isinstance(together, Checkpoint)
    images = prepare(torch.from_numpy(stripes()[0]), 8, [0.5], [0.5])
    said = [classifier(images).softmax(dim=1) for artifact in (alone["b"], together) if (classifier := load_classifier(artifact))]
    torch.testing.assert_close(said[0], said[1], rtol=1e-3, atol=1e-4)


def _learn_as_rank(folder: Path) -> None:
    learn(folder, "together", "dml", {"a": CONV, "b": NARROW}, **STEADY)


def test_a_teacher_trained_with_label_smoothing_is_told_of(workspace: Path) -> None:
    learn(workspace, "smooth", {"kind": "cross_entropy", "smoothing": 0.1}, {"s": CONV}, **BRIEF)
    for method, told in (("hinton", 1), ("feature", 0)):
        tracker = Recorder()
        learn(workspace, method, method, {"s": NARROW}, "smooth.s", tracker=tracker, **BRIEF)
        assert sum("was trained with label smoothing 0.1" in note for note in tracker.notes) == told


def test_an_encoder_has_no_scores_to_teach(workspace: Path) -> None:
    teach(workspace)
    with pytest.raises(UserError, match="hinton learns class scores, and the teacher 'teacher' has none: let a finetune stage make it a classifier"):
        learn(workspace, "students", "hinton", {"s": NARROW}, "teacher")

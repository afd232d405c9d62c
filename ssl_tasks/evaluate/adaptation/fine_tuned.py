"""Accuracy after an encoder is trained on labels, by the strategies of finetune stages and by their training: He et al., 2022 (MAE),
https://arxiv.org/abs/2111.06377, appendix A.1, for the full one with layer-wise decay; see `ssl_tasks/finetune/strategies.py` for the others.

A copy is trained on the labelled train images and judged on the test images after its last step: no test image chooses weights. Under unfreezing
a tenth of the train images does. An encoder before any training is trained alike: supervised learning from the same first weights.

Differs from the paper: augmentation, batch and epochs are as stated in the protocol, without mixup, label smoothing or random erasing.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from schemas.finetuning import MLPHead, Unfreezing
from schemas.job import Job
from schemas.protocols.adaptation import FineTuned
from schemas.stages import Finetune
from ssl_tasks.data.draw import Draw
from ssl_tasks.data.loader import seed_of
from ssl_tasks.data.subset import Subset
from ssl_tasks.data.views import MEAN_STD
from ssl_tasks.evaluate.findings import Number, Skipped, right
from ssl_tasks.evaluate.neighbours import Floats, Ints
from ssl_tasks.evaluate.probes import among_top
from ssl_tasks.evaluate.subject import Subject
from ssl_tasks.finetune.classification import Classification
from ssl_tasks.finetune.labels import Labelled
from ssl_tasks.finetune.looks import Looks
from ssl_tasks.monitors import Look
from ssl_tasks.nn.classifier import Classifier, classifier_head
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.tracking import Silent
from ssl_tasks.train import Seat, fit_together


def judge(protocol: FineTuned, subject: Subject) -> Iterator[Number]:
    if subject.encoder.config.whitening and not protocol.strategy.frozen:
        raise Skipped("is whitened, which cannot be trained: name the checkpoint before")
    each = [_once(protocol, subject, repeat) for repeat in range(protocol.repeats)]
    for metric, *found in zip(each[0], *(answers.values() for answers in each), strict=True):
        yield Number(metric, [float(answers.mean()) for answers in found], len(found[0]), np.mean(found, axis=0))


def meaning(protocol: FineTuned) -> str:
    train, share = protocol.train, "all" if protocol.labels == 1 else f"{protocol.labels:.3g} of the labels of each class (at least one image) of"
    decay = f", layer decay {train.layer_decay:g}" if train.layer_decay < 1 else ""
    spread = f" Mean and standard deviation over {protocol.repeats} trainings with seeds and draws of their own." if protocol.repeats > 1 else ""
    return (
        f"A copy of the network with a fresh head is trained ({protocol.strategy.kind}) on {share} labelled train images: {train.epochs:g} epochs, "
        f"batch {train.batch_size}, {train.optimizer.kind} at {train.optimizer.learning_rate:g}{decay}. Then it names the class of each test image, which "
        f"had no say before. The baseline is the same network trained so from random weights.{spread}"
    )


class Adapted(Classification):
    """A classifier in training whose images are prepared as its encoder's were."""

    def __init__(self, stage: Finetune, classifier: Classifier, subject: Subject) -> None:
        super().__init__(stage, classifier)
        self._prepare = subject.prepare
        assert subject.artifact
        self._mean_std = subject.artifact.mean, subject.artifact.std

    def views(self, images: Tensor, draw: Draw) -> list[Tensor]:
        usual = MEAN_STD[images.shape[1]]
        views = super().views(images, draw)
        if self._mean_std == usual:
            return views
        (was, spread), (mean, std) = ([torch.tensor(v, device=images.device).view(-1, 1, 1) for v in pair] for pair in (usual, self._mean_std))
        return [(view * spread + was - mean) / std for view in views]

    @torch.no_grad()
    def said(self, images: Tensor) -> Tensor:
        """Logits (B, K) of images, uint8 (B, C, S, S)."""
        logits: Tensor = self.model(self._prepare(images))
        return logits

    def classified(self, images: Tensor) -> Tensor:
        return self.said(images).argmax(dim=1)


def _once(protocol: FineTuned, subject: Subject, repeat: int) -> dict[str, Floats]:
    """Whether a training's answers are right, and whether their first five are, (Q,); kept in the work folder until the stage is done."""
    world, parts = subject.world, subject.world.parts
    seed = seed_of(world.seed, protocol.kind, repeat) >> 32
    told = json.dumps([subject.identity(), protocol.version, protocol.model_dump(mode="json"), parts.id, seed], sort_keys=True)
    job = world.job.model_copy(update={"key": f"{world.job.key}/{protocol.kind}/{hashlib.sha256(told.encode()).hexdigest()[:24]}"})
    kept = job.work.with_suffix(".npz")
    if not kept.is_file():
        stage = Finetune(
            dataset=world.stage.dataset, checkpoint="judged", strategy=protocol.strategy, labels=protocol.labels, views=protocol.views, train=protocol.train,
            batch_norm="trained" if subject.role == "random" and not (protocol.strategy.frozen or protocol.strategy.kind == "lora") else None, seed=seed,
        )  # fmt: skip
        base = Subset(subject.images, parts.bank.astype(np.int64))
        texts = [parts.classes[label] for label in parts.labels[parts.bank]]
        labelled = Labelled.of(texts, stage.dataset, stage.labels, seed, isinstance(stage.strategy, Unfreezing))
        with torch.random.fork_rng():
            method = _trained(stage, subject, base, texts, labelled, job)
        numbers = np.array([parts.classes.index(name) for name in labelled.classes])
        said = _said(method, subject, numbers)
        shutil.rmtree(job.work, ignore_errors=True)
        wanted = parts.labels[parts.queries]
        answers = {"accuracy": right(said.argmax(1), wanted)} | {n.metric: n.items for n in among_top(said, wanted) if n.items is not None}
        np.savez(kept, **answers)  # type: ignore[arg-type]  # its stub knows no mapping
    with np.load(kept) as found:
        return dict(found)


def _trained(stage: Finetune, subject: Subject, base: Subset, texts: list[str], labelled: Labelled, job: Job) -> Adapted:
    """A copy of the subject's encoder, trained with a fresh head; a training that was stopped goes on."""
    device = torch.device(subject.world.device)
    torch.manual_seed(seed_of(stage.seed, "weights"))
    hidden = stage.strategy.hidden if isinstance(stage.strategy, MLPHead) else None
    encoder = TimmEncoder(subject.encoder.config)
    encoder.load_state_dict(subject.encoder.state_dict())
    method = Adapted(stage, Classifier(encoder, classifier_head(encoder.dim, len(labelled.classes), hidden), labelled.classes), subject)
    images, numbers = Subset(base, labelled.rows), torch.from_numpy(labelled.numbers[labelled.rows]).to(device)
    look = Look(images, [texts[row] for row in labelled.rows], stage.seed, device)
    looks = Looks(look, base, labelled, stage.seed, job, device)

    def targets(_: list[Tensor], seat: Seat) -> Tensor:
        return numbers[torch.from_numpy(seat.rows).to(device)]

    silent = Silent()
    learner = fit_together({"": method}, images, stage.train, seed=stage.seed, workdir=job.work, tracker=silent, device=device, targets=targets, look=looks)[""]
    looks.settle(learner, silent)
    method.merge()
    return method.eval()


def _said(method: Adapted, subject: Subject, numbers: Ints) -> Floats:
    """Probabilities (Q, K) of the test images' classes; `numbers` are those of the method's classes among the data set's."""
    parts = subject.world.parts
    shares = [method.said(batch.to(subject.world.device)).double().softmax(1).cpu().numpy() for batch in subject.batches(parts.queries)]
    found = np.zeros((len(parts.queries), len(parts.classes)))
    found[:, numbers] = np.concatenate(shares)
    return found

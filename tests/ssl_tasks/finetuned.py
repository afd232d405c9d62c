"""Finetune stages small enough for tests, on the labelled stripes of `test_distill.workspace`."""

from pathlib import Path
from typing import Any

import torch
from test_distill import job
from tiny_training import CONV, SIMCLR, VIT, Recorder

from schemas.artifacts import Checkpoint
from schemas.encoders import Encoder
from schemas.finetuning import LPFT, Full, LinearHead, LoRA, MLPHead, Strategy, Unfreezing
from schemas.stages import Finetune, Pretrain
from schemas.training import AdamW, Train
from schemas.views import Views
from ssl_tasks import artifacts
from ssl_tasks.checkpoints import save_encoder
from ssl_tasks.data.views import MEAN_STD
from ssl_tasks.finetune import finetune
from ssl_tasks.finetune.classification import Classification
from ssl_tasks.nn.classifier import Classifier, classifier_head
from ssl_tasks.nn.encoder import TimmEncoder

DEEP = VIT.model_copy(update={"depth": 3})
VIEWS = Views(count=1, scale=(0.5, 1.0), flip=0.0, jitter=0.0, grey=0.0, blur=0.0)
TRAIN = Train(epochs=6, batch_size=16, optimizer=AdamW(learning_rate=5e-3), checkpoint_steps=5, monitors=4)
STRATEGIES: dict[str, Strategy] = {
    "linear": LinearHead(),
    "mlp": MLPHead(hidden=12),
    "full": Full(),
    "lora": LoRA(rank=2, modules=["q", "v", "proj", "mlp"]),
    "unfreezing": Unfreezing(groups=2),
    "lp_ft": LPFT(),
}
CASES = {f"{name}-{kind}": (strategy, encoder) for name, strategy in STRATEGIES.items() for kind, encoder in (("vit", DEEP), ("convnet", CONV))}
del CASES["lora-convnet"]


def random_checkpoint(workspace: Path, encoder: Encoder = CONV, key: str = "start") -> TimmEncoder:
    """Seal an encoder with random weights, and statistics of batch norms that are not those of the start, as if a stage had trained it."""
    stage = Pretrain(dataset="data", method=SIMCLR, encoder=encoder.model_copy(update={"whitening": None}))
    made = job(workspace, key, stage, {"data": "data"}, {"": key})
    torch.manual_seed(3)
    network = TimmEncoder(encoder)
    with torch.no_grad():
        for name, value in network.named_buffers():
            if name.endswith("running_mean"):
                value.normal_(0, 0.3)
            elif name.endswith("running_var"):
                value.uniform_(0.5, 2.0)
            elif name.endswith("matrix"):
                value.normal_()
    folder = artifacts.draft(made)
    save_encoder(folder, network)
    mean, std = MEAN_STD[encoder.channels]
    artifacts.seal(made, folder, encoder=encoder.model_dump(mode="json"), mean=mean, std=std, dim=network.dim, exported="encoder")
    return network.eval()


def config(strategy: Strategy, **settings: Any) -> Finetune:
    """A stage that starts from the artifact `start`."""
    start = {} if "encoder" in settings else {"checkpoint": "start"}
    return Finetune(**{"dataset": "data", "strategy": strategy, "views": VIEWS, "train": TRAIN, "seed": 5, **start, **settings})


def tune(workspace: Path, stage: Finetune, key: str = "tuned", tracker: Recorder | None = None) -> Checkpoint:
    """Run the stage; `key` keeps its artifact and work folder apart from those of other runs."""
    inputs = {name: name for name in (stage.dataset, stage.checkpoint) if name}
    made = finetune(job(workspace, key, stage, inputs, {"": key}), tracker or Recorder())
    assert isinstance(made[""], Checkpoint)
    return made[""]


def classification(stage: Finetune, encoder: Encoder, classes: int = 4, seed: int = 0) -> Classification:
    """The method of a stage, with random weights, in train mode."""
    torch.manual_seed(seed)
    network = TimmEncoder(encoder)
    hidden = stage.strategy.hidden if isinstance(stage.strategy, MLPHead) else None
    head = classifier_head(network.dim, classes, hidden)
    return Classification(stage, Classifier(network, head, [f"class {i}" for i in range(classes)])).train()

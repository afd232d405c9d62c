"""The whole method that a model was pretrained by: the heads, prototypes or decoder that are not handed over with the encoder."""

from ssl_tasks import methods
from ssl_tasks.checkpoints import TRAINING, load_training_state
from ssl_tasks.evaluate.findings import Skipped
from ssl_tasks.evaluate.subject import Subject
from ssl_tasks.method import Method
from ssl_tasks.nn.encoder import TimmEncoder


def trained(subject: Subject) -> Method:
    """The whole method of a pretrained model, heads and decoders too, in eval mode on the device.

    Raises:
        Skipped: where the model was not pretrained here, or its training state was not kept.
    """
    artifact = subject.artifact
    if not subject.is_model or artifact is None or artifact.kind != "pretrain":
        raise Skipped("was not made by a pretrain stage")
    if TRAINING not in artifact.files:
        raise Skipped(f"was handed over without the rest of its method; set stages.{artifact.stage}.keep_training_state to true")
    method = methods.restored(artifact.config["method"], TimmEncoder(artifact.encoder), load_training_state(artifact)["method"])
    return method.to(subject.world.device).eval()

"""Checkpoints of two kinds: the sealed encoder that a stage hands over, and the work folder's, from which a training resumes.

The only file that names the keys of a state dict. Nothing here unpickles code: weights are safetensors, and a work folder's
file is read by PyTorch's loader that takes tensors, numbers, text and containers of them.
"""

import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from schemas.artifacts import MANIFEST, Artifact, Checkpoint, Tokenizer, read, sha256
from schemas.errors import UserError
from ssl_tasks import distributed
from ssl_tasks.data.images import Unreadable, open_image
from ssl_tasks.nn.classifier import Classifier, classifier_head
from ssl_tasks.nn.dvae import DVAE
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.nn.features import prepared
from ssl_tasks.sharding import gathered

WEIGHTS, TRAINING = "model.safetensors", "training.pt"
NECK, HEAD = "sslflow_neck.", "sslflow_head."
"""What the names of a neck's and of a classifier's weights start with; all others are named as timm names them."""
KEPT = 2
"""Resumable checkpoints that a work folder holds: the newest, and one to fall back on."""


class Unwritable(UserError):
    """A disk that takes no more; only the rank that writes learns of it."""


def save_encoder(folder: Path, encoder: TimmEncoder, head: nn.Module | None = None) -> None:
    """Write the weights of an encoder's backbone, of its neck and of a classifier's head into an artifact's payload folder, as `model.safetensors`.

    Only the main rank writes, but all ranks that hold parts of them must ask.
    """
    state = gathered(encoder.backbone.state_dict() | _named(NECK, encoder.neck) | (_named(HEAD, head) if head else {}))
    if distributed.is_main():
        _write_weights(folder, state)


def _write_weights(folder: Path, state: dict[str, Tensor]) -> None:
    weights = {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}
    try:
        save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    except OSError as error:
        raise _unwritable(folder / WEIGHTS, error) from error


def load_encoder(artifact: Checkpoint, device: str | torch.device = "cpu") -> TimmEncoder:
    """The encoder of a Checkpoint, in eval mode.

    Raises:
        UserError: where the weights are missing, cut short, or not those that were sealed.
    """
    path = _as_sealed(artifact, WEIGHTS)
    encoder = TimmEncoder(artifact.encoder)
    weights = load_file(path)
    encoder.neck.load_state_dict(_taken(NECK, weights))
    _taken(HEAD, weights)
    encoder.backbone.load_state_dict(weights)
    return encoder.to(device).eval()


def load_classifier(artifact: Checkpoint, device: str | torch.device = "cpu") -> Classifier | None:
    """The classifier of a Checkpoint, in eval mode; None where it is an encoder alone. Raises as `load_encoder`."""
    if not artifact.classes:
        return None
    encoder = load_encoder(artifact, device)
    head = classifier_head(encoder.dim, len(artifact.classes), artifact.hidden)
    head.load_state_dict(_taken(HEAD, load_file(artifact.path(WEIGHTS))))
    return Classifier(encoder, head.to(device), artifact.classes).eval()


def save_tokenizer(folder: Path, network: DVAE) -> None:
    """Write the weights of a tokenizer into an artifact's payload folder, as `model.safetensors`."""
    _write_weights(folder, network.state_dict())


def load_tokenizer(artifact: Tokenizer) -> DVAE:
    """The network of a Tokenizer, in eval mode. Raises as `load_encoder`."""
    network = DVAE(artifact.network)
    network.load_state_dict(load_file(_as_sealed(artifact, WEIGHTS)))
    return network.eval()


def _named(prefix: str, module: nn.Module) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in module.state_dict().items()}


def _taken(prefix: str, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights whose names begin with `prefix`, without it; they are taken out of `weights`."""
    return {name.removeprefix(prefix): weights.pop(name) for name in list(weights) if name.startswith(prefix)}


def _as_sealed(artifact: Artifact, name: str) -> Path:
    """A payload file whose bytes are those that were sealed."""
    path = artifact.path(name)
    again = f"remove {artifact.folder} and run the pipeline again: it makes stage '{artifact.stage}' anew"
    if not path.is_file():
        raise UserError(f"{path} is missing: {again}")
    if sha256(path) != artifact.files.get(name):
        raise UserError(f"{path} was cut short or altered since it was sealed: {again}")
    return path


def save_training_state(folder: Path, state: dict[str, Any]) -> None:
    """Write what a stage that continues this one needs into an artifact's payload folder, as `training.pt`."""
    try:
        torch.save(state, folder / TRAINING)
    except (OSError, RuntimeError) as error:  # torch's writer turns a full disk into a RuntimeError
        raise _unwritable(folder / TRAINING, error) from error


def load_training_state(artifact: Checkpoint) -> dict[str, Any]:
    """What `save_training_state` wrote, on the CPU.

    Raises:
        UserError: where it is missing, cut short, or not what was sealed.
    """
    state: dict[str, Any] = torch.load(_as_sealed(artifact, TRAINING), map_location="cpu", weights_only=True)
    return state


class Model:
    """A trained encoder that knows how images must be prepared for it.

    Attributes:
        encoder: in eval mode.
        artifact: what is known of its making.
    """

    def __init__(self, artifact: Checkpoint, device: str | torch.device = "cpu") -> None:
        self.artifact = artifact
        self.encoder = load_encoder(artifact, device)
        self.device = torch.device(device)

    @property
    def dim(self) -> int:
        """Length of a feature vector."""
        return self.encoder.dim

    def embed(self, images: Sequence[str | Path], batch_size: int = 256) -> Tensor:
        """Features (N, dim) of image files, on the CPU: not normalised, prepared as in evaluation.

        Raises:
            UserError: where a file gives no picture; the message names it.
        """
        rows = [torch.empty(0, self.dim)]
        for start in range(0, len(images), batch_size):
            batch = torch.cat([self._prepared(Path(image)) for image in images[start : start + batch_size]])
            with torch.inference_mode():
                rows.append(self.encoder(batch.to(self.device)).float().cpu())
        return torch.cat(rows)

    def _prepared(self, path: Path) -> Tensor:
        config = self.artifact.encoder
        try:
            return prepared(open_image(path), config.channels, config.image_size, self.artifact.mean, self.artifact.std)
        except Unreadable as error:
            raise UserError(f"{path} gives no picture: {error.reason}") from error


def load(folder: str | Path, device: str | torch.device = "cpu") -> Model:
    """The model in the folder of a Checkpoint artifact, ready to embed images.

    Raises:
        UserError: where the folder holds no Checkpoint, or its weights are damaged.
    """
    try:
        artifact = read(Path(folder))
    except FileNotFoundError as error:
        raise UserError(f"{folder} is no artifact: it has no {MANIFEST}") from error
    if not isinstance(artifact, Checkpoint):
        raise UserError(f"{folder} holds a {artifact.type}, wanted a Checkpoint")
    return Model(artifact, device)


def save_training(folder: Path, step: int, state: dict[str, Any], identity: str) -> None:
    """Write what a training needs to go on from `step`, atomically; older files but one are removed.

    Args:
        folder: of this training alone.
        step: how many steps are done.
        state: tensors, numbers, text and containers of them.
        identity: of the training; only the same one may resume from the file.

    Raises:
        UserError: where the disk is full or read-only. The checkpoints that were there are still whole.
    """
    path = folder / _name(step)
    partial = path.with_suffix(".partial")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            torch.save({**state, "identity": identity}, file)
            file.flush()
            os.fsync(file.fileno())
        partial.rename(path)
        for old in _newest_first(folder)[KEPT:]:
            old.unlink()
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise _unwritable(path, error) from error


def load_training(folder: Path, identity: str, until: int | None = None) -> tuple[dict[str, Any] | None, list[str]]:
    """The newest whole checkpoint of the training `identity`, or None; and why each newer one was passed over.

    Args:
        until: the last step that is wanted; those after it are left out without a word.
    """
    passed_over = []
    for path in _newest_first(folder):
        if until is not None and path.name > _name(until):
            continue
        try:
            damaged = zipfile.ZipFile(path).testzip()  # the loader itself does not look at the checksums
            state = None if damaged else torch.load(path, map_location="cpu", weights_only=True)
        except Exception:  # a damaged archive makes zipfile and torch raise a dozen different types
            state = None
        if state is None:
            passed_over.append(f"checkpoint {path.name} is damaged")
        elif state.pop("identity", None) != identity:
            passed_over.append(f"checkpoint {path.name} is of another training")
        else:
            return state, passed_over
    return None, passed_over


def _name(step: int) -> str:
    return f"step-{step:09d}.pt"


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*.pt"), reverse=True)


def _unwritable(path: Path, error: OSError | RuntimeError) -> Unwritable:
    reason = getattr(error, "strerror", None) or error
    return Unwritable(f"cannot write {path} ({reason}): make room on its disk, or make it writable, and run again; training goes on from its last checkpoint")

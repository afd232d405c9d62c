"""Features of images by a network: of each image the same bits on a CPU, whatever others it is embedded with.

An image is prepared from its own pixels alone, as in evaluation; batches have one shape, the last is filled up with zeros; and
each shard is computed by one thread. So neither the order of images, nor where a run was killed, nor the number of cores shows.
"""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from schemas.artifacts import Checkpoint, read, sha256
from schemas.embeddings import Encoded, File
from schemas.encoders import Encoder
from schemas.errors import UserError
from schemas.job import Job
from ssl_tasks.checkpoints import WEIGHTS, load_encoder
from ssl_tasks.curate.vectors import table_of
from ssl_tasks.data.store import centre_square, of_channels, read_listed
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.nn.features import prepare
from ssl_tasks.weights import initialise, read_weights

BATCH = {"cpu": 16, "cuda": 256}
_LOADING, _COMPUTING = threading.Lock(), threading.Lock()


@dataclass(frozen=True)
class Encode:
    """Pooled features (N, dim) by the weights in a Checkpoint's folder or in a file; small to pickle.

    Attributes:
        weights: the folder, or the file.
        digest: sha256 of the weights.
        encoder: the network, as JSON.
        mean: of each channel, for pixels in [0, 1].
        std: likewise.
        device: `cpu` or `cuda`, wherever a shard runs.
    """

    workspace: Path
    weights: Path
    digest: str
    encoder: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    dim: int
    device: str

    @classmethod
    def of(cls, config: Encoded | File, job: Job) -> "Encode":
        """What a config says.

        Raises:
            UserError: where a file is missing, has changed since the run was planned, or is of another network.
        """
        device = "cuda" if torch.cuda.is_available() else "cpu"
        if isinstance(config, Encoded):
            artifact = read(job.folder(job.inputs[config.checkpoint]))
            assert isinstance(artifact, Checkpoint)
            mean, std, stated = tuple(artifact.mean), tuple(artifact.std), artifact.encoder.model_dump_json()
            return cls(job.workspace, artifact.folder, artifact.files[WEIGHTS], stated, mean, std, artifact.dim, device)
        path, stated = job.workspace / config.file, config.encoder.model_dump_json()
        network = _network(path, stated, digest := _sha256(path), "cpu")
        if job.stamp and digest not in job.stamp.split("+"):
            raise UserError(f"embedding.file: {path} has changed since the run was planned: run again")
        mean, std = _statistics(network)
        return cls(job.workspace, path, digest, stated, mean, std, network.dim, device)

    @property
    def name(self) -> str:
        """Stands for all that a vector depends on besides the image and the code."""
        stated = json.dumps([self.digest, self.encoder, self.mean, self.std, self.device])
        return f"{json.loads(self.encoder)['name']}-{hashlib.sha256(stated.encode()).hexdigest()[:20]}"

    @torch.inference_mode()
    def __call__(self, files: pa.Table) -> pa.Table:
        """Raises UserError where an image cannot be decoded or has other channels, or the weights are not those that were."""
        network, size = _network(self.weights, self.encoder, self.digest, self.device), BATCH[self.device]
        rows = list(zip(files["uri"].to_pylist(), files["sha256"].to_pylist(), strict=True))
        made = np.empty((len(rows), self.dim), np.float32)
        config = network.config
        with _one_thread():
            for start in range(0, len(rows), size):
                batch = torch.zeros(size, config.channels, config.image_size, config.image_size)
                for place, row in enumerate(rows[start : start + size]):
                    batch[place] = self._prepared(*row, config)
                made[start : start + size] = self._features(network, batch)[: len(rows) - start]
        return table_of(files, made)

    def _prepared(self, uri: str, sha256: str, config: Encoder) -> Tensor:
        """(C, S, S): shorter side resized to 256/224 of S, unless it is smaller, then as evaluation prepares squares."""
        image = read_listed(uri, sha256, self.workspace)
        side = min(round(config.image_size * 256 / 224), *image.size)
        pixels = of_channels(centre_square(image, side), config.channels, uri, self.workspace)
        return prepare(torch.from_numpy(pixels.copy())[None], config.image_size, list(self.mean), list(self.std))[0]

    def _features(self, network: TimmEncoder, batch: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        if self.device == "cpu":
            return network(batch).float().numpy()  # type: ignore[no-any-return]  # torch's stubs say Any
        with _COMPUTING:  # decoding goes on beside it; two batches at once would only take twice the memory
            return network(batch.to(self.device)).float().cpu().numpy()  # type: ignore[no-any-return]  # likewise


def _network(weights: Path, encoder: str, digest: str, device: str) -> TimmEncoder:
    with _LOADING:  # threads that come at once load it once
        return _loaded(weights, encoder, digest, device)


@lru_cache(maxsize=2)
def _loaded(weights: Path, encoder: str, digest: str, device: str) -> TimmEncoder:
    if weights.is_dir():
        artifact = read(weights)
        assert isinstance(artifact, Checkpoint)
        network = load_encoder(artifact, device)
        found = artifact.files[WEIGHTS]
    else:
        network = TimmEncoder(Encoder.model_validate_json(encoder))
        initialise(network, read_weights(weights, "embedding.file"), str(weights))
        found = _sha256(weights)
    if found != digest:
        raise UserError(f"{weights} has changed since this run began: run again")
    return network.to(device).eval()


def _sha256(path: Path) -> str:
    try:
        return sha256(path)
    except OSError as error:
        raise UserError(f"embedding.file: cannot read {path} ({error.strerror}); the path is relative to the workspace") from None


def _statistics(network: TimmEncoder) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of the pixels that timm's weights of this name saw; for other channels their mean."""
    stated, channels = network.backbone.pretrained_cfg, network.config.channels
    mean, std = (tuple(map(float, stated[key])) for key in ("mean", "std"))
    if len(mean) == channels:
        return mean, std
    return (sum(mean) / len(mean),) * channels, (sum(std) / len(std),) * channels


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let this thread compute alone: PyTorch's number of threads is each calling thread's own."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)

"""Protocols: how models are judged. One class a protocol, told apart by `kind`, one file a family."""

from typing import Annotated

from schemas.protocols.adaptation import FineTuned
from schemas.protocols.base import Need, ProtocolSpec
from schemas.protocols.classifiers import Accuracy, Calibration, Fidelity
from schemas.protocols.costs import Cost
from schemas.protocols.dense import Correspondence, Depth, Detection, Propagation, Segmentation
from schemas.protocols.frozen import KNN, FewShot, Linear, LinearProbe, LowLabel, MLPProbe
from schemas.protocols.grouping import Clustering, CopyDetection, Retrieval
from schemas.protocols.label_free import AlignmentUniformity, AlphaReQ, LiDAR, Rank, Rotation, Spectrum
from schemas.protocols.looks import Attention, Confusion, EmbeddingMap, Gallery, PatchPCA, Prototypes, Reconstructions
from schemas.protocols.robustness import Corruptions, Groups, OutOfDistribution, Reliability, Shift
from schemas.spec import Kinded

Protocol = Annotated[
    KNN
    | FewShot
    | Linear
    | LowLabel
    | LinearProbe
    | MLPProbe
    | FineTuned
    | Accuracy
    | Fidelity
    | Calibration
    | Clustering
    | Retrieval
    | CopyDetection
    | Segmentation
    | Depth
    | Detection
    | Propagation
    | Correspondence
    | Rank
    | AlphaReQ
    | LiDAR
    | AlignmentUniformity
    | Rotation
    | Spectrum
    | Corruptions
    | Shift
    | Groups
    | Reliability
    | OutOfDistribution
    | Attention
    | PatchPCA
    | Gallery
    | Reconstructions
    | EmbeddingMap
    | Confusion
    | Prototypes
    | Cost,
    *Kinded,
]

__all__ = ["Need", "Protocol", "ProtocolSpec"]

"""Protocols that make pictures and no numbers: what a reader looks at."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveInt

from schemas.protocols.base import Need, ProtocolSpec

_NETWORK: frozenset[Need] = frozenset({"network"})


class Attention(ProtocolSpec):
    """Where the last block's heads look: attention from the CLS token to the patches, a map a head."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2104.14294"
    version, title = "attention@1", "attention"
    needs: ClassVar[frozenset[Need]] = frozenset({"vit"})
    kind: Literal["attention"] = "attention"
    images: PositiveInt = Field(4, description="of the test split, or else of the train split")


class PatchPCA(ProtocolSpec):
    """The first three principal components of patch features as red, green and blue, over several images at once."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2304.07193"
    version, title, needs = "patch_pca@1", "patch PCA", _NETWORK
    kind: Literal["patch_pca"] = "patch_pca"
    images: PositiveInt = Field(8, description="of the test split, or else of the train split")
    foreground: bool = Field(True, description="fit the colours to patches on the first component's smaller side alone, the rest is left dark")


class Gallery(ProtocolSpec):
    """Test images and their nearest train images."""

    version, title = "gallery@1", "gallery"
    needs: ClassVar[frozenset[Need]] = frozenset({"test images"})
    kind: Literal["gallery"] = "gallery"
    queries: PositiveInt = Field(8, description="test images: half of them drawn at random, half those with the most neighbours of another class")


class Reconstructions(ProtocolSpec):
    """Masked images, and what a masked autoencoder's decoder makes of the visible patches."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2111.06377"
    version, title = "reconstructions@1", "reconstructions"
    needs: ClassVar[frozenset[Need]] = frozenset({"vit"})
    kind: Literal["reconstructions"] = "reconstructions"
    images: PositiveInt = Field(6, description="of the test split, or else of the train split")


class EmbeddingMap(ProtocolSpec):
    """The images in the plane, near where their features are near, coloured by class."""

    paper: ClassVar[str] = "https://jmlr.org/papers/v9/vandermaaten08a.html"
    version, title = "embedding_map@1", "map"
    kind: Literal["embedding_map"] = "embedding_map"
    by: Literal["tsne", "umap"] = Field("tsne", description="how the plane is found; umap needs umap-learn")
    samples: Annotated[int, Field(ge=10)] = Field(400, description="images in the map")


class Confusion(ProtocolSpec):
    """Which classes are taken for which: the confusion matrix of a probe, or of the model's own head."""

    version, title = "confusion@1", "confusion"
    needs: ClassVar[frozenset[Need]] = frozenset({"train labels", "test labels"})
    kind: Literal["confusion"] = "confusion"
    probe: Literal["linear", "knn", "classifier"] = Field("linear", description="`classifier` is the model's own head")


class Prototypes(ProtocolSpec):
    """Prototypes, or where a checkpoint has none the centroids of k-means, with the images nearest to them."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2006.09882"
    version, title = "prototypes@1", "prototypes"
    kind: Literal["prototypes"] = "prototypes"
    clusters: PositiveInt = Field(8, description="shown, the largest first")
    images: PositiveInt = Field(8, description="shown of each")

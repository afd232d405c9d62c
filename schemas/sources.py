"""Where images come from."""

from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, field_validator, model_validator

from schemas.spec import Kinded, Spec, Unfit

Part = Annotated[float, Field(ge=0, lt=1)]


class Digits(Spec):
    """The 1,797 handwritten digits that ship inside scikit-learn, written out as 8x8 BMP files: needs no network."""

    kind: Literal["digits"] = "digits"
    path: str = Field("data/digits", description="where the files are written, relative to the workspace")


class Files(Spec):
    """What every source says whose images a person brought."""

    path: str
    holdout: Annotated[float, Field(ge=0, lt=1)] = Field(0.0, description="share of images, chosen by their bytes, that becomes the test split")

    @field_validator("path")
    @classmethod
    def _is_one_place(cls, path: str) -> str:
        if "://" in path and "::" in path:
            raise ValueError("must be one address: an image in a container is found by itself")
        if path.startswith(("file:", "local:")):
            raise ValueError("must be the path itself where files are on this machine")
        return path


class Folder(Files):
    """A folder of jpg, png, webp, bmp, tiff, gif or npy (uint8, H x W x channels) files, of any nesting; symlinks are not followed out of it."""

    kind: Literal["folder"] = "folder"
    path: str = Field(description="the folder, absolute or relative to the workspace, or an address such as s3://bucket/images")
    labels: bool = Field(False, description="true: the name of the folder that holds an image is its label")
    splits: bool = Field(False, description="true: the first folder level names the split (train, val, test)")


class WebDataset(Files):
    """Tar shards: files of one name are a sample (0001.jpg, 0001.cls). Images are read where they lie in the shards, which are never unpacked."""

    kind: Literal["webdataset"] = "webdataset"
    path: str = Field(description="a folder, a shard or a glob of shards (shards/train-*.tar), absolute, relative to the workspace or an address")
    labels: bool = Field(False, description="true: a sample's label is what its .cls file says, or `label` in its .json file")
    splits: bool = Field(False, description="true: the first folder level names the split; of shards in no folder their name up to the first `-`")


class Parquet(Files):
    """Parquet files with a column of encoded images: their bytes, or a struct of `bytes` and `path` as Hugging Face writes them."""

    kind: Literal["parquet"] = "parquet"
    path: str = Field(description="a folder, a file or a glob of files (data/train-*.parquet), absolute, relative to the workspace or an address")
    image: str = Field("image", description="column of the images")
    label: str | None = Field(None, description="column of the labels; without it there are none")
    splits: bool = Field(False, description="true: the first folder level names the split; of files in no folder their name up to the first `-`")


class HuggingFace(Files):
    """A data set, or a dict of one a split, that Hugging Face `datasets` left on disk by `save_to_disk`; that library is not needed."""

    kind: Literal["huggingface"] = "huggingface"
    path: str = Field(description="the folder, absolute or relative to the workspace, or an address")
    image: str = Field("image", description="column of the images")
    label: str | None = Field(None, description="column of the labels; without it there are none")


class Torchvision(Spec):
    """A named torchvision data set, downloaded by torchvision's own code where there is a network."""

    kind: Literal["torchvision"] = "torchvision"
    name: str = Field(description="class name in torchvision.datasets, such as CIFAR10")
    root: str = Field(".sslflow/torchvision", description="where it is downloaded to, relative to the workspace")

    @field_validator("name")
    @classmethod
    def _is_a_class_name(cls, name: str) -> str:
        if not name.isidentifier():
            raise ValueError("must be the name of a class in torchvision.datasets, such as CIFAR10")
        return name


class Scenes(Spec):
    """Coloured shapes at random places on textured ground, drawn in code, with class, mask, boxes and depth."""

    kind: Literal["scenes"] = "scenes"
    count: PositiveInt = Field(512, description="how many images")
    size: Annotated[int, Field(ge=16, le=4096)] = Field(64, description="side in pixels")
    test: Annotated[float, Field(ge=0, lt=1)] = Field(0.2, description="share that becomes the test split")
    seed: NonNegativeInt = Field(0, description="another seed draws other scenes")


class Planted(Spec):
    """A pool whose faults are known, made from labelled images: a long tail of classes, near copies, junk, and leaks of test images."""

    kind: Literal["planted"] = "planted"
    images: Annotated[Digits | Folder, *Kinded] = Field(Digits(), description="the clean images: digits, or a folder of train/CLASS/* and test/CLASS/*")
    part: Literal["pool", "seeds"] = Field("pool", description="the pool with its test split, or a few clean images a class that are not in the pool")
    originals: PositiveInt = Field(400, description="clean train images in the pool")
    tail: Annotated[float, Field(ge=1)] = Field(50.0, description="images of the most frequent class over those of the rarest")
    copies: Part = Field(0.6, description="share of the pool's train images that are near copies of others in it")
    junk: Part = Field(0.1, description="share that is noise, blank or text")
    leaks: Part = Field(0.05, description="share that are near copies of test images")
    seeds: PositiveInt = Field(5, description="images a class of the seed set")
    seed: NonNegativeInt = Field(0, description="another seed plants others")

    @model_validator(mode="after")
    def _leaves_originals(self) -> Self:
        if self.copies + self.junk + self.leaks >= 1:
            raise Unfit("copies, junk and leaks must leave a share for the originals: together below 1", "copies", "junk", "leaks")
        return self

    @property
    def images_at_most(self) -> int:
        """Train images of the pool; a few less where a class has not as many as its share."""
        return round(self.originals / (1 - self.copies - self.junk - self.leaks)) + 10


Source = Annotated[Digits | Folder | WebDataset | Parquet | HuggingFace | Torchvision | Scenes | Planted, *Kinded]


def is_address(path: str) -> bool:
    """Whether a path of a source is an address, such as s3://bucket/images, rather than a place on this machine's disks."""
    return "://" in path


def on_disk(source: Source) -> str:
    """Where the files of a source lie on this machine's disks, as written; empty where they lie elsewhere or are made by code that names its own place."""
    return source.path if isinstance(source, Digits | Files) and not is_address(source.path) else ""

"""What every protocol says of itself. Its id names its version: results under different ids are never compared."""

from typing import ClassVar, Literal, Self

from schemas.spec import Spec

Need = Literal["train labels", "test labels", "test images", "classifier", "network", "vit"]
"""What a protocol cannot do without: of the data set labels or a test split; of a model a classifier's head, a network at all
(raw pixels have none), or the tokens and attention of a plain ViT."""


class ProtocolSpec(Spec):
    """What every protocol has.

    Attributes:
        version: its id, `KIND@N`; N is raised when the same features would give another number.
        title: how a table names it.
        needs: without what it is left out, with a line that says so.
        fitting: whether it trains networks, so that it takes minutes and not seconds.
        listed: the field that may list several values, if any: each is a protocol of its own, with rows of its own.
    """

    version: ClassVar[str]
    title: ClassVar[str]
    needs: ClassVar[frozenset[Need]] = frozenset()
    fitting: ClassVar[bool] = False
    listed: ClassVar[str] = ""
    kind: str

    def each(self) -> list[Self]:
        """The protocols that it stands for: itself, or one a listed value."""
        values = getattr(self, self.listed) if self.listed else None
        return [self.model_copy(update={self.listed: value}) for value in dict.fromkeys(values)] if isinstance(values, list) else [self]

"""Some of a set's images, as a set of its own."""

import numpy as np
from numpy.typing import NDArray

from ssl_tasks.data.loader import Images


class Subset:
    """The images of some rows of a set.

    Attributes:
        whole: the set.
        rows: numbers (N,) of its images in `whole`.
    """

    def __init__(self, whole: Images, rows: NDArray[np.int64]) -> None:
        self.whole, self.rows = whole, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: NDArray[np.int64], /) -> NDArray[np.uint8]:
        return self.whole[self.rows[rows]]

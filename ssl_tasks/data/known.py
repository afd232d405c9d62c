"""What is known of images by the sha256 of their files: each value is made once, whatever pool the image comes back in."""

import hashlib
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from schemas.errors import UserError


class Known:
    """Rows of values by sha256 in a folder of Parquet files that are written once and never changed.

    Several processes may add to it at a time. A file that was cut short is left out, and its images are unknown again.

    Args:
        folder: of what made the values: its name must stand for everything that they depend on besides the image.
        schema: of the values, without the column `sha256`.
    """

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        self.folder, self.schema = folder, pa.schema([pa.field("sha256", pa.string(), nullable=False), *schema])

    def missing(self, sha256s: pa.Array) -> pa.Array:
        """Those of which nothing is known, each once, in their order."""
        asked = pc.unique(sha256s)
        return asked.filter(pc.invert(pc.is_in(asked, value_set=self._hashes())))

    def add(self, table: pa.Table) -> None:
        """Keep rows; the file is there whole or not at all.

        Raises:
            UserError: where it cannot be written.
        """
        name = hashlib.sha256("".join(table["sha256"].to_pylist()).encode()).hexdigest()[:24]
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            handle, draft = tempfile.mkstemp(dir=self.folder, prefix=".draft-")
            os.close(handle)
            try:
                pq.write_table(table.cast(self.schema), draft, compression="none", use_dictionary=False)
                os.replace(draft, self.folder / f"{name}.parquet")
            finally:
                Path(draft).unlink(missing_ok=True)
        except OSError as error:
            raise UserError(f"cannot write {table.nbytes / 1e6:,.1f} MB to {self.folder} ({error.strerror}): free space there") from error

    def take(self, sha256s: pa.Array) -> pa.Table:
        """The rows of these images, in their order. Raises KeyError where one is unknown."""
        parts = [self._read(path) for path in self._files()]
        whole = pa.concat_tables([p for p in parts if p is not None] or [self.schema.empty_table()])
        found = pc.index_in(sha256s, value_set=whole["sha256"].combine_chunks())
        if found.null_count:
            raise KeyError(f"{found.null_count} images are unknown in {self.folder}")
        return whole.take(found)

    def _hashes(self) -> pa.Array:
        found = [t["sha256"] for path in self._files() if (t := self._read(path, ["sha256"])) is not None]
        return pa.chunked_array(found, pa.string()).combine_chunks()

    def _files(self) -> Sequence[Path]:
        return sorted(self.folder.glob("*.parquet"))

    def _read(self, path: Path, columns: list[str] | None = None) -> pa.Table | None:
        try:
            return pq.read_table(path, columns=columns or self.schema.names, partitioning=None)
        except (OSError, pa.ArrowInvalid):
            return None

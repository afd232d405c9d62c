"""The measures of a pool's images, shard by shard; what they are, and what they are made by, is in `ssl_tasks.data.measures`."""

import pyarrow as pa

from schemas.job import Job
from ssl_tasks.curate import shards
from ssl_tasks.data.measures import Measure, kept


def measures(rows: pa.Table, job: Job, mapper: shards.Mapper, progress: shards.Progress) -> pa.Table:
    """(N rows, columns of `SCHEMA` after `sha256`), in the order of `rows`."""
    return shards.of_each(rows, Measure(job.workspace), kept(job.cache), mapper, progress)

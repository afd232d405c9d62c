from schemas.curation import Filter
from ssl_tasks.curate.decisions import Decisions
from ssl_tasks.curate.pool import Pool


def filter_rows(pool: Pool, config: Filter) -> Decisions:
    raise NotImplementedError

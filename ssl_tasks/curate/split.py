from schemas.curation import Split
from ssl_tasks.curate.decisions import Decisions
from ssl_tasks.curate.pool import Pool


def split(pool: Pool, config: Split) -> Decisions:
    raise NotImplementedError

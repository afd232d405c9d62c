from schemas.curation import Retrieve
from ssl_tasks.curate.decisions import Decisions
from ssl_tasks.curate.pool import Pool


def retrieve(pool: Pool, config: Retrieve) -> Decisions:
    raise NotImplementedError

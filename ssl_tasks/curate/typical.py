from schemas.curation import Typical
from ssl_tasks.curate.decisions import Decisions
from ssl_tasks.curate.pool import Pool


def typical(pool: Pool, config: Typical) -> Decisions:
    raise NotImplementedError

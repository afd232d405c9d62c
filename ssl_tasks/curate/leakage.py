from schemas.curation import Leakage
from ssl_tasks.curate.decisions import Decisions
from ssl_tasks.curate.pool import Pool


def leakage(pool: Pool, config: Leakage) -> Decisions:
    raise NotImplementedError

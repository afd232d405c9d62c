from schemas.curation import Diverse
from ssl_tasks.curate.decisions import Decisions
from ssl_tasks.curate.pool import Pool


def diverse(pool: Pool, config: Diverse) -> Decisions:
    raise NotImplementedError

from schemas.curation import Cluster
from ssl_tasks.curate.decisions import Decisions
from ssl_tasks.curate.pool import Pool


def cluster(pool: Pool, config: Cluster) -> Decisions:
    raise NotImplementedError

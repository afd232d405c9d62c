from schemas.curation import PerceptualDuplicates
from ssl_tasks.curate.decisions import Decisions
from ssl_tasks.curate.pool import Pool


def perceptual_duplicates(pool: Pool, config: PerceptualDuplicates) -> Decisions:
    raise NotImplementedError

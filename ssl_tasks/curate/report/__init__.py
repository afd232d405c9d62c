"""The report of a curation: what came in, what each step took and why, with pictures; one page that needs nothing but itself."""

from ssl_tasks.curate.report.page import write
from ssl_tasks.curate.report.story import STAYS, Story

__all__ = ["STAYS", "Story", "write"]

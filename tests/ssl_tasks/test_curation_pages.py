"""The pages of the curation steps say what the code says."""

import inspect

from schemas.curation import Step
from schemas.shapes import kinds
from ssl_tasks.curate import pages


def test_every_step_has_a_page_and_the_pages_are_up_to_date() -> None:
    written = {path.name: path.read_text() for path in pages.FOLDER.glob("*.md")}
    assert {f"{kind}.md" for kind in kinds(Step)} | {"README.md"} == set(written)
    assert written == pages.pages(), "run `make generated`"


def test_every_step_reads_in_a_file_of_its_own() -> None:
    for kind in kinds(Step):
        module = __import__(f"ssl_tasks.curate.{kind}", fromlist=["_"])
        assert inspect.getdoc(module), kind

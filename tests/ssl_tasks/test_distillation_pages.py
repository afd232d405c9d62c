"""The pages of the distillation methods say what the code says."""

import re

from schemas import distillers as configs
from schemas.shapes import kinds
from ssl_tasks.distill import pages
from ssl_tasks.distill.objectives import OBJECTIVES


def test_every_method_has_a_config_a_file_of_its_own_and_a_page() -> None:
    assert set(OBJECTIVES) == set(kinds(configs.Distiller).values())
    assert len({objective.__module__ for objective in OBJECTIVES.values()}) == len(OBJECTIVES)
    assert {f"{kind}.md" for kind in kinds(configs.Distiller)} | {"README.md"} == set(pages.pages())


def test_the_pages_are_up_to_date() -> None:
    written = {path.name: path.read_text() for path in pages.FOLDER.glob("*.md")}
    assert written == pages.pages(), "run `make generated`"


def test_every_page_tells_the_paper_the_idea_and_where_it_differs() -> None:
    for name, page in pages.pages().items():
        if name != "README.md":
            assert "Differs from the" in page, name
            assert re.search(r"https://(arxiv.org|www.cs.cornell.edu)", page), name
            assert "ssl_tasks/distill/" in page, name

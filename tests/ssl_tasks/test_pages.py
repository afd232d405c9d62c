"""The pages of the methods say what the code says."""

import re

from schemas import methods as configs
from schemas.shapes import kinds
from ssl_tasks.methods import METHODS, pages


def test_every_method_has_a_config_a_module_and_a_page() -> None:
    assert set(METHODS) == set(kinds(configs.Method).values())
    assert len({method.__module__ for method in METHODS.values()}) >= len(METHODS) - 1  # MoCo v1 and v2 are one file
    assert {f"{kind}.md" for kind in kinds(configs.Method)} | {"README.md"} == set(pages.pages())


def test_the_pages_are_up_to_date() -> None:
    written = {path.name: path.read_text() for path in pages.FOLDER.glob("*.md")}
    assert written == pages.pages(), "run `make generated`"


def test_every_page_tells_the_paper_the_idea_and_where_it_differs() -> None:
    for name, page in pages.pages().items():
        if name != "README.md":
            assert "Differs from the paper" in page, name
            assert re.search(r"https://(arxiv.org|openaccess|github)", page), name
            assert "ssl_tasks/methods/" in page, name

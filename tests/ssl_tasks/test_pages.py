"""The pages of the methods, of pretraining and of distillation, say what the code says."""

import re
from types import ModuleType
from typing import Any, NamedTuple

import pytest

from schemas.distillers import Distiller
from schemas.methods import Method
from schemas.shapes import kinds
from ssl_tasks.distill import pages as distillers
from ssl_tasks.distill.objectives import OBJECTIVES
from ssl_tasks.methods import METHODS
from ssl_tasks.methods import pages as methods


class Family(NamedTuple):
    configs: Any
    classes: dict[Any, type]
    modules: int
    pages: ModuleType
    code: str
    differs: str
    papers: str


INDEXES = {"README.md", "choosing.md"}
each = pytest.mark.parametrize(
    "family",
    [
        Family(
            Method, METHODS, len(METHODS) - 3, methods, "ssl_tasks/methods/", "Differs from the paper", "arxiv.org|openaccess|github|www.jmlr.org"
        ),  # MoCo v1 and v2 share a file, MSN and PMSN too, and VICReg-exp and -ctr
        Family(Distiller, OBJECTIVES, len(OBJECTIVES), distillers, "ssl_tasks/distill/", "Differs from the", "arxiv.org|www.cs.cornell.edu"),
    ],
    ids=["pretraining", "distillation"],
)


@each
def test_every_method_has_a_config_a_module_and_a_page(family: Family) -> None:
    assert set(family.classes) == set(kinds(family.configs).values())
    assert len({found.__module__ for found in family.classes.values()}) >= family.modules
    assert {f"{kind}.md" for kind in kinds(family.configs)} == set(family.pages.pages()) - INDEXES


@each
def test_the_pages_are_up_to_date(family: Family) -> None:
    written = {path.name: path.read_text() for path in family.pages.FOLDER.glob("*.md")}
    assert written == family.pages.pages(), "run `make generated`"


@each
def test_every_page_tells_the_paper_the_idea_and_where_it_differs(family: Family) -> None:
    for name, page in family.pages.pages().items():
        if name not in INDEXES:
            assert family.differs in page, name
            assert re.search(f"https://({family.papers})", page), name
            assert family.code in page, name

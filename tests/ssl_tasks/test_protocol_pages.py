"""The pages of the protocols say what the code says."""

import pytest
from small_world import SmallWorld, protocol

from schemas.protocols import Protocol
from schemas.shapes import kinds
from ssl_tasks.evaluate import pages
from ssl_tasks.evaluate.protocols import apply


def test_every_protocol_has_a_page_and_the_pages_are_up_to_date() -> None:
    written = {path.name: path.read_text() for path in pages.FOLDER.glob("*.md")}
    assert {f"{kind}.md" for kind in kinds(Protocol)} | {"README.md"} == set(written)
    assert written == pages.pages(), "run `make generated`"


@pytest.mark.parametrize("kind", ["knn", "rank", "retrieval", "clustering", "cost", "gallery"])
def test_a_page_names_all_metrics_that_its_protocol_gives(kind: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    asked = protocol(kind)
    numbers, _ = apply(asked, SmallWorld(tmp_path_factory.mktemp("pages")).subject("vit"))
    assert {number.metric for number in numbers} <= set(pages.metrics(type(asked)))


def test_every_protocol_gives_numbers_or_is_a_look() -> None:
    assert {kind for kind, spec in pages._protocols().items() if not pages.metrics(spec)} == {
        "attention", "patch_pca", "gallery", "reconstructions", "embedding_map", "confusion", "prototypes",
    }  # fmt: skip

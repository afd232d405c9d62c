"""What the README shows is true: its YAML is the file that runs, its faults are those that are printed, its links lead somewhere."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from schemas.load import load

ROOT = Path(__file__).resolve().parents[1]
BROKEN = (
    ("threshold:", "treshold:"),
    ("dataset: clean\n    method: &simclr", "dataset: claen\n    method: &simclr"),
    ("learning_rate: 4e-3", "learning_rate: -4e-3"),
)


PAGES = ["README.md", *sorted(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))]


def blocks(language: str, page: str = "README.md") -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / page).read_text(), flags=re.MULTILINE | re.DOTALL)


def test_the_pipeline_shown_is_the_one_that_runs() -> None:
    assert blocks("yaml") == [(ROOT / "workflows/quickstart.yaml").read_text()]


def test_the_faults_shown_are_those_that_are_printed(tmp_path: Path) -> None:
    text = (ROOT / "workflows/quickstart.yaml").read_text()
    for right, wrong in BROKEN:
        assert right in text
        text = text.replace(right, wrong, 1)
    (tmp_path / "broken.yaml").write_text(text)
    done = subprocess.run([Path(sys.executable).with_name("sslflow"), "validate", "broken.yaml"], cwd=tmp_path, capture_output=True, text=True, check=False)
    (shown,) = blocks("text")
    assert shown == "$ sslflow validate broken.yaml\n" + done.stderr


def test_python_blocks_compile() -> None:
    for block in blocks("python"):
        compile(block, "README.md", "exec")


WHOLE = [(page, i) for page in PAGES for i, block in enumerate(blocks("yaml", page)) if re.match(r"(#.*\n)*name: ", block)]


def test_the_guides_show_whole_pipelines() -> None:
    assert {"README.md", "docs/distillation.md", "docs/reference.md"} <= {page for page, _ in WHOLE}


@pytest.mark.parametrize(("page", "number"), WHOLE)
def test_every_whole_pipeline_that_is_shown_is_valid(tmp_path: Path, page: str, number: int) -> None:
    (tmp_path / "shown.yaml").write_text(blocks("yaml", page)[number])
    load(tmp_path / "shown.yaml")


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files(page: str) -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", (ROOT / page).read_text())
    missing = [link for link in links if "://" not in link and not ((ROOT / page).parent / link).exists()]
    assert not missing

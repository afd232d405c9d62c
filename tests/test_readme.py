"""What the README shows is true: its YAML is the file that runs, its faults are those that are printed, its links lead somewhere."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
BROKEN = (
    ("threshold:", "treshold:"),
    ("dataset: clean\n    method: &simclr", "dataset: claen\n    method: &simclr"),
    ("learning_rate: 4e-3", "learning_rate: -4e-3"),
)


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


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


@pytest.mark.parametrize("page", ["README.md", *sorted(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))])
def test_links_lead_to_files(page: str) -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", (ROOT / page).read_text())
    missing = [link for link in links if "://" not in link and not ((ROOT / page).parent / link).exists()]
    assert not missing

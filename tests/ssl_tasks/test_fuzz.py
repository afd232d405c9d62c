"""Thousands of damaged images: each gives the same picture every time or a reason; none ends or stalls the process, or speaks on its terminal."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
from mutants import mutants, wholes
from test_curate import curated, raw

from schemas.errors import UserError
from ssl_tasks.data.images import header, open_image, pixel_digest
from ssl_tasks.data.store import read_listed

# Pytest shows what Pillow warns of; a process of its own, as in the second test, is told nothing.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")
REASONS = {"empty", "wrong type", "truncated", "unreadable", "too large"}
READ = """
import json, sys, time
sys.path.insert(0, sys.argv[1])
from mutants import mutants
from peak_memory import highest
from ssl_tasks.data.measures import looks
from ssl_tasks.data.images import Unreadable, header, open_image, pixel_digest

def answer(data):
    try:
        image = open_image(data)
        looks(image)
        return pixel_digest(image)
    except Unreadable as error:
        return error.reason

answers, slowest = [], 0.0
for _, data in mutants(int(sys.argv[2]), int(sys.argv[3])):
    began = time.process_time()
    header(data)
    answers.append((answer(data), answer(data)))
    slowest = max(slowest, time.process_time() - began)
print(json.dumps({"answers": answers, "slowest": slowest, "memory": highest() / 1024}))
"""


def read_in_another_process(count: int, seed: int) -> list[list[str]]:
    """Both answers on each mutant, a digest or a reason; fails where the process did, was slow or large, or wrote on its terminal."""
    command = [sys.executable, "-W", "default", "-X", "faulthandler", "-c", READ, str(Path(__file__).parent), str(count), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=count * 0.05, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    said = json.loads(done.stdout)
    assert said["slowest"] < 2
    assert said["memory"] < 1000
    answers: list[list[str]] = said["answers"]
    return answers


def test_every_whole_image_is_read() -> None:
    for name, data in wholes().items():
        assert open_image(data).mode in ("L", "RGB"), name
        found = header(data)
        assert found is not None
        assert found[:2] == (40, 32), name


@pytest.mark.parametrize(("count", "seed"), [(3000, 0), pytest.param(10_000, 1, marks=pytest.mark.slow)])
def test_a_damaged_image_gives_a_reason_or_the_same_picture_every_time(count: int, seed: int) -> None:
    answers = read_in_another_process(count, seed)
    assert len(answers) == count
    assert all(first == second for first, second in answers)
    faults = [first for first, _ in answers if len(first) < 64]
    assert set(faults) == REASONS
    assert 0.5 < len(faults) / count < 0.9  # neither harmless nor hopeless


def test_damaged_files_end_in_the_quarantine_and_what_passes_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "pool").mkdir()
    for name, data in mutants(200, seed=2):
        (tmp_path / "pool" / name).write_bytes(data)
    raw(tmp_path)
    dataset, table, _ = curated(tmp_path, ["integrity", "exact_duplicates"])
    with dataset.path("quarantine.csv").open(newline="") as file:
        quarantined = dict(list(csv.reader(file))[1:])
    assert 50 < len(quarantined) < 180
    digests = set()
    for row in table.to_pylist():
        if row["uri"] not in quarantined:
            digests.add(pixel_digest(read_listed(row["uri"], row["sha256"], tmp_path)))
        elif quarantined[row["uri"]] in REASONS:
            with pytest.raises(UserError, match=r"cannot be decoded \("):
                read_listed(row["uri"], row["sha256"], tmp_path)
    assert len(digests) == dataset.kept

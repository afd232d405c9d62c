"""Energy is what the counters rose by, over all tries of a stage, and is not stated where none can be read."""

from itertools import count
from pathlib import Path

import pytest

from ssl_tasks import energy
from ssl_tasks.energy import Counter, Meter, processors


def package(root: Path, name: str, microjoules: int, most: int = 262_143_328_850) -> Path:
    """A folder as Linux shows a processor's counter."""
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "energy_uj").write_text(f"{microjoules}\n")
    (folder / "max_energy_range_uj").write_text(f"{most}\n")
    return folder


def test_packages_are_counted_and_their_parts_are_not_counted_twice(tmp_path: Path) -> None:
    package(tmp_path, "intel-rapl:0", 5_000_000)
    package(tmp_path, "intel-rapl:0:0", 4_000_000)
    package(tmp_path, "intel-rapl:1", 7_500_000)
    (tmp_path / "intel-rapl").mkdir()
    assert [counter.read() for counter in processors(tmp_path)] == [5.0, 7.5]


def test_what_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    package(tmp_path, "intel-rapl:0", 5_000_000)
    (tmp_path / "intel-rapl:1").mkdir()
    assert len(processors(tmp_path)) == 1
    assert processors(tmp_path / "nowhere") == []


def test_it_is_what_the_counters_rose_by_also_where_one_begins_again(tmp_path: Path) -> None:
    folder = package(tmp_path, "intel-rapl:0", 900_000, most=1_000_000)
    meter = Meter(tmp_path / "joules", [*processors(tmp_path), Counter(iter([10.0, 12.5, 12.5]).__next__)])
    (folder / "energy_uj").write_text("200000\n")
    assert meter.joules == pytest.approx(0.3 + 2.5)
    assert meter.joules == pytest.approx(0.3 + 2.5)


def test_the_next_try_goes_on_from_what_the_last_one_took(tmp_path: Path) -> None:
    first = Meter(tmp_path / "work/joules", [Counter(iter([0.0, 40.0]).__next__)])
    assert first.joules == 40
    second = Meter(tmp_path / "work/joules", [Counter(iter([1000.0, 1002.0]).__next__)])
    assert second.joules == 42


def test_a_counter_is_read_while_nobody_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "EVERY", 0.01)
    steps = count()  # may be asked by two threads at once
    meter = Meter(tmp_path / "joules", [Counter(steps.__next__)])
    while next(steps) < 3:
        pass
    assert (meter.joules or 0) >= 3


def test_without_a_counter_nothing_is_stated(tmp_path: Path) -> None:
    assert Meter(tmp_path / "joules", []).joules is None
    assert not (tmp_path / "joules").exists()

"""YAML is read strictly: what a word means never depends on the reader, and no file exhausts the process."""

import gc
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from schemas import strict_yaml
from schemas.errors import InvalidPipeline, Problem
from schemas.locate import Node, Place, plain

FILE = Path("f.yaml")


@pytest.fixture(params=["CSafeLoader", "SafeLoader"], autouse=True)
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both of PyYAML's parsers: wheels bring the fast one, other installs only the slow one."""
    monkeypatch.setattr(strict_yaml, "_PARSER", getattr(yaml, request.param))


def tree(text: str) -> Node:
    problems: list[Problem] = []
    node = strict_yaml.parse(text, FILE, problems)
    assert not problems
    assert node is not None
    return node


def fault(text: str) -> Problem:
    """The one fault of a text."""
    problems: list[Problem] = []
    try:
        strict_yaml.parse(text, FILE, problems)
    except InvalidPipeline as invalid:
        problems += invalid.problems
    assert len(problems) == 1
    return problems[0]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("1e-4", 1e-4),
        ("1e5", 1e5),
        (".5", 0.5),
        ("-3", -3),
        ("+4", 4),
        ("0", 0),
        ("1.", 1.0),
        ("true", True),
        ("false", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("on", "on"),
        ("no", "no"),
        ("Yes", "Yes"),
        ("True", "True"),
        ("012", "012"),
        ("0x1f", "0x1f"),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("2020-01-01", "2020-01-01"),
        ("1.2.3", "1.2.3"),
        ("'5'", "5"),
        ('"true"', "true"),
        ("9" * 5000, float("inf")),
    ],
)
def test_a_word_means_what_it_looks_like(written: str, meant: Any) -> None:
    value = plain(tree(f"key: {written}"))["key"]
    assert value == meant
    assert type(value) is type(meant)


def test_every_key_and_value_knows_its_place() -> None:
    node = tree("a: 1\nb:\n  - x\n  - {é: 2, c: 3}\n")
    c = node.value["b"].value[1].value["c"]
    assert c.key == Place(FILE, 4, 12)
    assert c.place == Place(FILE, 4, 15)
    assert c.path == "b.1.c"


def test_an_alias_keeps_the_place_of_what_it_stands_for() -> None:
    node = tree("a: &it {x: 1}\nb: *it\n")
    b = node.value["b"]
    assert b.key == Place(FILE, 2, 1)
    assert b.value["x"].key == Place(FILE, 1, 9)


def test_merge_keys_fill_in_what_a_mapping_does_not_say() -> None:
    node = tree("a: &a {x: 1, y: 2}\nb: &b {y: 3, z: 4}\nc:\n  <<: [*a, *b]\n  x: 0\n")
    assert plain(node)["c"] == {"x": 0, "y": 2, "z": 4}
    assert node.value["c"].value["z"].key == Place(FILE, 2, 14)


@pytest.mark.parametrize(
    ("text", "place", "part"),
    [
        ("a:\n\tb: 1", (2, 1), "tab"),
        ("a: 1\nb: 2\na: 3", (3, 1), "first on line 1"),
        ("a: {b: 1,\n  b: 2}", (2, 3), "first on line 1"),
        ("5: x", (1, 1), "must be text, not the number 5"),
        ("true: x", (1, 1), "must be text, not true"),
        ("? [a, b]\n: x", (1, 3), "must be text, not a list"),
        ("a: *missing", (1, 4), "missing"),
        ("a: &a [*a]", (1, 8), "complete above"),
        ("a: !!python/object:os.system x", (1, 4), "tags"),
        ("a: !!str 5", (1, 4), "!!str"),
        ("<<: 5\na: 1", (1, 5), "mapping"),
        ("a: 1\n---\nb: 2", (2, 1), "second document"),
        ("a: [1, 2\nb: 3", (2, 2), "flow sequence, from line 1"),
        ("a: b: c", (1, 5), "mapping values are not allowed"),
        ("a:\n  b: 1\n c: 2", (3, 2), "block mapping, from line 1"),
        ("ok: 1\na: @x", (2, 4), "cannot start any token"),
        ("é: \x01", (1, 4), "U+0001"),
        ("é: \ud800", (1, 4), ""),
        ("%YAML 3.0\n---\na: 1", (1, 1), "incompatible"),
    ],
)
def test_a_fault_is_told_once_at_its_place(text: str, place: tuple[int, int], part: str) -> None:
    problem = fault(text)
    assert (problem.line, problem.column) == place
    assert part in problem.message
    assert "\n" not in str(problem)


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(f"{here}: &{here} [{','.join([f'*{above}'] * 9)}]\n" for above, here in zip("abcdefgh", "bcdefghi", strict=True))


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (BOMB, "aliases followed"),
        ("[" * 100_000, "deeper than 64"),
        ("{a: " * 100_000, "deeper than 64"),
        ("a: &a " + "[" * 40 + "]" * 40 + "\nb: " + "[" * 40 + "*a" + "]" * 40, "deeper than 64"),
        ("x" * 10_000_000, "larger than 1,000,000 bytes"),
    ],
    ids=["anchor bomb", "deep lists", "deep mappings", "deep aliases", "10 MB"],
)
def test_a_hostile_file_is_refused_at_once(text: str, part: str) -> None:
    gc.freeze()  # what other tests left behind is not looked through meanwhile
    start = time.thread_time()
    try:
        assert part in fault(text).message
        assert time.thread_time() - start < 0.5
    finally:
        gc.unfreeze()


def test_a_file_of_10_mb_is_refused_without_reading_it_all(tmp_path: Path) -> None:
    file = tmp_path / "large.yaml"
    file.write_text("a: 1\n" * 2_000_000)
    start = time.thread_time()
    with pytest.raises(InvalidPipeline, match="larger than"):
        strict_yaml.read(file)
    assert time.thread_time() - start < 0.2


def test_a_file_that_is_no_text_names_the_bad_byte(tmp_path: Path) -> None:
    file = tmp_path / "latin.yaml"
    file.write_bytes(b"name: x\n# caf\xe9\n")
    with pytest.raises(InvalidPipeline) as caught:
        strict_yaml.read(file)
    assert str(caught.value) == f"{file}:2:6: is not UTF-8 text"


@pytest.mark.parametrize(("name", "part"), [("missing.yaml", "no such file"), (".", "is a directory"), ("a\0b", "null byte")])
def test_what_cannot_be_read_says_why(tmp_path: Path, name: str, part: str) -> None:
    with pytest.raises(InvalidPipeline, match=part):
        strict_yaml.read(tmp_path / name)

"""What `where:` may say, and the line that tells what it may not."""

import random
import re
from pathlib import Path

import pytest

from schemas.conditions import COLUMNS, All, Any, Column, Comparison, Membership, Missing, Not, columns, parse
from schemas.errors import InvalidPipeline
from schemas.load import loads
from ssl_tasks.data import manifest

WIDTH = Column("width")
LABEL = Column("label")


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("width >= 224", Comparison(WIDTH, ">=", 224)),
        ("-1.5 < sharpness", Comparison(-1.5, "<", Column("sharpness"))),
        ("width != height", Comparison(WIDTH, "!=", Column("height"))),
        ("8 <= width < 9", All((Comparison(8, "<=", WIDTH), Comparison(WIDTH, "<", 9)))),
        ("label == 'it`s # a cat'", Comparison(LABEL, "==", "it`s # a cat")),
        ("label in [\"cat\", 'dog']", Membership(LABEL, ("cat", "dog"))),
        ("label not in ('cat',)", Not(Membership(LABEL, ("cat",)))),
        ("cluster is null", Missing(Column("cluster"))),
        ("cluster is not null", Not(Missing(Column("cluster")))),
        ("not kept", Not(Column("kept"))),
        ("kept == true", Comparison(Column("kept"), "==", True)),
        ("`3_deduplicate.component` == 1", Comparison(Column("3_deduplicate.component"), "==", 1)),
        ("`width` > `1_x.a` or `1_x.b` is null", Any((Comparison(WIDTH, ">", Column("1_x.a")), Missing(Column("1_x.b"))))),
        ("width > 1 or height > 1 and bytes > 1", Any((parse("width > 1"), All((parse("height > 1"), parse("bytes > 1")))))),
        ("(width > 1 or height > 1) and bytes > 1", All((Any((parse("width > 1"), parse("height > 1"))), parse("bytes > 1")))),
        ("  width > 1\n  and\n\theight > 1\n", All((parse("width > 1"), parse("height > 1")))),
    ],
)
def test_a_condition_means_what_it_would_in_python(text: str, meaning: object) -> None:
    assert parse(text) == meaning


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("widht > 3", "no column 'widht'; did you mean 'width'?"),
        ("label == cat", "no column 'cat'; there are id, uri, sha256"),
        ("width = 3", "write `==` for `=`"),
        ("width > 3 && height > 3", "write `and` for `&&`"),
        ("width > 3 | height > 3", "write `or` for `|`"),
        ("width <> 3", "write `!=` for `<>`"),
        ("width >", "the condition breaks off"),
        ("width > 3 height", "no condition from 'height' on"),
        ("width > 3)", "no condition from ')' on"),
        ("", "the condition breaks off"),
        ("3_deduplicate.component > 1", "write `3_deduplicate.component` in backticks"),
        ("`3_deduplicate.component > 1", "a backtick is not closed"),
        ("`` > 1", "a column's name is missing"),
        ("width > 3 # and height > 3", "'#' stands in no condition"),
        ("width == null", "write `is null` or `is not null`"),
        ("width is 3", "`is` asks of a column whether it has a value"),
        ("null is null", "`is` asks of a column"),
        ("label in 'cat'", "`in` stands between a column and a list of values"),
        ("label in []", "`in` stands between"),
        ("label in [null]", "`in` stands between"),
        ("'cat' in label", "`in` stands between"),
        ("3 > 2", "3 and 2 are both values"),
        ("'abc'", "''abc'' is no condition"),
        ("width + 1 > 3", "'width + 1' is neither a column nor a value"),
        ("`1_x.y` * 2 > 3", "'`1_x.y` * 2' is neither"),
        ("__import__('os').system('true')", "is no condition"),
        ("len(label) > 3", "'len(label)' is neither"),
        ("label.upper == 'A'", "'label.upper' is neither"),
        ("(width := 3) > 2", "is neither"),
        ("label == f'{width}'", "is neither"),
        ("label == b'a'", "is neither"),
        ("width > 1j", "is neither"),
        ("width > 9223372036854775808", "is larger than any value"),
        ("width > 1e999", "is larger than any value"),
        ("not " * 5000 + "kept", "nested too deeply"),
        ("(" * 300 + "kept" + ")" * 300, "no condition from"),
    ],
)
def test_what_is_no_condition_is_told_in_one_line(text: str, fault: str) -> None:
    with pytest.raises(ValueError, match=re.escape(fault)) as caught:
        parse(text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_random_texts_state_a_condition_or_are_told_why_not() -> None:
    words = "== < in is not null and or ( ) [ ] , 3 'a' - ` { : = width label `1_x.y` \" \\ \0"
    pieces = words.split(" ")
    generator, stated = random.Random(0), 0
    for _ in range(3000):
        text = " ".join(generator.choices(pieces, k=generator.randint(1, 7)))
        try:
            stated += bool(parse(text))
        except ValueError as error:
            assert str(error), text  # noqa: PT017 - either outcome is right
    assert stated > 10


def test_the_columns_of_a_condition_are_told_once_in_their_order() -> None:
    assert columns(parse("not (width > 3 and height < width) or `1_x.y` is null or label in ['a'] or kept")) == ["width", "height", "1_x.y", "label", "kept"]


def test_the_columns_are_those_of_every_manifest() -> None:
    assert list(COLUMNS) == manifest.SCHEMA.names


def test_a_pipeline_file_tells_where_the_condition_stands() -> None:
    text = """
name: t
stages:
  raw: {kind: ingest, source: digits}
  clean:
    kind: curate
    dataset: raw
    steps:
      - kind: filter
        where: widht >= 224
"""
    with pytest.raises(InvalidPipeline) as caught:
        loads(text, Path("x.yaml"), (), environ={})
    assert str(caught.value) == "x.yaml:10:16 stages.clean.steps.0.where: no column 'widht'; did you mean 'width'?"

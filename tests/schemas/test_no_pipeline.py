"""Files that are hardly a pipeline: of another shape, full of faults, mangled. Each is answered in a few lines."""

import random
import string

import pytest
from test_bad_yaml import GOOD, faults

from schemas.errors import InvalidPipeline
from schemas.load import loads


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "x.yaml:1:1: the file is empty; a pipeline has a name and stages"),
        ("# only a comment\n", "x.yaml:1:1: the file is empty; a pipeline has a name and stages"),
        ("- a\n- b\n", "x.yaml:1:1: a pipeline is a mapping with a name and stages, not a list"),
        ("just text\n", "x.yaml:1:1: a pipeline is a mapping with a name and stages, not the text 'just text'"),
        ("name: a\nstages:\n\traw: {}\n", "x.yaml:3:1: a tab; YAML is indented with spaces"),
        ("name: a\n---\nname: b\n", "x.yaml:2:1: a second document; a file holds one pipeline"),
        ("name: a\nstages: {}\n", "x.yaml:2:1 stages: must have at least 1 item, not 0"),
        ("name: a\nstages: [x]\n", "x.yaml:2:1 stages: must be a mapping, not a list"),
        ("name: a\n", "x.yaml:1:1: missing 'stages'"),
    ],
)
def test_a_file_that_is_no_pipeline_has_one_fault(text: str, told: str) -> None:
    assert faults(text) == [told]


def test_a_very_wrong_file_is_answered_soon_and_briefly() -> None:
    told = faults(GOOD + "".join(f"nonsense{i}: x\n" for i in range(5_000)))
    assert told[0] == "x.yaml: has 5000 faults, of which the first 200 follow"
    assert len(told) == 201


@pytest.mark.parametrize("seed", range(300))
def test_no_mangled_file_ends_in_another_error(seed: int) -> None:
    draw = random.Random(seed)
    text, pieces = (
        GOOD,
        [*GOOD.split(), "&a", "*a", "<<: *a", "${", "$${", "null", "[", "]", "{", "}", "\n", "\n  ", ": ", "- ", "\t", "é", '"', "matrix: {seed: [0]}"],
    )
    for _ in range(draw.randint(1, 6)):
        at = draw.randrange(len(text))
        match draw.randrange(4):
            case 0:
                text = text[:at] + text[at + draw.randint(1, 8) :]
            case 1:
                text = text[:at] + draw.choice(string.printable) + text[at:]
            case 2:
                text = text[:at] + draw.choice(pieces) + text[at:]
            case 3:
                lines = text.split("\n")
                draw.shuffle(lines) if draw.random() < 0.1 else lines.insert(draw.randrange(len(lines)), draw.choice(lines))
                text = "\n".join(lines)
    problems = []
    try:
        loads(text, environ={})
    except InvalidPipeline as invalid:
        problems = invalid.problems
    assert all("\n" not in str(problem) for problem in problems)

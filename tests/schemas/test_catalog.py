"""The catalog and the reference page are read from the models, so they cannot fall behind."""

import json
from dataclasses import asdict
from typing import get_args

import pytest

from schemas import shapes
from schemas.catalog import GROUPS, Entry, catalog, type_words
from schemas.load import loads
from schemas.methods import Method
from schemas.reference import FILE, PROSE, reference
from schemas.views import Views

ENTRIES = catalog()


def entry(group: str, kind: str) -> Entry:
    (found,) = [e for e in ENTRIES if (e.group, e.kind) == (group, kind)]
    return found


def test_every_member_of_every_union_is_listed() -> None:
    listed = {(e.group, e.kind) for e in ENTRIES}
    assert {"simclr", "vicreg", "dino"} <= {e.kind for e in ENTRIES if e.group == "pretraining method"}
    assert {e.group for e in ENTRIES} == {"source", "curation step", "pretraining method", "distillation method", "finetuning strategy", "protocol"}
    assert listed == {(group, kind) for group, union in GROUPS.items() for kind in shapes.kinds(union)}
    assert len(get_args(get_args(Method)[0])) == len([e for e in ENTRIES if e.group == "pretraining method"])


@pytest.mark.parametrize("listed", ENTRIES, ids=lambda e: e.kind)
def test_an_entry_and_its_parameters_are_explained(listed: Entry) -> None:
    assert listed.meaning.endswith(".")
    assert all(p.description and p.type for p in listed.parameters), [p.name for p in listed.parameters if not p.description]
    assert listed.paper.startswith("https://") or listed.group in ("source", "curation step", "finetuning strategy", "protocol")


def test_a_parameter_states_type_bounds_and_default() -> None:
    parameters = {p.name: p for p in entry("curation step", "deduplicate").parameters}
    threshold = parameters["threshold"]
    assert (threshold.type, threshold.default, threshold.required) == ("number, above 0, at most 1 or mapping (precision)", 0.97, False)
    assert (parameters["embedding"].type, parameters["embedding"].default) == ("`pixels` or `encoded` or `file`", None)
    (keep,) = [p for p in entry("curation step", "balance").parameters if p.name == "keep"]
    assert (keep.required, keep.default) == (True, None)


def test_a_default_mapping_shows_what_differs_from_its_own_defaults() -> None:
    (views,) = [p for p in entry("pretraining method", "vicreg").parameters if p.name == "views"]
    assert views.default == {"brightness": 0.4, "contrast": 0.4, "saturation": 0.2, "hue": 0.1, "blur": [1.0, 0.1], "solarize": [0.0, 0.2]}


def test_types_are_told_in_words() -> None:
    told = {name: type_words(field.annotation) for name, field in Views.model_fields.items()}
    assert told["scale"] == "list of 2 numbers"
    assert told["local_size"] == "whole number, above 0 or null"


def test_it_is_plain_data() -> None:
    assert json.loads(json.dumps([asdict(e) for e in ENTRIES]))[0]["group"] == "source"


def test_the_reference_in_the_repository_is_fresh() -> None:
    assert FILE.read_text() == reference(), "run: python -m schemas.reference"


def test_the_reference_names_every_kind_and_key() -> None:
    page = reference()
    assert all(f"### `{e.kind}`" in page and all(f"| `{p.name}` |" in page for p in e.parameters) for e in ENTRIES)


PIPELINES = [block.partition("```")[0] for block in PROSE.read_text().split("```yaml\n")[1:]]


@pytest.mark.parametrize("text", PIPELINES, ids=lambda text: text.partition("\n")[0])
def test_every_pipeline_of_the_reference_loads(text: str) -> None:
    assert loads(text).stages


def test_the_reference_shows_pipelines() -> None:
    assert len(PIPELINES) >= 3

"""The JSON Schema says what the loader says, and an editor can complete from it."""

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

from schemas.json_schema import FILE, Schema, pipeline_schema
from schemas.locate import plain
from schemas.stages import KINDS
from schemas.strict_yaml import parse

SCHEMA = pipeline_schema()
ROOT = Path(__file__).resolve().parents[2]
GOOD = """\
name: digits
params: {epochs: 30}
stages:
  raw: {kind: ingest, source: digits}
  clean: {kind: curate, dataset: raw, steps: [integrity, {kind: deduplicate, embedding: pixels}, {kind: balance, keep: "${params.epochs}"}]}
  teacher:
    kind: pretrain
    dataset: clean
    method: {kind: dino, prototypes: 512, views: {scale: [0.2, 1]}}
    encoder: {name: resnet18, options: {anything: [1, {a: b}]}}
    train: {epochs: "${params.epochs}", optimizer: sgd, bfloat16: false}
    matrix: {seed: [0, 1]}
  students: {kind: distill, dataset: clean, teacher: "teacher[seed=0]", method: feature, students: {small: {name: resnet10t}}}
  report: {kind: evaluate, dataset: raw, models: [teacher, students], protocols: [knn, {kind: linear}], seed: 3}
schedule: {cron: "0 3 * * 1"}
"""
PART = """\
extends: other.yaml
seed: null
stages:
  old: null
  teacher: {train: {epochs: 3}, method: {temperature: 0.5}, resources: null}
"""


def errors(text: str) -> list[str]:
    tree = parse(text, Path("x.yaml"), [])
    assert tree is not None
    return [error.message for error in Draft7Validator(SCHEMA).iter_errors(plain(tree))]


def test_the_file_in_the_repository_is_fresh() -> None:
    assert json.loads(FILE.read_text()) == SCHEMA, "run: python -m schemas.json_schema"


def test_it_is_a_schema() -> None:
    Draft7Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("text", [GOOD, PART], ids=["whole", "part"])
def test_good_files_are_accepted(text: str) -> None:
    assert errors(text) == []


@pytest.mark.parametrize("file", sorted((ROOT / "workflows").rglob("*.yaml")), ids=lambda path: path.name)
def test_the_pipelines_that_ship_are_accepted(file: Path) -> None:
    assert errors(file.read_text()) == []


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ("prototypes", "prototypse"),
        ("name: digits", "nam: digits"),
        ("kind: ingest", "kind: ingst"),
        ("source: digits", "source: digit"),
        ("[integrity,", "[balance,"),
        ("dataset: raw, steps", "steps"),
        ("optimizer: sgd", "optimizer: adam"),
        ("prototypes: 512", "prototypes: many"),
        ("prototypes: 512", "prototypes: 0"),
        ("bfloat16: false", "bfloat16: no"),
        ("[0.2, 1]", "[0.2]"),
        ("models: [teacher, students]", "models: {}"),
        ("seed: [0, 1]", "seed: 0"),
        ("  raw:", "  Raw:"),
    ],
)
def test_bad_files_are_refused(good: str, bad: str) -> None:
    assert GOOD.count(good) == 1
    assert errors(GOOD.replace(good, bad))


@pytest.mark.parametrize(("good", "bad"), [("epochs: 3", "epohcs: 3"), ("temperature", "temprature"), ("extends: other.yaml\n", "")])
def test_a_part_is_checked_too(good: str, bad: str) -> None:
    assert errors(PART.replace(good, bad))


# What an editor does: gather the branches that the text so far leaves open, and offer their keys and values.


def branches(schema: Schema, value: Any) -> list[Schema]:
    """Schemas that apply to a value, with references followed and branches of another `kind` left out."""
    if "$ref" in schema:
        schema = SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]]
    if "if" in schema:
        chosen = "then" if all(key in value for key in schema["if"]["required"]) else "else"
        return branches(schema[chosen], value)
    kind = schema.get("properties", {}).get("kind", {}).get("const")
    if kind and isinstance(value, dict) and value.get("kind", kind) != kind:
        return []
    below = [branch for key in ("anyOf", "oneOf", "allOf") for each in schema.get(key, []) for branch in branches(each, value)]
    return [schema, *below]


def at(value: Any, path: list[Any]) -> list[Schema]:
    """Schemas that apply at a path of a document."""
    open_branches = branches(SCHEMA, value)
    for part in path:
        inside = []
        for branch in open_branches:
            each = branch.get("properties", {}).get(part) or next(iter(branch.get("patternProperties", {}).values()), None)
            each = branch.get("items") if isinstance(part, int) else each or branch.get("additionalProperties")
            inside += [each] if isinstance(each, dict) else []
        value = value[part] if isinstance(value, list) or (isinstance(value, dict) and part in value) else None
        open_branches = [branch for each in inside for branch in branches(each, value)]
    return open_branches


def keys(value: Any, *path: Any) -> set[str]:
    return {key for branch in at(value, list(path)) for key in branch.get("properties", {})}


def values(value: Any, *path: Any) -> set[str]:
    found = at(value, list(path))
    return {value for branch in found for value in branch.get("enum", [])} | {branch["const"] for branch in found if "const" in branch}


def test_an_editor_completes_the_top_of_a_file() -> None:
    assert keys({}) == {"name", "description", "seed", "params", "stages", "schedule", "extends"}


def test_an_editor_completes_the_kinds_of_a_stage() -> None:
    assert values({"stages": {"a": {}}}, "stages", "a", "kind") == set(KINDS)


def test_an_editor_completes_the_keys_of_the_stage_whose_kind_is_written() -> None:
    assert keys({"stages": {"a": {"kind": "ingest"}}}, "stages", "a") == {"kind", "source", "resources", "matrix"}


def test_an_editor_completes_a_method_in_full_and_as_a_bare_word() -> None:
    stage = {"kind": "pretrain", "method": {"kind": "dino"}}
    assert {"prototypes", "teacher_temperature", "views"} <= keys({"stages": {"a": stage}}, "stages", "a", "method")
    assert "temperature" not in keys({"stages": {"a": stage}}, "stages", "a", "method")
    assert {"dino", "simclr", "vicreg"} <= values({"stages": {"a": {"kind": "pretrain"}}}, "stages", "a", "method")


def test_an_editor_completes_steps_in_a_list() -> None:
    document = {"stages": {"a": {"kind": "curate", "steps": [{"kind": "balance"}]}}}
    assert {"keep", "clusters"} <= keys(document, "stages", "a", "steps", 0)
    assert "integrity" in values({"stages": {"a": {"kind": "curate", "steps": [""]}}}, "stages", "a", "steps", 0)


def test_an_editor_completes_a_file_that_extends_another() -> None:
    document = {"extends": "x.yaml", "stages": {"a": {"train": {}}}}
    assert {"epochs", "batch_size"} <= keys(document, "stages", "a", "train")


def test_every_key_is_explained() -> None:
    models = {name: model for name, model in SCHEMA["$defs"].items() if "properties" in model and not name.endswith("Part")}
    silent = [
        f"{name}.{key}" for name, model in models.items() for key, value in model["properties"].items() if not {"description", "const", "$ref"} & value.keys()
    ]
    assert models
    assert silent == []

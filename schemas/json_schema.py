"""JSON Schema (draft 7) of the YAML that a user writes: what an editor completes and checks.

`python -m schemas.json_schema` writes `schemas/pipeline.schema.json`. It is made from the models, plus what the loader adds to them:
`extends`, `matrix`, and `${...}` wherever a value stands. A file that extends another need not be complete.
"""

import json
from pathlib import Path
from typing import Any

from schemas.pipeline import Pipeline
from schemas.stages import KINDS

FILE = Path(__file__).with_name("pipeline.schema.json")

Schema = dict[str, Any]
_NAME = "^[a-z][a-z0-9_]*$"
_USE: Schema = {"$ref": "#/$defs/Interpolation"}
_DEFS: dict[str, Schema] = {
    "Interpolation": {"type": "string", "pattern": r"\$\{", "description": "${params.NAME} or ${env:NAME}; alone it keeps its type"},
    "Matrix": {
        "type": "object",
        "minProperties": 1,
        "description": "one stage a combination: dotted keys of the stage, each with a list of values",
        "additionalProperties": {"anyOf": [{"type": "array", "minItems": 1}, _USE]},
    },
}
_EXTENDS = {"type": "string", "description": "a file, relative to this one, that this one changes: mappings merge, null removes a key"}


def pipeline_schema() -> Schema:
    """The schema as plain data."""
    models = Pipeline.model_json_schema()
    defs = {name: _model(model) for name, model in {**models.pop("$defs"), "Pipeline": models}.items()}
    for stage in (kind.__name__ for kind in KINDS.values()):
        _allow_matrix(defs[stage])
    defs["Pipeline"]["properties"] = {"extends": _EXTENDS, **defs["Pipeline"]["properties"]}
    partial = {f"{name}Part": _partial(model) for name, model in defs.items()}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "sslflow pipeline",
        "type": "object",
        "if": {"required": ["extends"]},
        "then": {"$ref": "#/$defs/PipelinePart"},
        "else": {"$ref": "#/$defs/Pipeline"},
        "$defs": {**_DEFS, **defs, **partial},
    }


def _model(model: Schema) -> Schema:
    """A model's schema with `kind` first and required, and each value open to `${...}`; a bare name may stand for it."""
    if "anyOf" in model:
        *names, mapping = model["anyOf"]
        return {"anyOf": [*names, _model(mapping)]}
    properties = {key: value if key == "kind" else _value(value) for key, value in model["properties"].items()}
    required = model.get("required", [])
    if "kind" in properties:
        kind = {"const": properties.pop("kind")["const"]}
        properties, required = {"kind": kind, **properties}, ["kind", *required]
    made = {"type": "object", "additionalProperties": False, "properties": properties}
    return made | ({"description": model["description"]} if "description" in model else {}) | ({"required": required} if required else {})


def _value(schema: Schema) -> Schema:
    """A value's schema, reduced to what an editor shows, with `${...}` as a further choice; not for a stage or a mapping of names."""
    told = {key: schema[key] for key in ("description", "default") if key in schema and not isinstance(schema[key], dict)}
    bare = {key: value for key, value in schema.items() if key not in ("title", "description", "default", "discriminator")}
    if "items" in bare:
        bare["items"] = _value(bare["items"])
    if "prefixItems" in bare:
        bare["items"] = _value(bare.pop("prefixItems")[0])
    for key in ("anyOf", "oneOf"):
        if key in bare:
            bare[key] = [{k: v for k, v in branch.items() if k not in ("title", "discriminator")} for branch in bare[key]]
    if isinstance(bare.get("additionalProperties"), dict):
        bare["additionalProperties"] = _value(bare["additionalProperties"])
    if "patternProperties" in bare:
        (each,) = bare["patternProperties"].values()
        bare |= {"patternProperties": {_NAME: _value(each) if each else {}}, "additionalProperties": False}
    if not bare or bare == {"type": "string"} or "patternProperties" in bare or "oneOf" in bare:
        return bare | told
    return {"anyOf": [*bare["anyOf"], _USE] if bare.keys() == {"anyOf"} else [bare, _USE]} | told


def _allow_matrix(stage: Schema) -> None:
    """Add `matrix`; a key that it varies need not be stated besides."""
    stage["properties"]["matrix"] = _USE_MATRIX
    stage["properties"].get("seed", {}).pop("default", None)
    stage["anyOf"] = [{"required": stage["required"]}, {"required": ["matrix"]}]
    stage["required"] = ["kind"]


_USE_MATRIX: Schema = {"$ref": "#/$defs/Matrix"}


def _partial(schema: Any) -> Any:
    """The same where nothing is required and null removes a key, for a file that extends another."""
    if isinstance(schema, list):
        return [_partial(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return schema if schema in (_USE, _USE_MATRIX) else {"$ref": f"{schema['$ref']}Part"}
    made = {key: _partial(value) for key, value in schema.items() if key not in ("required", "default", "minProperties")}
    if "required" in schema and "properties" in schema:
        made.pop("anyOf", None)
    if "oneOf" in made:
        made["anyOf"] = made.pop("oneOf")
    for key in ("properties", "patternProperties"):
        if isinstance(schema.get(key), dict):
            made[key] = {name: _nullable(_partial(value)) for name, value in schema[key].items()}
    return made


def _nullable(schema: Schema) -> Schema:
    return schema if not schema or "const" in schema else {"anyOf": [schema, {"type": "null"}]}


if __name__ == "__main__":
    FILE.write_text(json.dumps(pipeline_schema(), indent=1) + "\n")

"""A pipeline of YAML run stage by stage in this process, without an orchestrator."""

from pathlib import Path

from tiny_training import Recorder

from schemas.artifacts import Artifact
from schemas.load import loads
from ssl_tasks.run import run
from workflows.engine.reuse import Plan, make_plan

SCENES = """
name: tiny
stages:
  raw: {kind: ingest, source: {kind: scenes, count: 24, size: 48}}
"""
DINO = """{kind: dino, prototypes: 16, hidden: 16, bottleneck: 8, momentum: 0.9, views: {blur: 0, solarize: 0}}"""
VIT = "{name: vit_tiny_patch16_224, image_size: 32, patch_size: 8, width: 16, depth: 2, heads: 2}"


def plan(stages: str, workspace: Path) -> Plan:
    """The plan of SCENES and further stages, written as YAML."""
    return make_plan(loads(SCENES + stages), workspace, {"raw": "scenes"})


def made(plan: Plan, *names: str, tracker: Recorder | None = None) -> dict[str, Artifact]:
    """Run the stages of a plan that are named, in its order, or all of them; what is made by then, by stage."""
    for planned in plan.todo:
        if not names or planned.name in names:
            run(plan.job(planned), tracker or Recorder())
    return {name: artifact for name, planned in plan.stages.items() for artifact in plan.artifacts(planned).values()}

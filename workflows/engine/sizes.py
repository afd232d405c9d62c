"""How large the stages of a plan are: encoder parameters, steps, images to be seen. Known before anything is trained."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from schemas.artifacts import Dataset
from schemas.curation import most_kept
from schemas.dvae import DVAE
from schemas.encoders import Encoder
from schemas.job import CACHE
from schemas.references import encoder_of
from schemas.stages import Curate, Distill, Finetune, Pretrain, Tokenizer
from workflows.engine.reuse import Plan, made


def sizes(plan: Plan) -> dict[str, dict[str, Any]]:
    """Of each stage that trains: `parameters`, `steps`, `images_seen`, as text; a bound where the data is not curated yet.

    How many images have a label is not known before they are read: where only these are trained on, the numbers are those of a whole set.
    """
    trained = {n: s.stage for n, s in plan.stages.items() if isinstance(s.stage, Pretrain | Distill | Finetune | Tokenizer)}
    encoders = {name: _encoders(stage, plan) for name, stage in trained.items()}
    counts = parameters(plan.workspace, [encoder for each in encoders.values() for encoder in each])
    found = {}
    for name, stage in trained.items():
        images, bound = _images(plan, plan.stages[name].inputs[stage.dataset])
        if isinstance(stage, Finetune) and images:
            images, bound = max(1, round(stage.labels * images)), "≈"
        found[name] = {"parameters": ", ".join(_count(counts.get(_id(e))) for e in encoders[name])}
        if images:
            steps = stage.train.steps(images)
            found[name] |= {"steps": f"{bound}{steps:,}", "images_seen": f"{bound}{steps * min(stage.train.batch_size, images):,}"}
    return found


def parameters(workspace: Path, encoders: list[Encoder | DVAE]) -> dict[str, int]:
    """Parameter counts by encoder; counted in a child process, which may import torch, and remembered."""
    memory = workspace / CACHE / "parameters.json"
    known: dict[str, int] = json.loads(memory.read_text()) if memory.exists() else {}
    unknown = {_id(e): e for e in encoders if _id(e) not in known}
    if unknown:
        command = [sys.executable, "-m", "ssl_tasks.nn.count", *unknown]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        known |= dict(zip(unknown, json.loads(done.stdout), strict=True)) if done.returncode == 0 else {}
        memory.parent.mkdir(parents=True, exist_ok=True)
        memory.write_text(json.dumps(known))
    return known


def _encoders(stage: Pretrain | Distill | Finetune | Tokenizer, plan: Plan) -> list[Encoder | DVAE]:
    if isinstance(stage, Tokenizer):
        return [stage.network]
    if isinstance(stage, Distill):
        return [student.encoder for student in stage.students.values()]
    if stage.encoder:
        return [stage.encoder]
    assert isinstance(stage, Finetune)
    encoder = encoder_of(str(stage.checkpoint), {name: planned.stage for name, planned in plan.stages.items()})
    return [encoder] if encoder else []


def _id(encoder: Encoder | DVAE) -> str:
    return encoder.model_dump_json()


def _count(parameters: int | None) -> str:
    return f"{parameters:,}" if parameters else "?"


def _images(plan: Plan, key: str) -> tuple[int, str]:
    """Kept train images of a dataset, and `≤` if that is only a bound; 0 if nothing is known."""
    artifact = made(plan.workspace, key)
    if isinstance(artifact, Dataset):
        return artifact.kept, ""
    maker = next(p.stage for p in plan.stages.values() if key in p.outputs.values())
    kept = most_kept(maker.steps) if isinstance(maker, Curate) else []
    return (min(kept), "≤") if kept else (0, "")

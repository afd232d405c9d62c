"""`sslflow` as a user starts it, without the servers of whoever runs the tests; and the beginning of a pipeline that trains in seconds."""

import os
import sys
from pathlib import Path

SSLFLOW = Path(sys.executable).with_name("sslflow")
SHAPES = """\
name: shapes
stages:
  raw: {kind: ingest, source: {kind: scenes, count: 80, size: 16}}
  teacher:
    kind: pretrain
    dataset: raw
    method: {kind: vicreg, hidden: 32, output: 32}
    encoder: {name: resnetv2_18, image_size: 16, stem: half, options: {layers: [1, 1], channels: [8, 16], stem_chs: 8}}
"""
"""Whoever takes it adds the teacher's `train`."""


def environment(**values: str) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_"))} | values

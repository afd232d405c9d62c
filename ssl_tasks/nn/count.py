"""Parameter counts of encoders: `python -m ssl_tasks.nn.count ENCODER_JSON...` prints a JSON list, null where one cannot be made."""

import json
import sys

import torch

from schemas.encoders import Encoder
from schemas.errors import UserError
from ssl_tasks.nn.encoder import TimmEncoder, parameters


def count(config: Encoder) -> int | None:
    """How many parameters the encoder has; nothing is allocated. None if timm cannot make it."""
    try:
        with torch.device("meta"):
            return parameters(TimmEncoder(config))
    except UserError:
        return None


if __name__ == "__main__":
    print(json.dumps([count(Encoder.model_validate_json(text)) for text in sys.argv[1:]]))

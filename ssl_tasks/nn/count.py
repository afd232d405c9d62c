"""Parameter counts of encoders and tokenizers: `python -m ssl_tasks.nn.count CONFIG_JSON...` prints a JSON list, null where one cannot be made."""

import json
import sys

import torch
from pydantic import TypeAdapter

from schemas.dvae import DVAE as DVAEConfig
from schemas.encoders import Encoder
from schemas.errors import UserError
from ssl_tasks.nn.dvae import DVAE
from ssl_tasks.nn.encoder import TimmEncoder, parameters


def count(config: Encoder | DVAEConfig) -> int | None:
    """How many parameters the network has; nothing is allocated. None if timm cannot make it."""
    try:
        with torch.device("meta"):
            return parameters(TimmEncoder(config) if isinstance(config, Encoder) else DVAE(config))
    except UserError:
        return None


if __name__ == "__main__":
    either = TypeAdapter[Encoder | DVAEConfig](Encoder | DVAEConfig)
    print(json.dumps([count(either.validate_json(text)) for text in sys.argv[1:]]))

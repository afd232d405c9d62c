"""Fine-tuning: an encoder becomes a classifier, by one of the strategies of `schemas/finetuning.py`."""

from ssl_tasks.finetune.stage import finetune

__all__ = ["finetune"]

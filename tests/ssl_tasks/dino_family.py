"""iBOT, DINOv2 and DINOv3 as their tests use them: small, with few crops."""

from dataclasses import replace
from typing import Any

import torch
from small_methods import BATCH, CASES, Case
from torch import Tensor

from schemas.views import Views
from ssl_tasks.data.draw import Draw
from ssl_tasks.method import Terms

FEW_CROPS = Views(local_count=2)


def case_of(kind: str, **changes: Any) -> Case:
    case = CASES[f"{kind}-vit"]
    return replace(case, config=case.config.model_copy(update={"views": FEW_CROPS, **changes}))


def made(kind: str, **changes: Any) -> Any:
    return case_of(kind, **changes).make()


def views_of(method: Any, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (BATCH, 1, 18, 18), dtype=torch.uint8, generator=generator)
    views: list[Tensor] = method.views(images, Draw(generator, BATCH))
    return views


def terms_of(method: Any, views: list[Tensor] | None = None, progress: float = 0.9) -> Terms:
    terms: Terms = method(views or views_of(method), progress)
    return terms


def step(method: Any, progress: float, rate: float = 0.5) -> None:
    optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=rate)
    torch.autograd.backward(sum(terms_of(method, progress=progress).values()))
    method.before_step(progress)
    optimizer.step()
    method.after_step(progress)

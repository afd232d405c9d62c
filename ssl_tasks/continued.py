"""A training that goes on from where another stage ended: its method and its optimizer, under new schedules.

Carried over: every parameter and buffer of the method (student, teacher, heads, centre, queue) and the optimizer's state, bit for bit.
Position embeddings are resampled where the grid of patches is another one; the optimizer's state of these starts anew, since the
resampled second moment of Adam could be negative. Progress runs from 0 to 1 again, and with it each schedule and the warm-up.
"""

from typing import Any

from schemas.errors import UserError
from ssl_tasks import sharding
from ssl_tasks.learner import Learner
from ssl_tasks.method import Method
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.weights import State, few, fitted


def training_state(learner: Learner) -> dict[str, Any]:
    """What a stage that continues this training needs: tensors, numbers, text and containers of them.

    The optimizer's state is by parameter name, so that it does not hang on how parameters are grouped.
    """
    names = {parameter: name for name, parameter in learner.method.named_parameters()}
    optimizer = {name: dict(learner.optimizer.state[parameter]) for parameter, name in names.items() if parameter in learner.optimizer.state}
    return {"method": learner.method.state_dict(), "optimizer": optimizer}


def hand_over(kept: dict[str, Any], learner: Learner, source: str) -> str:
    """Put the state of an earlier training into a learner that has not begun.

    Args:
        kept: from `training_state`.
        source: what the earlier training is called in messages.

    Returns:
        What was done, in a line.

    Raises:
        UserError: where the state is of another method or encoder.
    """
    method = _fitted(kept["method"], learner.method, source)
    names = {parameter: name for name, parameter in learner.method.named_parameters()}
    own = learner.optimizer.state_dict()
    state, anew = {}, []
    for group, packed in zip(learner.optimizer.param_groups, own["param_groups"], strict=True):
        for parameter, number in zip(group["params"], packed["params"], strict=True):
            name = names[parameter]
            if kept["method"][name].shape != parameter.shape:
                anew.append(name)
            elif name in kept["optimizer"]:
                state[number] = kept["optimizer"][name]
    sharding.load(learner.method, learner.optimizer, method, {**own, "state": state})
    return f"continues '{source}'" + (f"; resampled, with optimizer state anew: {few(anew)}" if anew else "")


def _fitted(state: State, method: Method, source: str) -> State:
    """The state as the method takes it: each encoder's position embeddings resampled, all else of the same names and shapes."""
    made = dict(state)
    for name, encoder in method.named_modules(remove_duplicate=False):
        if isinstance(encoder, TimmEncoder):
            prefix = f"{name}.backbone."
            own = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
            made |= {prefix + key: value for key, value in fitted(encoder, own, f"'{source}'")[0].items()}
    wanted = method.state_dict()
    wrong = [f"{name} is missing" for name in wanted if name not in made]
    wrong += [f"{name} has no place" for name in made if name not in wanted]
    wrong += [f"{name} is {tuple(made[name].shape)}, not {tuple(v.shape)}" for name, v in wanted.items() if name in made and made[name].shape != v.shape]
    if wrong:
        raise UserError(
            f"'{source}' is a checkpoint of another method or encoder: {few(wrong, '; ')}; "
            f"make `method` and `encoder` those of '{source}': only views and schedules may differ, "
            "and image_size where the method trains no part that is made for one size"
        )
    return {name: made[name] for name in wanted}

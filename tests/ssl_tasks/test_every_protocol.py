"""What every protocol keeps to, whatever it judges: ids, words, limits of its numbers, the same answer twice, and a line where it has none."""

import math
from typing import get_args

import numpy as np
import pytest
from small_world import SmallWorld, protocol

from schemas.protocols import Protocol, ProtocolSpec
from ssl_tasks.evaluate.findings import Number, Plate, Skipped
from ssl_tasks.evaluate.metrics import METRICS
from ssl_tasks.evaluate.protocols import JUDGES, apply, module
from ssl_tasks.report.theme import DARK, LIGHT

KINDS: dict[str, type[ProtocolSpec]] = {spec.model_fields["kind"].default: spec for spec in get_args(get_args(Protocol)[0])}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SmallWorld:
    return SmallWorld(tmp_path_factory.mktemp("protocols"))


def found(world: SmallWorld, kind: str, name: str) -> tuple[list[Number], list[Plate], str]:
    """The numbers and pictures that a protocol finds in a model, or the reason why it finds none."""
    try:
        return (*apply(protocol(kind), world.subject(name)), "")
    except Skipped as reason:
        return [], [], str(reason)


def test_every_protocol_has_its_file() -> None:
    assert set(JUDGES) == set(KINDS.values())


@pytest.mark.parametrize("kind", KINDS)
def test_a_protocol_names_its_version_and_says_what_it_does(kind: str) -> None:
    spec = KINDS[kind]
    name, _, number = spec.version.partition("@")
    assert name == kind
    assert int(number) >= 1
    assert spec.title
    assert module(protocol(kind)).meaning(protocol(kind)).endswith(".")


@pytest.mark.parametrize("kind", KINDS)
def test_it_judges_a_vit_or_a_convnet_and_says_why_where_it_does_not(world: SmallWorld, kind: str) -> None:
    name = "classifier" if "classifier" in KINDS[kind].needs else "vit"
    numbers, plates, reason = found(world, kind, name)
    also, drawn, other = found(world, kind, "convnet")
    assert numbers or plates or kind in ("fidelity", "reconstructions"), reason  # the classifier here has no teacher, and no model a decoder
    assert also or drawn or (len(other) > 10 and "\n" not in other)
    for number in (*numbers, *also):
        facts = METRICS[number.metric]
        assert all(math.isfinite(value) and facts.least - 1e-9 <= value <= facts.most + 1e-9 for value in number.values), number
        assert number.n > 0
        if number.items is not None:
            assert number.items.shape == (number.n,)
            assert np.mean(number.values) == pytest.approx(number.items.mean())
    names = [plate.name for plate in (*plates, *drawn)]
    assert len(names) == len(set(names))
    for plate in plates:
        assert len(plate.caption) > 20
        assert plate.draw(LIGHT).axes
        assert plate.draw(DARK).axes


@pytest.mark.parametrize("kind", KINDS)
def test_it_gives_the_same_numbers_twice(world: SmallWorld, kind: str) -> None:
    if kind == "cost":
        pytest.skip("times are of the machine")
    name = "classifier" if "classifier" in KINDS[kind].needs else "vit"
    first, again = (found(world, kind, name)[0] for _ in range(2))
    assert first == again


@pytest.mark.parametrize("kind", KINDS)
def test_raw_pixels_are_judged_or_said_to_be_no_network(world: SmallWorld, kind: str) -> None:
    numbers, plates, reason = found(world, kind, "pixels")
    assert bool(numbers or plates) == (not KINDS[kind].needs & {"network", "vit", "classifier"}), reason

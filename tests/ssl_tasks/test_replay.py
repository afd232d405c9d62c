"""A step that makes the loss or the weights infinite or not a number is kept, and replayed to where that begins."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_pipeline import VIT, plan
from tiny_training import Brightness, Recorder, ranks, stripes
from torch import Tensor

from schemas.errors import UserError
from schemas.training import Train
from ssl_tasks import distributed
from ssl_tasks.failures import NotFinite
from ssl_tasks.method import Terms
from ssl_tasks.replay import Reached, Replay, Watch, main, replay
from ssl_tasks.run import run
from ssl_tasks.train import fit
from workflows.engine import cli

TOO_FAST = f"""
  teacher:
    kind: pretrain
    dataset: raw
    method: {{kind: vicreg, hidden: 16, output: 16}}
    encoder: {VIT}
    train: {{epochs: 10, batch_size: 8, warmup: 0, schedule: constant, checkpoint_steps: 2, monitors: 1, optimizer: {{kind: sgd, learning_rate: 0.2}}}}
    seed: 5
"""


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The work folder of a stage whose learning rate is far too high, and the error that ended it."""
    planned = plan(TOO_FAST, tmp_path_factory.mktemp("workspace"))
    raw, teacher = (planned.job(stage) for stage in planned.todo)
    run(raw, Recorder())
    with pytest.raises(UserError) as error:
        run(teacher, Recorder())
    return teacher.work, str(error.value)


@pytest.fixture(scope="module")
def replayed(failed: tuple[Path, str]) -> Replay:
    return replay(failed[0] / "failure")


def checkpoints(work: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((work / "checkpoints/model").iterdir())}


def test_the_error_names_the_command_that_replays_the_step(failed: tuple[Path, str]) -> None:
    work, message = failed
    assert message.endswith(f"see where it begins: sslflow replay {work / 'failure'}")
    assert "\n" not in message


def test_the_images_of_the_step_and_what_it_ran_with_are_kept(failed: tuple[Path, str]) -> None:
    folder = failed[0] / "failure"
    images = np.load(folder / "images.npy")
    assert images.shape[:2] == (8, 3)
    assert images.dtype == np.uint8
    stated = json.loads((folder / "failure.json").read_text())
    assert (stated["seed"], stated["ranks"], stated["device"]) == (5, 1, "cpu")
    assert stated["job"]["stage"]["train"]["optimizer"]["learning_rate"] == 0.2
    assert stated["versions"]["torch"] == torch.__version__.partition("+")[0] or stated["versions"]["torch"] == torch.__version__
    assert f"at step {stated['step']}" in failed[1] or f"after step {stated['step']}" in failed[1]


def test_the_last_checkpoint_is_from_before_anything_was_wrong(failed: tuple[Path, str], replayed: Replay) -> None:
    newest = sorted((failed[0] / "checkpoints/model").iterdir())[-1]
    state = torch.load(newest, weights_only=True)
    assert state["own"]["done"] < replayed.failure.step
    assert all(value.isfinite().all() for value in state["method"].values())


def test_a_replay_comes_to_the_same_step_and_the_same_term(failed: tuple[Path, str], replayed: Replay) -> None:
    newest = sorted((failed[0] / "checkpoints/model").iterdir())[-1]
    done = torch.load(newest, weights_only=True)["own"]["done"]
    assert [step.number for step in replayed.steps] == list(range(done + 1, replayed.failure.step + 1))
    assert replayed.reproduced
    assert replayed.failure.term in replayed.steps[-1].wrong


def test_the_report_says_where_it_begins(failed: tuple[Path, str], replayed: Replay, capsys: pytest.CaptureFixture[str]) -> None:
    before = checkpoints(failed[0])
    with pytest.raises(SystemExit) as ended:
        cli.app(["replay", str(failed[0] / "failure")])
    assert ended.value.code == 0
    told = capsys.readouterr().out
    assert str(replayed) in told
    for part in (", learning rate 0.2\n", "largest finite gradient: ", "first gradient that is not finite: ", "\nreproduced: "):
        assert part in told
    operation = told.partition("operation: ")[2].partition("\n")[0]
    assert "Backward0' returned nan values" in operation
    assert f'"{Path(__file__).parents[2] / "ssl_tasks"}' in operation, "it is named with its line of code"
    assert checkpoints(failed[0]) == before, "a replay must leave the work folder as it is"


def test_a_failure_that_does_not_come_again_is_not_called_reproduced(failed: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The record of an earlier step, which was well."""
    stated = json.loads((failed[0] / "failure/failure.json").read_text())
    (tmp_path / "failure.json").write_text(json.dumps({**stated, "step": stated["step"] - 1}))
    assert main(tmp_path) == 1
    assert "not reproduced: at step" in capsys.readouterr().out


def test_what_is_no_failure_cannot_be_replayed(failed: tuple[Path, str], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no failure\.json: name the folder that the error named"):
        replay(tmp_path)
    (tmp_path / "failure.json").write_text("{}")
    with pytest.raises(UserError, match=r"failure\.json is damaged, or of another version"):
        replay(tmp_path)
    stated = json.loads((failed[0] / "failure/failure.json").read_text())
    stated["job"]["workspace"] = str(tmp_path)
    (tmp_path / "failure.json").write_text(json.dumps(stated))
    with pytest.raises(UserError, match=r"raw is no longer under .*: run the pipeline again"):
        replay(tmp_path)


class Cornered(Brightness):
    """From the third step on, its loss is finite and its gradient is not: the slope of a square root at 0."""

    def forward(self, views: list[Tensor], progress: float) -> Terms:
        terms = super().forward(views, progress)
        corner = (self.layer.weight - self.layer.weight).sum().sqrt()
        return {"pull": terms["pull"], "corner": corner if progress >= 0.4 else corner.detach()}


STEPS = Train(epochs=1, batch_size=4, checkpoint_steps=1)


def test_weights_that_are_not_finite_are_never_saved_though_the_loss_is_finite(tmp_path: Path) -> None:
    with pytest.raises(NotFinite, match="weights are not finite after step 3, whose loss is") as error:
        fit(Cornered(), stripes(20)[0], STEPS, seed=0, workdir=tmp_path, tracker=Recorder())
    assert (error.value.step, error.value.term) == (3, "weights")
    assert sorted(path.name for path in (tmp_path / "checkpoints/model").iterdir()) == ["step-000000001.pt", "step-000000002.pt"]


def test_the_first_gradient_that_is_not_finite_is_found_where_every_output_is(tmp_path: Path) -> None:
    watch = Watch(until=3)
    with pytest.raises(Reached):
        fit(Cornered(), stripes(20)[0], STEPS, seed=0, workdir=tmp_path, tracker=Recorder(), begin=watch)
    assert [step.wrong for step in watch.steps] == [[], [], ["weights"]]
    last = watch.steps[-1]
    assert (last.output, last.gradient, last.weights) == ("", "layer.weight", ["layer.weight"])
    assert last.gradients["layer.bias"] < math.inf


def test_the_first_module_that_is_not_finite_is_found(tmp_path: Path) -> None:
    method = Brightness()
    torch.nn.init.constant_(method.layer.weight, 3e38)
    watch = Watch(until=1)
    with pytest.raises(Reached):
        fit(method, stripes(20)[0], STEPS, seed=0, workdir=tmp_path, tracker=Recorder(), begin=watch)
    assert watch.steps[0].output == "layer (Linear)"
    assert watch.steps[0].wrong[0] == "pull"


class SpoiltOnOneRank(Brightness):
    def forward(self, views: list[Tensor], progress: float) -> Terms:
        terms = super().forward(views, progress)
        return {"pull": terms["pull"], "spoilt": terms["pull"] * (torch.nan if progress >= 0.4 and distributed.rank() == 1 else 0.0)}


def test_a_loss_that_is_not_finite_on_one_rank_ends_all_and_is_in_no_checkpoint(tmp_path: Path) -> None:
    ranks(2, _spoil, tmp_path)
    assert [(tmp_path / f"rank{rank}").read_text() for rank in (0, 1)] == ["3 spoilt"] * 2
    newest = sorted((tmp_path / "work/checkpoints/model").iterdir())[-1]
    state = torch.load(newest, weights_only=True)
    assert state["own"]["done"] == 2
    assert all(value.isfinite().all() for value in state["method"].values())


def _spoil(folder: Path) -> None:
    torch.manual_seed(0)
    try:
        fit(SpoiltOnOneRank(), stripes(20)[0], STEPS, seed=0, workdir=folder / "work", tracker=Recorder())
    except NotFinite as error:
        (folder / f"rank{distributed.rank()}").write_text(f"{error.step} {error.term}")

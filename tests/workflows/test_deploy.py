"""What a deployment says of itself, and which requests are refused."""

from pathlib import Path

import pytest
from jsonschema import ValidationError, validate

from schemas.errors import UserError
from workflows.engine import servers
from workflows.engine.deploy import deploy, parameter_schema

TINY = "name: tiny\nstages:\n  raw: {kind: ingest, source: {kind: scenes, count: 4, size: 16}}\n"
WHERE = {"file": "p.yaml", "workspace": "."}


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "tiny.yaml").write_text(TINY)
    return tmp_path / "tiny.yaml"


@pytest.mark.parametrize("params", [{"epochs": 3, "rate": 0.1, "name": "x", "on": True, "sizes": [1, 2]}, {"epochs": 4}, {}])
def test_parameters_of_the_types_in_the_file_are_taken(params: dict[str, object]) -> None:
    schema = parameter_schema({"epochs": 5, "rate": 0.5, "name": "y", "on": False, "sizes": [3]})
    validate({**WHERE, "params": params, "overrides": ["seed=1"]}, schema)


@pytest.mark.parametrize("params", [{"epochs": "many"}, {"epochs": 2.5}, {"epoch": 3}, {"rate": "fast"}, {"on": "yes"}])
def test_parameters_of_another_type_or_name_are_refused(params: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        validate({**WHERE, "params": params}, parameter_schema({"epochs": 5, "rate": 0.5, "on": False}))


def test_deploying_without_a_server_says_how_to_have_one(tiny: Path) -> None:
    with pytest.raises(UserError, match="sslflow up"):
        deploy(tiny, "local")


def test_a_server_that_does_not_answer_is_named_before_any_work(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    with pytest.raises(UserError, match="no Prefect server answers at http://127"):
        deploy(tiny, "local")


def test_a_stage_of_another_pool_is_refused_before_any_work(tiny: Path) -> None:
    tiny.write_text(TINY.replace("16}}", "16}, resources: {pool: gpu}}"))
    with pytest.raises(UserError, match=r"stages\.raw\.resources\.pool: 'gpu' asked for, but this run is on the work pool 'cpu'; deploy it with --pool gpu"):
        deploy(tiny, "cpu")


def test_a_schedule_that_is_none_is_refused(tiny: Path) -> None:
    with pytest.raises(UserError, match="--cron 'daily': must have five fields"):
        deploy(tiny, "local", cron="daily")


def test_a_state_file_of_a_process_that_is_gone_is_no_server(tiny: Path) -> None:
    state = tiny.parent / "state" / "sslflow" / "server.json"
    state.parent.mkdir(parents=True)
    state.write_text('{"url": "http://127.0.0.1:4200/api", "pid": 1}')
    assert servers.running(state) is None
    assert servers.address() is None


def test_stopping_what_was_never_started_is_no_error(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert not (tiny.parent / "state").exists()
    servers.down()
    assert capsys.readouterr().out == "nothing to stop\n"

"""Comparing runs of the ledger: what differs stands side by side, what does not compare never does, and chance is called chance."""

import itertools
import json
import re
import shutil
import subprocess
import sys
from datetime import datetime, timedelta, tzinfo
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from schemas.artifacts import Artifact, Report
from schemas.errors import UserError
from schemas.pipeline import Pipeline
from ssl_tasks.artifacts import draft, seal
from workflows.engine import cli_compare, ledger
from workflows.engine.comparing import compare
from workflows.engine.comparing.settings import settings
from workflows.engine.comparing.shown import page, show
from workflows.engine.reuse import Plan, make_plan

ENCODER = {"name": "resnet10t", "image_size": 32}
SPLIT = "a" * 64
IMAGES = 400


def right(share: float) -> NDArray[np.float64]:
    """Whether each of 400 images is right: the first ones are."""
    return (np.arange(IMAGES) < round(share * IMAGES)).astype(np.float64)


def planned(workspace: Path, epochs: float, k: int, name: str) -> Plan:
    stages: dict[str, Any] = {
        "raw": {"kind": "ingest", "source": {"kind": "digits"}},
        "teacher": {"kind": "pretrain", "dataset": "raw", "method": {"kind": "simclr"}, "encoder": ENCODER, "train": {"epochs": epochs}},
        "report": {"kind": "evaluate", "dataset": "raw", "models": ["teacher"], "protocols": [{"kind": "knn", "k": k}, {"kind": "rank"}]},
    }
    return make_plan(Pipeline.model_validate({"name": name, "stages": stages}), workspace, {"raw": "digits"}, force=stages)


class Clock(datetime):
    """Every look at it is a minute later."""

    minutes = itertools.count()

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> "Clock":
        return cls(2026, 11, 21, tzinfo=tz) + timedelta(minutes=next(cls.minutes))


@pytest.fixture(autouse=True)
def _minutes_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "datetime", Clock)


def ran(
    workspace: Path, epochs: float = 3.0, knn: NDArray[np.float64] | None = None, rank: float = 7.0, *, k: int = 20, split: str = SPLIT,
    version: str = "knn@1", name: str = "digits", until: str = "report",
) -> str:  # fmt: skip
    """A run of the ledger whose report states these numbers; its id."""
    items = right(0.9) if knn is None else knn
    plan = planned(workspace, epochs, k, name)
    run = ledger.Run(workspace, name, file="digits.yaml", environment={"torch": "2.11", "git_commit": f"{epochs:g}"})
    for stage in plan.stages.values():
        job = plan.job(stage)
        run.stage(stage.name, status="planned", kind=stage.stage.kind, outputs=stage.outputs)
        if stage.name == "report" and until != "report":
            continue
        for output in job.outputs:
            folder, fields = draft(job, output), {}
            if stage.name == "raw":
                (folder / "manifest.parquet").write_text("rows")
                fields = {"rows": 4, "kept": 3}
            elif stage.name == "teacher":
                fields = {"encoder": ENCODER, "mean": [0.5], "std": [0.5], "dim": 512, "exported": "encoder"}
            else:
                value, common = float(items.mean()), {"model": "teacher", "role": "pretrained", "spread": None, "parameters": 9, "dim": 512, "split": split}
                ends = {"low": value - 0.03, "high": value + 0.03, "over": "images"}
                rows = [
                    {**common, **ends, "protocol": "knn", "measure": "knn", "version": version, "metric": "accuracy", "values": [value], "value": value,
                     "n": len(items)},
                    {**common, "protocol": "rank", "measure": "rank", "version": "rank@1", "metric": "effective_rank", "values": [rank], "value": rank, "n": 9},
                ]  # fmt: skip
                protocols = {"knn": {"kind": "knn", "k": k, "temperature": 0.07}, "rank": {"kind": "rank"}}
                (folder / "results.json").write_text(json.dumps({"rows": rows, "protocols": protocols, "seed": 0}))
                np.savez(folder / "items.npz", **{"teacher/knn": items})
                fields = {"metrics": {"teacher/knn": value}}
            seal(job, folder, output, **fields)
        run.stage(stage.name, status="done")
    ledger.keep(run.folder, {name: artifact for name, stage in plan.stages.items() for artifact in plan.artifacts(stage).values()})
    run.finish("done")
    return run.id


def test_a_protocol_that_one_run_lacks_leaves_those_after_it_as_they_are() -> None:
    def report(*protocols: dict[str, Any]) -> dict[str, Artifact]:
        return {"report": Report.model_construct(config={"protocols": list(protocols)})}

    knn, linear, rank = {"kind": "knn", "k": 20}, {"kind": "linear", "strengths": 13}, {"kind": "rank", "samples": 100}
    found = list(settings([{}, {}], [report(knn, linear, rank), report({**knn, "k": 5}, rank)]))
    assert {setting.key: setting.values for setting in found} == {
        "report.protocols.knn.k": [20, 5], "report.protocols.linear.kind": ["linear", None], "report.protocols.linear.strengths": [13, None],
    }  # fmt: skip
    twice = list(settings([{}, {}], [report(knn, {**knn, "k": 5}), report(knn)]))
    assert {setting.key for setting in twice} >= {"report.protocols.1.k"}


def test_what_two_runs_differ_in_stands_side_by_side_with_the_settings_behind_it(tmp_path: Path) -> None:
    first, second = ran(tmp_path, 3.0, right(0.8)), ran(tmp_path, 5.0, right(0.9), rank=9.0)
    found = compare(tmp_path, [first, second])
    assert [(setting.key, setting.values) for setting in found.settings] == [("teacher.train.epochs", [3.0, 5.0]), ("environment.git_commit", ["3", "5"])]
    numbers = {line.name: [number.value for number in line.numbers if number] for line in found.lines}
    assert numbers == {"teacher/knn": [0.8, 0.9], "teacher/rank": [7.0, 9.0]}
    assert (found.same, found.apart) == (0, [])


def test_numbers_that_are_the_same_are_counted_and_not_listed(tmp_path: Path) -> None:
    found = compare(tmp_path, [ran(tmp_path, 3.0), ran(tmp_path, 5.0, rank=9.0)])
    assert ([line.name for line in found.lines], found.same) == (["teacher/rank"], 1)


def test_two_runs_are_compared_on_the_images_that_only_one_gets_right(tmp_path: Path) -> None:
    """40 images that the second alone gets right: McNemar's exact p is 2 / 2^40, and Holm's of the only test is the same."""
    found = compare(tmp_path, [ran(tmp_path, 3.0, right(0.8)), ran(tmp_path, 5.0, right(0.9))])
    none, difference = found.lines[0].differences
    assert none is None
    assert difference
    assert difference.mean == pytest.approx(0.1)
    assert found.p[0][1] == pytest.approx(2 / 2**40)
    assert "McNemar" in difference.how


def test_a_difference_by_chance_is_called_within_noise(tmp_path: Path) -> None:
    """Eleven images against nine: p is 0.82."""
    first, second = right(0.8), right(0.8)
    first[340:351] = 1
    second[360:369] = 1
    found = compare(tmp_path, [ran(tmp_path, 3.0, first), ran(tmp_path, 5.0, second)])
    assert found.p[0][1] == pytest.approx(0.8238, abs=1e-3)
    assert "within noise" in page(found)


def test_what_nothing_tells_the_noise_of_has_no_test(tmp_path: Path) -> None:
    found = compare(tmp_path, [ran(tmp_path, 3.0), ran(tmp_path, 5.0, rank=9.0)])
    assert (found.lines[0].differences, found.p) == ([None, None], [[None, None]])


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ({"k": 5}, "knn: k is 20 and 5"),
        ({"version": "knn@2"}, "knn: judged by knn@1 and by knn@2"),
        ({"split": "b" * 64}, "knn, rank: judged on the splits aaaaaaaaaaaa and bbbbbbbbbbbb"),
    ],
)
def test_what_was_judged_otherwise_is_never_side_by_side(other: dict[str, Any], why: str, tmp_path: Path) -> None:
    found = compare(tmp_path, [ran(tmp_path, 3.0, right(0.8)), ran(tmp_path, 5.0, right(0.9), **other)])
    of_knn = [line for line in found.lines if line.measure == "knn"]
    assert [[number is not None for number in line.numbers] for line in of_knn] == [[True, False], [False, True]]
    assert not any(difference for line in of_knn for difference in line.differences)
    assert found.apart == [f"{why}; these numbers do not compare and are on lines of their own"]


def test_a_run_is_compared_as_it_was_though_its_artifacts_were_made_again(tmp_path: Path) -> None:
    """The same config under other code has the same key: the later night's report replaces the earlier one's, but not in its record."""
    first = ran(tmp_path, 3.0, right(0.9))
    second = ran(tmp_path, 3.0, right(0.8))
    found = compare(tmp_path, [first, second])
    assert [[number.value for number in line.numbers if number] for line in found.lines] == [[0.9, 0.8]]
    assert found.settings == []


def test_runs_of_which_no_copy_was_kept_are_compared_by_their_artifacts(tmp_path: Path) -> None:
    ids = [ran(tmp_path, 3.0, right(0.8)), ran(tmp_path, 5.0, right(0.9))]
    for run in ids:
        shutil.rmtree(tmp_path / ledger.RUNS / run / ledger.ARTIFACTS)
    assert len(compare(tmp_path, ids).lines) == 1


def test_three_runs_are_each_compared_with_the_first(tmp_path: Path) -> None:
    found = compare(tmp_path, [ran(tmp_path, float(epochs), right(share)) for epochs, share in ((3, 0.8), (4, 0.85), (5, 0.9))])
    differences = [difference.mean for difference in found.lines[0].differences if difference]
    assert differences == pytest.approx([0.05, 0.1])
    smallest = min(d.p for d in found.lines[0].differences if d)
    assert min(p for p in found.p[0] if p is not None) == pytest.approx(2 * smallest), "the smaller of two p is doubled"


def test_a_pipeline_stands_for_its_newest_run_with_a_report_and_latest_for_the_newest_run(tmp_path: Path) -> None:
    one, other = ran(tmp_path, name="digits"), ran(tmp_path, 5.0, name="scenes")
    ran(tmp_path, 9.0, name="digits", until="teacher")
    assert [run["id"] for run in compare(tmp_path, ["digits", "scenes"]).runs] == [one, other]
    with pytest.raises(UserError, match="has no report: its stage 'report' is planned"):
        compare(tmp_path, ["latest", "scenes"])


def test_bad_input_is_a_line(tmp_path: Path) -> None:
    first, second = ran(tmp_path), ran(tmp_path, 5.0, name="scenes")
    with pytest.raises(UserError, match=f"no run '{first[:-2]}zz' in .*; nearest: {first}"):
        compare(tmp_path, [f"{first[:-2]}zz", second])
    with pytest.raises(UserError, match=r"digits is one run: .*; name two or more"):
        compare(tmp_path, ["digits"])
    with pytest.raises(UserError, match="are the same run"):
        compare(tmp_path, ["digits", first])
    with pytest.raises(UserError, match=r"stands for several runs: .*; give more of it"):
        compare(tmp_path, ["2", first])
    with pytest.raises(UserError, match="a run stands twice"):
        compare(tmp_path, [first, second, first])
    with pytest.raises(UserError, match=r"--out .*: cannot be written"):
        cli_compare.compare([first, second], out=tmp_path / "none" / "page.html", workspace=tmp_path)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.text, self.open, self.addresses = "", [], []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value for name, value in attrs if name in ("src", "href") and value]
        if tag not in ("meta", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_needs_nothing_but_itself_and_says_what_the_table_says(tmp_path: Path) -> None:
    found = compare(tmp_path, [ran(tmp_path, 3.0, right(0.8)), ran(tmp_path, 5.0, right(0.9), split="b" * 64)])
    reader = _Reader()
    reader.feed(page(found))
    assert reader.open == []
    assert reader.addresses == ["data:,"]
    assert "<script" not in page(found)
    for wanted in (*(run["id"] for run in found.runs), "teacher.train.epochs", "0.800", "[0.770, 0.830]", "Not comparable."):
        assert wanted in reader.text


def test_what_a_user_names_is_text_on_the_page(tmp_path: Path) -> None:
    found = compare(tmp_path, [ran(tmp_path, 3.0), ran(tmp_path, 5.0, rank=9.0)])
    found.runs[0]["file"] = "<b>mine.yaml"
    assert "&lt;b&gt;mine.yaml" in page(found)


def test_the_table_fits_a_terminal_and_marks_noise(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from workflows.engine.display import console

    show(console(), compare(tmp_path, [ran(tmp_path, 3.0, right(0.8)), ran(tmp_path, 5.0, right(0.805))]))
    told = re.sub(r" +", " ", capsys.readouterr().out)
    assert "teacher.train.epochs 3 5" in told
    assert "teacher/knn 0.800 [0.770, 0.830] 0.805 [0.775, 0.835] ~ +0.005" in told


def test_the_command_prints_one_json_document_and_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = ran(tmp_path, 3.0, right(0.8)), ran(tmp_path, 5.0, right(0.9))
    cli_compare.compare([first, second], workspace=tmp_path, as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert [run["id"] for run in told["runs"]] == [first, second]
    assert told["config"][0] == {"key": "teacher.train.epochs", "values": {first: 3.0, second: 5.0}}
    [number] = told["numbers"]
    assert (number["model"], number["measure"], number["version"], number["settings"]["k"]) == ("teacher", "knn", "knn@1", 20)
    assert [each["value"] for each in number["numbers"]] == [0.8, 0.9]
    assert number["differences"][0] is None
    assert number["differences"][1]["difference"] == pytest.approx(0.1)


def test_asking_for_a_run_that_is_not_there_ends_with_2_and_imports_nothing_heavy(tmp_path: Path) -> None:
    command = "from workflows.engine import cli; sys.argv[1:] = ['compare', 'a', 'b']"
    heavy = "print(sorted({'torch', 'mlflow', 'prefect', 'numpy'} & set(sys.modules)))"
    program = f"import sys; {command}\ntry: cli.main()\nfinally: {heavy}"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (2, "[]")
    assert done.stderr.startswith("no run 'a' in ")

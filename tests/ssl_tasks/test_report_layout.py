"""What stands where in a report: tables by family, marks in cells, the picture of the pipeline, figures beside their kin."""

import io
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluated import datasets, evaluation, models
from matplotlib.figure import Figure
from PIL import Image

from schemas.artifacts import Checkpoint, read
from schemas.stages import Evaluate
from ssl_tasks.evaluate import summaries
from ssl_tasks.evaluate.findings import Plate
from ssl_tasks.evaluate.leaks import Leak
from ssl_tasks.evaluate.lineage import Link
from ssl_tasks.evaluate.report import matrix, page
from ssl_tasks.evaluate.report.diagram import diagram
from ssl_tasks.evaluate.report.story import Story
from ssl_tasks.evaluate.results import Row


def row(model: str, protocol: str, metric: str, value: float, items: Any = None) -> Row:
    return Row(model, "pretrained", protocol, f"{protocol}@1", metric, [value], 200, 100, 64, "id", items)


@dataclass
class World:
    """A story of two models with the rows that a test gives."""

    workspace: Path
    protocols: list[Any]
    leaks: dict[str, Leak] = field(default_factory=dict)

    def story(self, *rows: Row) -> Story:
        inputs = models(self.workspace, datasets(self.workspace)[1])
        job = evaluation(self.workspace, inputs, compare=[], models=["teacher", "small_alone"], protocols=self.protocols)
        assert isinstance(job.stage, Evaluate)
        read_back = {name: read(self.workspace / ".sslflow/artifacts" / inputs[name]) for name in ("teacher", "small_alone")}
        checkpoints = {name: model for name, model in read_back.items() if isinstance(model, Checkpoint)}
        found = {"budget": {}, "summaries": summaries.summaries(rows), "differences": summaries.differences(rows)}
        return Story(job, job.stage, dict.fromkeys(checkpoints, "pretrained"), rows, [], found, checkpoints, [], self.leaks)


class TestTables:
    def test_few_columns_are_one_table(self, tmp_path: Path) -> None:
        story = World(tmp_path, ["knn", "rank"]).story(row("teacher", "knn", "accuracy", 0.9), row("teacher", "rank", "effective_rank", 9.0))
        assert matrix.families(story) == [("", ["knn", "rank"])]

    def test_many_are_one_a_family(self, tmp_path: Path) -> None:
        protocols = [{"kind": "few_shot", "shots": n} for n in range(1, 8)] + ["rank", "retrieval"]
        rows = [row("teacher", f"few_shot_shots{n}", "accuracy", 0.5) for n in range(1, 8)]
        rows += [row("teacher", "rank", "effective_rank", 9.0), row("teacher", "retrieval", "map", 0.4)]
        tables = matrix.tables(World(tmp_path, protocols).story(*rows))
        assert [(table["title"], len(table["columns"])) for table in tables] == [
            ("Frozen features", 7), ("Clusters, retrieval and copies", 1), ("Without labels", 1),
        ]  # fmt: skip

    def test_every_family_that_gives_numbers_has_a_title(self) -> None:
        from ssl_tasks.evaluate.protocols import JUDGES

        assert {path.partition(".")[0] for path in JUDGES.values()} - {"looks", "costs"} == set(matrix.FAMILIES)

    def cells(self, tmp_path: Path, first: float, second: float, leaks: dict[str, Leak] | None = None) -> list[dict[str, Any]]:
        """The rows of two models that get those shares of 200 images right, nested as they can be."""
        rights = [(np.arange(200) < 200 * share).astype(float) for share in (first, second)]
        rows = [row(name, "knn", "accuracy", share, items) for name, share, items in zip(("teacher", "small_alone"), (first, second), rights, strict=True)]
        (table,) = matrix.tables(World(tmp_path, ["knn"], leaks or {}).story(*rows))
        return list(table["groups"][0][1])

    def test_what_is_within_noise_of_the_best_is_marked(self, tmp_path: Path) -> None:
        assert [entry["cells"][0]["stands"] for entry in self.cells(tmp_path, 0.9, 0.88)] == ["best", "near"]  # four images: p = 0.125
        assert [entry["cells"][0]["stands"] for entry in self.cells(tmp_path, 0.9, 0.8)] == ["best", ""]

    def test_a_number_stands_with_its_interval(self, tmp_path: Path) -> None:
        cell = self.cells(tmp_path, 0.9, 0.5)[0]["cells"][0]
        assert cell["value"] == "90.0"
        low, high = map(float, cell["interval"].split("\N{EN DASH}"))
        assert low < 90 < high

    def test_a_model_that_saw_test_images_is_marked(self, tmp_path: Path) -> None:
        leak = Leak(3, 2, 3, 0, 200, ("clean",), ())
        marked = self.cells(tmp_path, 0.9, 0.8, {"teacher": leak, "small_alone": replace(leak, train_images=0)})
        assert [entry["leaks"] for entry in marked] == [True, False]


class TestDiagram:
    def chain(self, takes: dict[str, list[str]]) -> list[Link]:
        return [Link(name, "stage", name, taken, "", "", "") for name, taken in takes.items()]

    def test_it_says_what_each_stage_was_made_from_and_leaves_out_what_is_implied(self) -> None:
        links = self.chain({"report": ["raw", "student", "teacher"], "student": ["clean", "teacher"], "teacher": ["clean"], "clean": ["raw"], "raw": []})
        drawn = diagram(links)
        assert [box.title for box in drawn.boxes] == ["raw", "clean", "teacher", "student", "report"]
        assert len(drawn.paths) == 4
        assert drawn.words == (
            "From left to right: clean is made from raw; teacher is made from clean; student is made from teacher; report is made from student."
        )
        assert [box.is_report for box in drawn.boxes] == [False] * 4 + [True]

    def test_seeds_are_one_box(self) -> None:
        links = self.chain({"report": ["m[seed=0]", "m[seed=1]"], "m[seed=0]": ["raw"], "m[seed=1]": ["raw"], "raw": []})
        assert [(box.title, box.kind) for box in diagram(links).boxes] == [("raw", "stage"), ("m", "stage, 2 seeds"), ("report", "stage")]

    def test_a_line_that_passes_a_stage_goes_around_it(self) -> None:
        links = self.chain({"report": ["student", "alone"], "student": ["teacher"], "teacher": ["raw"], "alone": ["raw"], "raw": []})
        drawn = diagram(links)
        student = next(box for box in drawn.boxes if box.title == "student")
        (passing,) = [path for path in drawn.paths if "L" in path]
        height = float(passing.partition("L")[2].partition("C")[0].split()[1])
        assert not student.y <= height <= student.y + 46

    def test_a_stage_of_its_own_is_drawn_too(self) -> None:
        assert len(diagram(self.chain({"report": []})).boxes) == 1


class TestFigures:
    def image(self, name: str, title: str) -> page.Image:
        return page.Image(name, Plate(name, "looks", title, "What is seen in it.", lambda _: Figure()), "data:", "data:", 1, 1)

    def test_figures_of_one_kind_stand_beside_each_other(self, tmp_path: Path) -> None:
        made = [self.image(f"{kind}-{model}", f"{kind.title()}: {model}") for model in ("teacher", "small_alone") for kind in ("attention", "map")]
        ordered = page._ordered(made, World(tmp_path, ["rank"]).story())
        assert [image.name for image in ordered] == ["attention-teacher", "attention-small_alone", "map-teacher", "map-small_alone"]

    def test_those_of_baselines_are_folded_away(self, tmp_path: Path) -> None:
        story = replace(World(tmp_path, ["rank"]).story(), roles={"teacher": "pretrained", "random init (teacher)": "random"})
        made = [self.image(name, f"Attention: {name}") for name in ("random init (teacher)", "teacher")]
        shown, aside = page._sections(made, story)["looks"]
        assert [[image.name for image in each] for each in (shown, aside)] == [["teacher"], ["random init (teacher)"]]

    def test_names_are_fit_for_files_and_never_taken_twice(self) -> None:
        assert page._free("spectrum_random init (a.b)", {}) == "spectrum_random-init-a.b"
        assert page._free("map", {"map": 0, "map-2": 0}) == "map-3"
        assert "/" not in page._free("../../x", {})

    @pytest.mark.parametrize(("side", "kind"), [(8, "PNG"), (400, "WEBP")])
    def test_large_pictures_take_little_room(self, side: int, kind: str) -> None:
        import base64

        noise = np.random.default_rng(0).integers(0, 255, (side, side, 3), dtype=np.uint8)
        file = io.BytesIO()
        Image.fromarray(noise).save(file, "PNG")
        packed = base64.b64decode(page._uri(file.getvalue()).partition(",")[2])
        assert len(packed) <= len(file.getvalue())
        opened = Image.open(io.BytesIO(packed))
        assert (opened.format, opened.size) == (kind, (side, side))

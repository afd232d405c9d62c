"""What a report says each student is worth: beside its teacher, alone and untrained, over seeds, with intervals, as numbers and as a page."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from classified import SEEDS, family, judged
from evaluated import datasets, done, evaluation, models
from scipy import stats

from schemas.artifacts import Artifact, read
from schemas.stages import Comparison
from ssl_tasks.evaluate.comparing import mcnemar
from ssl_tasks.evaluate.intervals import of_difference, over_images, over_seeds
from ssl_tasks.evaluate.report import words
from ssl_tasks.evaluate.report.palette import styles
from ssl_tasks.evaluate.report.pareto import Point, front, pareto
from ssl_tasks.evaluate.results import Role, Row, teachers
from ssl_tasks.evaluate.students import flat, group, students
from ssl_tasks.report.theme import LIGHT


def row(model: str, value: float, metric: str = "accuracy", protocol: str = "knn", n: int = 200, parameters: int = 100) -> Row:
    return Row(model, "student", protocol, f"{protocol}@1", metric, [value], n, parameters, 64, "id")


class TestIntervals:
    def test_over_seeds_it_is_students_t(self) -> None:
        values = [0.71, 0.74, 0.69]
        interval = over_seeds(values)
        assert interval is not None
        reach = 4.302652729911275 * np.std(values, ddof=1) / np.sqrt(3)  # the table's t for 2 degrees of freedom and 97.5%
        assert interval[:2] == pytest.approx((np.mean(values) - reach, np.mean(values) + reach))
        assert interval.over == "seeds"
        assert over_seeds([0.7]) is None

    @pytest.mark.parametrize(("right", "n"), [(0, 12), (5, 12), (12, 12), (873, 1000)])
    def test_over_images_it_is_wilsons(self, right: int, n: int) -> None:
        by_scipy = stats.binomtest(right, n).proportion_ci(0.95, method="wilson")
        assert over_images(right / n, n)[:2] == pytest.approx((by_scipy.low, by_scipy.high), abs=1e-12)

    def test_of_a_difference_it_is_newcombes(self) -> None:
        low, high, over = of_difference(56 / 70, 70, 48 / 80, 80)  # his first example, under method 10: 0.0524 to 0.3339
        assert (low, high, over) == (pytest.approx(0.0524, abs=5e-5), pytest.approx(0.3339, abs=5e-5), "images")
        assert of_difference(48 / 80, 80, 56 / 70, 70)[:2] == pytest.approx((-high, -low))


class TestGroups:
    @pytest.mark.parametrize(
        ("name", "called"),
        [
            ("students.small", "students.small"),
            ("students[seed=3].small", "students.small"),
            ("students[temperature=4,seed=3].small", "students[temperature=4].small"),
            ("students[temperature=0.5].small", "students[temperature=0.5].small"),
            ("alone[seed=1]", "alone"),
            ("teacher", "teacher"),
        ],
    )
    def test_seeds_are_one_student_and_other_values_of_a_matrix_are_others(self, name: str, called: str) -> None:
        assert group(name) == called

    def test_over_seeds_a_delta_is_paired_and_the_teacher_counts_once(self) -> None:
        values = {"s": [0.80, 0.84, 0.82], "a": [0.70, 0.76, 0.73]}
        rows = [row("t", 0.9)] + [row(f"{kind}[seed={i}].x", v) for kind, of in values.items() for i, v in enumerate(of)]
        compare = [Comparison(student=f"s[seed={i}].x", teacher="t", alone=f"a[seed={i}].x") for i in range(3)]
        (entry,) = students(rows, compare, {})
        assert (entry["name"], entry["seeds"]) == ("s.x", 3)
        knn = entry["measures"]["knn"]
        assert knn["distilled"]["mean"] == pytest.approx(0.82)
        assert knn["distilled"]["over"] == "seeds"
        assert knn["teacher"]["values"] == [0.9]
        assert knn["teacher"]["over"] == "images"
        assert knn["distilled_minus_alone"]["values"] == pytest.approx([0.10, 0.08, 0.09])
        assert knn["distilled_minus_alone"]["low"] == pytest.approx(0.09 - 4.302652729911275 * 0.01 / np.sqrt(3))
        assert knn["distilled_minus_teacher"]["mean"] == pytest.approx(-0.08)
        metrics = flat([entry])
        assert metrics["s.x/knn"] == pytest.approx(0.82)
        assert metrics["s.x/knn/distilled_minus_alone"] == pytest.approx(0.09)
        assert {"s.x/knn/low", "s.x/knn/high", "s.x/knn/distilled_minus_teacher/low"} < metrics.keys()

    def test_of_one_seed_intervals_are_over_images_and_metrics_stay_those_of_the_rows(self) -> None:
        rows = [row("t", 0.9), row("s", 0.8), row("s", 12.0, "effective_rank", "rank"), row("t", 9.0, "effective_rank", "rank")]
        (entry,) = students(rows, [Comparison(student="s", teacher="t")], {"s": "random init (s)"})
        assert entry["measures"]["knn"]["distilled"]["over"] == "images"
        assert entry["measures"]["knn"].keys() == {"teacher", "distilled", "distilled_minus_teacher"}
        assert entry["measures"]["rank"]["distilled_minus_teacher"] == {"mean": 3.0, "values": [3.0]}
        assert flat([entry]) == {}

    def test_of_one_seed_a_delta_is_paired_image_by_image_where_they_are_known(self) -> None:
        def judged(model: str, right: int) -> Row:
            return Row(model, "student", "knn", "knn@1", "accuracy", [right / 200], 200, 100, 64, "id", (np.arange(200) < right).astype(float))

        (entry,) = students([judged("t", 190), judged("s", 180), judged("a", 178)], [Comparison(student="s", teacher="t", alone="a")], {})
        less, more = (entry["measures"]["knn"][f"distilled_minus_{other}"] for other in ("teacher", "alone"))
        assert (less["p"], more["p"]) == (mcnemar(0, 10), mcnemar(2, 0))
        assert (less["within_noise"], more["within_noise"]) == (False, True)
        assert less["low"] < -0.05 < less["high"] < 0
        assert less["high"] < of_difference(0.9, 200, 0.95, 200).high  # which takes the images of both for other ones

    def test_no_interval_leaves_what_is_possible(self) -> None:
        rows = [row(f"s[seed={i}]", v) for i, v in enumerate([0.4, 1.0])] + [row(f"s[seed={i}]", v, "kl", "fidelity") for i, v in enumerate([0.1, 2.0])]
        (entry,) = students(rows, [Comparison(student=f"s[seed={i}]") for i in range(2)], {})
        knn, kl = (entry["measures"][measure]["distilled"] for measure in ("knn", "fidelity/kl"))
        assert (knn["low"], knn["high"]) == (0, 1)
        assert kl["low"] == 0
        assert kl["high"] > 10


class TestWords:
    def test_several_seeds_are_said_as_a_mean(self) -> None:
        rows = [row("t", 0.9, parameters=1000), row("s[seed=0]", 0.8), row("s[seed=1]", 0.82)]
        entries = students(rows, [Comparison(student=f"s[seed={i}]", teacher="t") for i in range(2)], {})
        assert words.lead(rows, entries, {"knn": "k-NN"}) == ["On average over 2 seeds, s reaches 90% of t's k-NN accuracy with 10% of its parameters."]
        assert words.caveat(7, 500, True, 2).startswith("Last epoch, up to 2 seeds a model, 500 test images")

    def test_a_student_without_a_teacher_is_held_against_training_alone_or_nothing(self) -> None:
        rows = [row("s", 0.8), row("a", 0.75)]
        titles = {"knn": "k-NN"}
        assert words.lead(rows, students(rows, [Comparison(student="s")], {}), titles) == ["s reaches 80.0% in k-NN."]
        (sentence,) = words.lead(rows, students(rows, [Comparison(student="s", alone="a")], {}), titles)
        assert sentence == "s reaches 80.0% in k-NN. Against the same network trained alone, in points: +5.0 k-NN."

    def test_without_an_accuracy_the_first_number_leads(self) -> None:
        rows = [row("s", 0.25, "kl", "fidelity")]
        assert words.lead(rows, students(rows, [Comparison(student="s")], {}), {"fidelity/kl": "KL"}) == ["s: KL 0.25."]


class TestPareto:
    def points(self) -> list[Point]:
        priced = {"teacher": (95.0, 100.0), "small": (93.0, 20.0), "wasteful": (92.0, 50.0), "tiny": (80.0, 5.0), "twin": (70.0, 5.0)}
        return [Point(name, value, value - 1, value + 1, {"parameters": price}) for name, (value, price) in priced.items()]

    def test_the_front_is_what_nothing_beats_in_both(self) -> None:
        assert [point.name for point in front(self.points(), "parameters")] == ["tiny", "small", "teacher"]

    def test_of_equals_one_stands_for_both(self) -> None:
        twins = [Point(name, 90.0, 89, 91, {"FLOPs": 7.0}) for name in "ab"]
        assert [point.name for point in front(twins, "FLOPs")] == ["a"]

    def test_the_figure_has_a_panel_a_price_and_names_every_model(self) -> None:
        points = [Point(p.name, p.value, p.low, p.high, {**p.prices, "FLOPs": 2e6 + p.prices["parameters"]}) for p in self.points()]
        figure = pareto(points, "k-NN", styles({p.name: "student" for p in points}, []), LIGHT)
        assert [axes.get_title(loc="left") for axes in figure.axes] == ["parameters", "FLOPs"]
        assert [axes.get_xscale() for axes in figure.axes] == ["log", "linear"]
        assert [text.get_text() for text in figure.legends[0].get_texts()] == [*(p.name for p in points), "front"]


def test_all_seeds_of_a_student_share_a_colour_with_the_same_alone() -> None:
    roles: dict[str, Role] = {"t": "teacher", "s[seed=0].a": "student", "s[seed=1].a": "student", "s[seed=0].a_alone": "alone", "s[seed=0].b": "student"}
    chosen = styles(roles, [Comparison(student="s[seed=0].a", teacher="t", alone="s[seed=0].a_alone"), Comparison(student="s[seed=1].a")])
    assert chosen["s[seed=0].a"].hue == chosen["s[seed=1].a"].hue == chosen["s[seed=0].a_alone"].hue
    assert len({style.hue for style in chosen.values()}) == 3


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """On a family of classifiers with three seeds."""
    workspace = tmp_path_factory.mktemp("students")
    inputs = family(workspace, datasets(workspace)[1])
    protocols: list[Any] = [{"kind": "knn", "k": 5}, "accuracy", "fidelity", "calibration", {"kind": "cost", "batch": 4, "repeats": 2}]
    return done(evaluation(workspace, inputs, **judged(), protocols=protocols))[""]


def test_each_student_stands_beside_its_teacher_alone_and_untrained(report: Artifact) -> None:
    found = json.loads(report.path("results.json").read_text())
    value = {(r["model"], r["measure"]): r["value"] for r in found["rows"]}
    assert [(entry["name"], entry["seeds"]) for entry in found["students"]] == [("students.small", 3), ("students.tiny", 3)]
    for entry in found["students"]:
        student = entry["name"].rpartition(".")[2]
        knn = entry["measures"]["knn"]
        assert knn.keys() == {"teacher", "distilled", "student_alone", "random_init", "distilled_minus_alone", "distilled_minus_teacher"}
        assert knn["distilled"]["values"] == [value[f"students[seed={s}].{student}", "knn"] for s in SEEDS]
        assert knn["random_init"]["values"] == [value[f"random init (students[seed=0].{student})", "knn"]]
        assert {"distilled", "student_alone", "distilled_minus_alone"} == entry["measures"]["fidelity/kl"].keys()
        assert {"calibration/ece", "calibration/ece_scaled", "accuracy", "fidelity/agreement"} < entry["measures"].keys()
        assert entry["cost"]["teacher"]["flops"] > entry["cost"]["distilled"]["flops"]
    assert report.metrics["students.small/knn"] == pytest.approx(np.mean([value[f"students[seed={s}].small", "knn"] for s in SEEDS]))


def test_the_page_tells_of_students_costs_and_their_front(report: Artifact) -> None:
    page = report.path("report.html").read_text()
    for words_of_it in (
        "What distillation changed",
        "students.small, 3 seeds",
        "over 3 seeds (Student&#39;s t)",
        "What it costs",
        "images/s",
        "ECE scaled",
    ):
        assert words_of_it in page
    assert "Not judged by fidelity: teacher, which has no teacher among the models that is a classifier" in page
    assert (report.folder / "figures/pareto.png").is_file()


def test_teachers_are_those_compared_with_or_learned_from(tmp_path: Path) -> None:
    inputs = models(tmp_path, datasets(tmp_path)[1])
    stage = evaluation(tmp_path, inputs).stage.model_copy(update={"compare": [Comparison(student="students.vit", teacher="small_alone", alone="vit_alone")]})
    artifacts = {name: read(tmp_path / ".sslflow/artifacts" / key) for name, key in inputs.items() if name != "clean"}
    assert teachers(stage, artifacts) == {"students.vit": "small_alone", "vit_alone": "small_alone", "students.small": "teacher"}

"""The report says what the numbers say, and needs nothing but its own file."""

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from evaluated import COMMIT, DATA_VERSION, SHOTS, checkpoint, datasets, done, encoder, evaluation, job, models
from PIL import Image

from schemas.artifacts import Artifact, Checkpoint, Dataset, read
from schemas.errors import UserError
from schemas.protocols.frozen import KNN, FewShot
from schemas.protocols.label_free import Rank
from schemas.stages import Comparison
from ssl_tasks.data import manifest
from ssl_tasks.evaluate import lineage, protocols
from ssl_tasks.evaluate.lineage import chain, summary
from ssl_tasks.evaluate.report import figures, showcase, words
from ssl_tasks.evaluate.report.palette import styles
from ssl_tasks.evaluate.results import Role, Row
from ssl_tasks.evaluate.students import students
from ssl_tasks.evaluate.wording import enumerated
from ssl_tasks.report.theme import LIGHT


def row(model: str, role: Role, value: float, parameters: int = 100, protocol: str = "knn") -> Row:
    return Row(model, role, protocol, f"{protocol}@1", "accuracy", [value], 500, parameters, 64, "id")


class TestWords:
    def test_the_lead_says_what_a_student_keeps_and_gains(self) -> None:
        rows = [row("teacher", "teacher", 0.98, 2000), row("students.small", "student", 0.97, 120), row("small", "alone", 0.975, 120)]
        entries = students(rows, [Comparison(student="students.small", teacher="teacher", alone="small")], {})
        (sentence,) = words.lead(rows, entries, {"knn": "k-NN"})
        assert sentence == (
            "students.small reaches 99% of teacher's k-NN accuracy with 6% of its parameters. "
            f"Against the same network trained alone, in points: {words.MINUS}0.5 k-NN."
        )

    def test_without_a_comparison_the_lead_is_what_the_first_model_reaches(self) -> None:
        assert words.lead([row("teacher", "pretrained", 0.98)], [], {"knn": "k-NN"}) == ["teacher reaches 98.0% in k-NN."]
        ranked = Row("teacher", "pretrained", "rank", "rank@1", "effective_rank", [27.43], 900, 100, 64, "id")
        assert words.lead([ranked], [], {"rank": "rank"}) == ["teacher has an effective rank of 27.4 in 64 dimensions."]

    def test_the_caveat_counts_what_one_image_is_worth(self) -> None:
        assert words.caveat(7, 500, True) == "Last epoch, one seed (7), 500 test images: one image more or less is 0.2 points."

    def test_numbers_are_short(self) -> None:
        assert [words.big(n) for n in (812, 79_502, 451_000, 1_258_432, 86_000_000)] == ["812", "79.5 k", "451 k", "1.26 M", "86 M"]
        assert [words.duration(s) for s in (41.2, 63, 18_720)] == ["41 s", "1 min 3 s", "5 h 12 min"]
        assert [words.energy(joules) for joules in (306_000, 4_320_000)] == ["85 Wh", "1.2 kWh"]
        assert [words.signed(v) for v in (2.14, -0.5, 0.04, -0.04)] == ["+2.1", f"{words.MINUS}0.5", "0.0", "0.0"]
        assert enumerated(["a", "b", "c"]) == "a, b and c"
        assert enumerated(["a"]) == "a"

    def test_titles_and_meanings_say_the_settings(self) -> None:
        assert words.title("knn_k5", KNN(k=5)) == "k-NN k5"
        assert words.title("few_shot", FewShot(shots=2)) == "2-shot"
        assert "2 labelled train images a class" in protocols.module(FewShot(shots=2)).meaning(FewShot(shots=2))
        assert "100 train features" in protocols.module(Rank(samples=100)).meaning(Rank(samples=100))

    def test_figures_name_a_model_by_its_output_where_that_is_clear(self) -> None:
        names = ["teacher", "a.small", "b.small", "b.vit"]
        assert [words.short(n, names) for n in (*names, "random init (b.vit)")] == ["teacher", "a.small", "b.small", "vit", "random vit"]


def test_a_student_and_the_same_network_alone_share_a_colour() -> None:
    roles: dict[str, Role] = {"teacher": "teacher", "s.a": "student", "s.b": "student", "a": "alone", "pixels": "pixels", "random init (a)": "random"}
    chosen = styles(roles, [Comparison(student="s.a", teacher="teacher", alone="a")])
    assert list(chosen) == list(roles)
    assert chosen["s.a"].hue == chosen["a"].hue != chosen["s.b"].hue
    assert (chosen["a"].hollow, chosen["s.a"].hollow) == (True, False)
    assert chosen["teacher"].colour(LIGHT) == LIGHT.hues[0]
    assert chosen["pixels"].colour(LIGHT) == LIGHT.muted


def test_a_value_far_below_the_others_is_written_at_the_edge() -> None:
    rows = [("good", row("good", "teacher", 0.98)), ("bad", row("bad", "random", 0.334))]
    figure = figures.dots(rows, {"knn": "k-NN"}, styles({"good": "teacher", "bad": "random"}, []), LIGHT)
    assert [text.get_text() for text in figure.axes[0].texts] == ["33"]
    assert figure.axes[0].get_xlim()[0] > 90


class TestShowcase:
    def table(self) -> manifest.pa.Table:
        fresh = [
            {"uri": f"{i}.png", "sha256": "0" * 64, "bytes": 1, "width": 8, "height": 8, "mode": "L", "label": None, "split": s}
            for i, s in enumerate(["train"] * 6 + ["test"] * 2)
        ]
        why = ["", "integrity: empty", "exact_duplicates: same pixels", "", "balance: cluster 3 is full", "", "integrity: empty", ""]
        return manifest.replace(manifest.build(fresh), why=why, kept=[not w for w in why], duplicate_of=[None, None, 5, *[None] * 5])

    def test_counts_follow_the_train_images_from_step_to_step(self) -> None:
        assert showcase.counts(self.table(), ["integrity", "exact_duplicates", "deduplicate", "balance"]) == {
            "listed": 6, "integrity": 5, "exact_duplicates": 4, "deduplicate": 4, "balance": 3,
        }  # fmt: skip

    def test_duplicates_come_with_the_image_that_stays(self) -> None:
        assert showcase.duplicates(self.table()) == [(5, 2)]

    def test_a_damaged_curve_is_an_error_that_names_the_file(self, world: dict[str, Artifact]) -> None:
        teacher = world["teacher"]
        assert showcase.curves(teacher)["train/loss"][0] == [1, 2, 3, 4, 5, 6]
        whole = teacher.path("metrics.jsonl").read_text()
        teacher.path("metrics.jsonl").write_text(whole[:-5])
        try:
            with pytest.raises(UserError, match=r"metrics\.jsonl is damaged"):
                showcase.curves(teacher)
        finally:
            teacher.path("metrics.jsonl").write_text(whole)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("report")


@pytest.fixture(scope="module")
def world(workspace: Path) -> dict[str, Artifact]:
    """The artifacts of a whole pipeline, by name; `report` is the last."""
    inputs = models(workspace, datasets(workspace)[1])
    fields = {"protocols": [{"kind": "knn", "k": 5}, SHOTS, "rank"]}
    report = done(evaluation(workspace, inputs, **fields))[""]
    return {name: read(workspace / ".sslflow/artifacts" / key) for name, key in inputs.items()} | {"report": report}


class Page(HTMLParser):
    """What a test asks of a page: its tags with their attributes, and the text between them."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_stands_alone(world: dict[str, Artifact]) -> None:
    page = Page(world["report"].path("report.html"))
    fetched = [value for tag, attrs in page.tags if tag != "a" for name, value in attrs.items() if name in ("src", "srcset", "href") and value]
    assert fetched
    assert all(value.startswith("data:") for value in fetched)
    assert not {tag for tag, _ in page.tags} & {"script", "iframe", "object", "embed", "base"}
    assert not re.search(r"url\(|@import", world["report"].path("report.html").read_text())


def test_every_picture_decodes_to_the_size_that_is_reserved_for_it(world: dict[str, Artifact]) -> None:
    page = Page(world["report"].path("report.html"))
    images = [attrs for tag, attrs in page.tags if tag == "img"]
    assert len(images) == 7
    for attrs in images:
        picture = Image.open(io.BytesIO(base64.b64decode(str(attrs["src"]).partition(",")[2])))
        assert (str(picture.width), str(picture.height)) == (attrs["width"], attrs["height"])
        assert attrs["alt"]
        assert len(np.unique(np.asarray(picture))) > 10
    assert {p.stem for p in world["report"].path("figures").iterdir()} == {"models", "pareto", "curves", "map", "neighbours", "curation", "duplicates"}


def test_the_page_shows_every_number_and_where_it_comes_from(world: dict[str, Artifact]) -> None:
    text = Page(world["report"].path("report.html")).text
    metrics = world["report"].metrics
    for name in ("teacher/knn", "students.small/knn", "small_alone/few_shot", "pixels/knn", "random init (teacher)/few_shot"):
        assert f"{metrics[name] * 100:.1f}" in text
    assert f"{metrics['teacher/rank']:.1f}" in text
    assert "distilled minus alone" in text
    assert "distilled minus teacher" in text
    for artifact in world.values():
        assert artifact.key[:12] in text
    assert DATA_VERSION in text
    assert COMMIT[:8] in text
    assert "knn@1" in text
    assert not re.search(r"\bnan\b|None|Undefined", text.replace("DataFrame", ""))


def test_the_chain_leads_from_the_report_to_the_images(workspace: Path, world: dict[str, Artifact]) -> None:
    inputs = {name: artifact.key for name, artifact in world.items() if name != "report"}
    links = chain(evaluation(workspace, inputs))
    names = [link.name for link in links]
    assert names[0] == "report"
    assert names[-2:] == ["clean", "raw"]
    assert set(names) == {"report", "students.small", "students.vit", "teacher", "small_alone", "vit_alone", "clean", "raw"}
    assert all(names.index(parent) > i for i, link in enumerate(links) for parent in link.takes)
    assert next(link for link in links if link.name == "students.vit").takes == ["clean", "teacher"]
    assert {link.commit for link in links} == {COMMIT}
    summary = next(link.summary for link in links if link.name == "clean")
    assert re.search(r"33 train images kept of 48 images listed; manifest [0-9a-f]{12}$", summary)


def test_summaries_say_what_tells_stages_apart(world: dict[str, Artifact]) -> None:
    assert summary(world["teacher"].config) == "simclr; resnet10t 12 px, channels 16-16-16-16, stem width 8; 2 epochs, batch 8, seed 0"
    assert summary(world["students.vit"].config).startswith("feature from teacher; resnet10t 12 px, channels 4-4-4-4")
    assert summary(world["clean"].config) == "integrity (min side 8) \N{RIGHTWARDS ARROW} exact_duplicates"


def test_what_a_model_learned_by_stands_with_its_stage_or_its_student(world: dict[str, Artifact]) -> None:
    assert [lineage.method(world[name].config) for name in ("teacher", "students.small", "clean")] == ["simclr", "feature", "curate"]
    assert [lineage.epochs(world[name].config) for name in ("teacher", "students.small", "clean")] == [2.0, 2.0, None]


def test_what_is_missing_is_left_out(tmp_path: Path) -> None:
    raw, _ = datasets(tmp_path)
    assert isinstance(raw, Dataset)
    stage = {"kind": "pretrain", "dataset": "raw", "method": "simclr", "encoder": encoder(8)}
    model = checkpoint(job(tmp_path, "solo", stage, {"raw": raw.key}), "", encoder(8), 0)
    assert isinstance(model, Checkpoint)
    model.path("metrics.jsonl").unlink()
    fields = {"dataset": "raw", "models": ["solo"], "compare": [], "baselines": [], "protocols": [SHOTS]}
    bare = evaluation(tmp_path, {"raw": raw.key, "solo": model.key}, **fields).model_copy(update={"environment": {}, "data_version": ""})
    report = done(bare)[""]
    page = Page(report.path("report.html"))
    assert {p.stem for p in report.path("figures").iterdir()} == {"models", "map", "neighbours"}
    assert "Pretrained" in page.text
    assert "What distillation changed" not in page.text
    assert "Curation" not in page.text
    assert "git checkout" not in page.text
    assert "not under version control" in page.text


def test_a_comparison_by_rank_alone_has_a_page_too(workspace: Path, world: dict[str, Artifact]) -> None:
    inputs = {name: artifact.key for name, artifact in world.items() if name != "report"}
    page = Page(done(evaluation(workspace, inputs, protocols=["rank"]))[""].path("report.html"))
    assert "students.small" in page.text
    assert ("div", {"class": "cards"}) not in page.tags

"""What is each way of distilling worth? A pipeline run whole with several seeds: every student beside its teacher and itself alone.

    python benchmarks/distillation.py [--data FOLDER] [--seeds 0 1 2] [--workspace FOLDER] [--out benchmarks/distillation_cifar10.json]
    python benchmarks/distillation.py --pipeline workflows/classic_distillation.yaml --data FOLDER --out benchmarks/distillation_classic.json
    python benchmarks/distillation.py --page    # writes docs/distillation-methods.md from the results that are there

Without `--data` the images of `workflows/distillation_methods.yaml` are scikit-learn's digits; with it those of a folder of train/CLASS/*
and test/CLASS/*, such as CIFAR-10. A seed is that of everything random: which images are kept, the teacher, the students. Every student has
the same network, images, epochs and optimizer; its method has its own defaults but for queues that fit the images. Last epoch.
"""

from pathlib import Path
from typing import Any

from common import finish, machine
from pipelines import RESULTS, interval, overrides_of, page, parser_of, run, told

PIPELINE = RESULTS.parent / "workflows" / "distillation_methods.yaml"
PAGE = RESULTS.parent / "docs" / "distillation-methods.md"
PHOTOGRAPHS = {
    "keep": 4000,
    "side": 32,
    "channels": 3,
    "teacher_epochs": 12,
    "student_epochs": 8,
    "temperature": 0.2,
    "views": {"preset": "simclr_cifar"},
    "few_changes": {"scale": [0.4, 1.0], "jitter": 0, "grey": 0, "blur": 0},
}
"""Parameters for 32 px photographs."""
PLAIN = {"report": "features.feature", "classified": "scores.labels_and_feature"}
"""Plain feature regression, with which the others of a report are compared."""
ALONE = {"report": "student_alone", "classified": "scores.labels"}
"""The same student without the teacher."""
VIT = {"report": ("patches.feature_vit", "vit_alone")}
"""The same for the students that are ViTs."""
INTRODUCTION = """# What each way of distilling is worth

Written by `python benchmarks/distillation.py --page` from its results; the pipeline is `workflows/distillation_methods.yaml`.

Every student is the same small network with the same images, epochs and optimizer; only what it learns from differs, each method with its
paper's parameters. Accuracies in per cent on test images, mean over seeds and its 95 % confidence interval (Student's t), last epoch. "Against
plain" is the difference to plain feature regression, "against alone" that to the student without a teacher, both seed by seed. A budget as
short as this one tells which methods help a small student soon; it says nothing of the published figures, which take hundreds of epochs.
"""


def table(runs: list[dict[str, Any]]) -> dict[str, dict[str, dict[str, Any]]]:
    """Of each report and model: each protocol's accuracy, and its differences to plain feature regression and to the student alone."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for name in runs[0]["results"]:
        report, model, protocol = name.split("/", 2)
        if protocol not in ("knn", "linear", "accuracy"):
            continue
        entry = found.setdefault(report, {}).setdefault(model, {}).setdefault(protocol, interval([each["results"][name] for each in runs]))
        if model.startswith("random init") or model == "pixels":
            continue
        plain, alone = _compared(report, model)
        for title, other in (("against_plain", plain), ("against_alone", alone)):
            against = f"{report}/{other}/{protocol}"
            if other != model and against in runs[0]["results"]:
                entry[title] = interval([each["results"][name] - each["results"][against] for each in runs])
    return found


def _compared(report: str, model: str) -> tuple[str, str]:
    if report in VIT and model.partition(".")[0] in ("prototypes", "recipe", "patches", "vit_alone"):
        return VIT[report]
    return PLAIN.get(report, ""), ALONE.get(report, "")


def tables(result: dict[str, Any]) -> list[str]:
    """One table for each report."""
    lines = []
    for report, models in result["table"].items():
        protocols = [p for p in ("knn", "linear", "accuracy") if any(p in entry for entry in models.values())]
        head = [cell for p in protocols for cell in (p, "against plain", "against alone")]
        lines += [f"### {report}\n", f"| model | {' | '.join(head)} |", f"|---{'|---' * len(head)}|"]
        for model, entry in models.items():
            cells = [told(entry.get(p, {}) if not key else entry.get(p, {}).get(key, {})) for p in protocols for key in ("", "against_plain", "against_alone")]
            lines.append(f"| {model} | {' | '.join(cells)} |")
        lines.append("")
    return lines


def main() -> None:
    parser = parser_of(__doc__, "distillation", "params.student_epochs=2")
    parser.add_argument("--pipeline", type=Path, default=PIPELINE)
    options = parser.parse_args()
    if options.page:
        PAGE.write_text(page(INTRODUCTION, "distillation", tables))
        return
    overrides = overrides_of(options, **(PHOTOGRAPHS if options.pipeline == PIPELINE else {}))
    runs: list[dict[str, Any]] = []
    for seed in options.seeds:
        outcome = run(options.pipeline, options.workspace, seed, overrides)
        seconds = {name: stage.get("seconds") for name, stage in outcome["stages"].items()}
        runs.append({"seed": seed, "results": outcome["results"], "seconds": seconds})
        result = {"seeds": options.seeds[: len(runs)], "sets": options.sets, "table": table(runs), "runs": runs, "machine": machine()}
        finish(result, options.out)


if __name__ == "__main__":
    main()

"""What is each curation worth? `workflows/curation_ablation.yaml` run whole with several seeds: accuracies with confidence intervals.

    python benchmarks/curation_ablation.py [--data FOLDER] [--seeds 0 1 2] [--workspace FOLDER] [--out benchmarks/curation_ablation_digits.json]
    python benchmarks/curation_ablation.py --page    # writes docs/curation-ablation.md from the results that are there

Without `--data` the clean images are scikit-learn's digits; with it those of a folder of train/CLASS/* and test/CLASS/*, such as CIFAR-10.
A seed is that of everything random after the pool: calibration, clusters, which images are kept, training. The pool is the same in all.
What was planted is known, so besides accuracies it is counted what of it each arm still trains on.
"""

import json
import statistics
from collections import Counter
from pathlib import Path
from typing import Any

from common import finish, machine
from pipelines import RESULTS, interval, overrides_of, page, parser_of, run, told

from schemas.artifacts import Dataset, read
from ssl_tasks.data import manifest

PIPELINE = RESULTS.parent / "workflows" / "curation_ablation.yaml"
PAGE = RESULTS.parent / "docs" / "curation-ablation.md"
INTRODUCTION = """# What curation is worth

Written by `python benchmarks/curation_ablation.py --page` from its results; the pipeline is `workflows/curation_ablation.yaml`.

A pool is made from clean images: a long tail of classes of 1:50, of its train images 60 % near copies of others, 10 % junk (noise, blank,
text) and 5 % near copies of test images. Four encoders are trained without labels, on equally many images of it, for equally many steps.
They are judged on clean test images, with the clean train images as labelled neighbours: k-NN and linear accuracy, mean over seeds and
its 95 % confidence interval (Student's t), last epoch. "Distinct" counts clean images of which an original or a copy is trained on.
"""
LEAKS = """
The same encoders, judged with the pool's own images as labelled neighbours, before and after `leakage` took those out that are near to
test images. Those are more than were planted: with them go images that are so like a test image that they pass for its copy.
"""
ARMS = {"random": "random_images", "deduplicated": "unique_images", "balanced": "balanced_images", "retrieved": "retrieved_images"}
CIFAR = {
    "originals": 3000,
    "keep": 2000,
    "epochs": 20,
    "encoder": {"name": "resnetv2_18", "image_size": 32, "stem": "half", "options": {"layers": [1, 1, 1], "channels": [32, 64, 128], "stem_chs": 32}},
    "method": {"kind": "simclr", "hidden": 512, "output": 128, "temperature": 0.2, "views": {"preset": "simclr_cifar"}},
}
"""Parameters for 32 px photographs: those of the other benchmarks' SimCLR."""


def curated(workspace: Path, seed: int, overrides: list[str]) -> dict[str, Any]:
    """Run the pipeline; every report's figures, and what each arm trained on."""
    outcome = run(PIPELINE, workspace, seed, overrides)
    kept = {arm: composition(workspace, outcome["stages"][stage]["outputs"][""]) for arm, stage in ARMS.items()}
    return {"seed": seed, "results": outcome["results"], "trained_on": kept}


def composition(workspace: Path, key: str) -> dict[str, int]:
    """How many kept train images are originals, copies of one that is kept too, copies whose original is not, leaks and junk."""
    dataset = read(workspace / ".sslflow/artifacts" / key)
    assert isinstance(dataset, Dataset)
    uris = manifest.kept(manifest.read(dataset))["uri"].to_pylist()
    truth = json.loads((workspace / uris[0].split("/pool/")[0] / "truth.json").read_text())
    entries = [truth[uri.split("/pool/")[1]] for uri in uris]
    counts = Counter(entry["what"] for entry in entries)
    images = [(entry["of"], "train") for entry in entries if entry["what"] in ("original", "copy")]
    labels = Counter(uri.split("/")[-2] for uri, entry in zip(uris, entries, strict=True) if entry["what"] in ("original", "copy"))
    return {
        "images": len(uris),
        "distinct": len(set(images)),
        "copies_of_kept": len(images) - len(set(images)),
        "leaks": counts["leak"],
        "junk": counts["junk"],
        "classes": len(labels),
        "largest_class": max(labels.values(), default=0),
        "smallest_class": min(labels.values(), default=0),
    }


def tables(result: dict[str, Any]) -> list[str]:
    """What each arm trained on and how well it does; and with and without leaks."""
    accuracy, runs = result["accuracy"], result["runs"]
    lines = ["| trained on | images | distinct | copies | leaks | junk | largest : smallest class | k-NN | linear |\n|---|---|---|---|---|---|---|---|---|"]
    for arm in ARMS:
        mean = {key: statistics.mean(each["trained_on"][arm][key] for each in runs) for key in runs[0]["trained_on"][arm]}
        cells = [f"{mean[key]:,.0f}" for key in ("images", "distinct", "copies_of_kept", "leaks", "junk")]
        cells += [
            f"{mean['largest_class']:.0f} : {mean['smallest_class']:.0f}",
            *(told(accuracy[f"report/{arm}/{protocol}"]) for protocol in ("knn", "linear")),
        ]
        lines.append(f"| {arm} | {' | '.join(cells)} |")
    for row in ("pixels", "random init (random)"):
        if f"report/{row}/knn" in accuracy:
            cells = [told(accuracy[f"report/{row}/{protocol}"]) for protocol in ("knn", "linear")]
            lines.append(f"| nothing: {row} | | | | | | | {' | '.join(cells)} |")
    lines.append(LEAKS)
    lines += ["| encoder | k-NN with leaks | without | linear with leaks | without |\n|---|---|---|---|---|"]
    for arm in ("random", "deduplicated"):
        cells = [told(accuracy[f"{stage}/{arm}/{protocol}"]) for protocol in ("knn", "linear") for stage in ("with_leaks", "without_leaks")]
        lines.append(f"| {arm} | {' | '.join(cells)} |")
    return [*lines, ""]


def main() -> None:
    options = parser_of(__doc__, "ablation", "params.epochs=2").parse_args()
    if options.page:
        PAGE.write_text(page(INTRODUCTION, "curation_ablation", tables))
        return
    overrides = overrides_of(options, **CIFAR)
    runs = [curated(options.workspace, seed, overrides) for seed in options.seeds]
    named = {name for each in runs for name in each["results"] if name.endswith(("/knn", "/linear"))}
    summary = {name: interval([each["results"][name] for each in runs]) for name in sorted(named)}
    finish({"images": "folder" if options.data else "digits", "seeds": options.seeds, "accuracy": summary, "runs": runs, "machine": machine()}, options.out)


if __name__ == "__main__":
    main()

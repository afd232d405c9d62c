"""What a run leaves in Prefect: a page with lineage and results, and a table of its stages. Plain text; imports nothing of Prefect."""

from collections.abc import Iterator, Mapping
from typing import Any

from workflows.engine.reuse import Plan


def page(plan: Plan, status: Mapping[str, str], mlflow: str) -> str:
    """Markdown: what was made from what, the results, and where to see more."""
    lines = [f"# {plan.pipeline.name}", *filter(None, [plan.pipeline.description]), "", "## Lineage", ""]
    for name, state in status.items():
        planned = plan.stages[name]
        sources = f" from {', '.join(f'`{text}` ({key})' for text, key in planned.inputs.items())}" if planned.inputs else ""
        lines.append(f"- **{name}** ({planned.stage.kind}, {state}): {', '.join(f'`{k}`' for k in planned.outputs.values())}{sources}{_data(plan, name)}")
    if results := list(_results(plan, status)):
        lines += ["", "## Results", "", "| stage | number | value |", "|---|---|---:|", *results]
    lines += ["", "## More", "", f"- MLflow: {mlflow}"]
    reports = (a for name in status for a in plan.artifacts(plan.stages[name]).values() if a.type == "Report")
    return "\n".join([*lines, *(f"- Report: `{a.path('report.html')}`" for a in reports)])


def _data(plan: Plan, name: str) -> str:
    """Which images a Dataset holds, and the version of the raw data behind any artifact."""
    facts = [f"manifest sha256 `{a.manifest[:12]}`" for a in plan.artifacts(plan.stages[name]).values() if a.type == "Dataset"]
    facts += [f"data.version `{version}`"] if (version := plan.data_versions.get(name)) else []
    return f"; {', '.join(facts)}" if facts else ""


def _results(plan: Plan, status: Mapping[str, str]) -> Iterator[str]:
    for name in status:
        for output, artifact in plan.artifacts(plan.stages[name]).items():
            for number, value in artifact.metrics.items():
                yield f"| {name}{'.' + output if output else ''} | {number} | {value:.4g} |"


def rows(plan: Plan, status: Mapping[str, str], record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row a stage: how it ended, why it ran, how long it took, which artifacts are its."""
    return [
        {
            "stage": name,
            "kind": plan.stages[name].stage.kind,
            "status": state,
            "reason": record["stages"].get(name, {}).get("error") or plan.stages[name].reason,
            "seconds": record["stages"].get(name, {}).get("seconds", ""),
            "artifacts": " ".join(plan.stages[name].outputs.values()),
        }
        for name, state in status.items()
    ]

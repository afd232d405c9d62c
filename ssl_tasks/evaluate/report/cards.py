"""A card a distilled student: its size, and where it stands between the same network alone and its teacher."""

import math
from typing import Any

from ssl_tasks.evaluate.report import words
from ssl_tasks.evaluate.report.story import Story


def cards(story: Story) -> list[dict[str, Any]]:
    """A card a distilled student: its size, and where it stands between the same network alone and its teacher."""
    found = {(row.model, row.measure): row for row in story.rows}
    found_cards = []
    for entry in story.students:
        scored = [m for m in entry["measures"] if m in story.titles and story.metrics[m] == "accuracy"]
        if not scored:
            continue
        parts = [part for part in ("student_alone", "teacher", "distilled") if part in entry["measures"][scored[0]]]
        means = {(m, part): entry["measures"][m][part]["mean"] for m in scored for part in parts if part in entry["measures"][m]}
        low, high = max(0, math.floor(100 * min(means.values()) - 1)), 100
        first = {part: entry["models"][part][0] for part in parts}
        lines = []
        for measure in scored:
            marks = [
                {
                    "name": first[part], "value": words.number(means[measure, part], "accuracy"), "style": story.styles[first[part]],
                    "at": f"{(means[measure, part] * 100 - low) / (high - low) * 100:.1f}",
                }
                for part in parts if (measure, part) in means
            ]  # fmt: skip
            lines.append({"title": story.titles[measure], "marks": marks, "value": marks[-1]["value"]})
        own, teacher = (found[first[part], scored[0]].parameters if part in first else 0 for part in ("distilled", "teacher"))
        legend = [*(["empty: alone"] if "student_alone" in first else []), *([f"blue: {first['teacher']}"] if teacher else [])]
        of_teacher = f", {own / teacher:.{int(own < teacher / 100)}%} of {first['teacher']}" if teacher else ""
        found_cards.append(
            {
                "name": entry["name"], "style": story.styles[first["distilled"]], "lines": lines, "low": low, "high": high,
                "share": f"{min(own / teacher, 1) * 100:.1f}" if teacher else "100", "legend": "; ".join(legend),
                "size": f"{words.big(own)} parameters{of_teacher}" + (f", {entry['seeds']} seeds" if entry["seeds"] > 1 else ""),
            }
        )  # fmt: skip
    return found_cards

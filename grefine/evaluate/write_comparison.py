"""What a comparison leaves on disk: tables, summary, a page per method, and the page of all."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from grefine.evaluate.report import TONES, VERDICT_WORDS, write_joint_page, write_method_page
from grefine.evaluate.results import ORIGINAL, Comparison, Verdict, headline, sentences, verdict_of
from grefine.evaluate.scoring import change_means
from grefine.evaluate.tables import number, write_table
from grefine.io.atomic import write_text
from grefine.report.entry import ReportText


def write_comparison(result: Comparison, out: Path, *, report: bool = True) -> None:
    """Write table.md, .tex and .csv, comparison.json, report.html and reports/METHOD/report.html."""
    write_table(result.table, out, count_lines(result))
    write_text(out / "comparison.json", json.dumps(as_data(result), indent=1, allow_nan=False) + "\n")
    if not report:
        return
    for method, analysis in result.analyses.items():
        text = ReportText(
            title=f"{ORIGINAL} and {method}",
            subtitle=headline(analysis),
            headline=method,
            tone=TONES[verdict_of(analysis)],
            facts=(("method", method), ("compared methods", ", ".join(result.analyses))),
            missing=(*result.unavailable.items(), *((k, v) for k, v in result.failed.items() if k.startswith(method))),
            notes=result.notes,
            forced=result.forced,
        )
        change = {"all inputs": change_means(result.values, result.files[ORIGINAL], method)}
        write_method_page(result, method, out / "reports" / method, text, change)
    write_joint_page(result, out, _joint_text(result))


def count_lines(result: Comparison) -> list[str]:
    """Return one Markdown line per method: its verdict and its negative optimisations."""
    counts = result.negative_optimisations
    total = len(result.evidence)
    return [
        f"- {method}: {verdict}; worse than the original on {counts.get(method, 0)} of {total} metric means"
        for method, verdict in result.verdicts.items()
    ]


def as_data(result: Comparison) -> dict[str, Any]:
    """Return the comparison as plain data for JSON."""
    counts = result.negative_optimisations
    values = {
        method: {
            m: (c.value if math.isfinite(c.value) else None) for m, c in zip(result.table.metrics, cells, strict=True)
        }
        for method, cells in result.table.rows
    }
    return {
        "images": result.table.n,
        "means": values,
        "directions": dict(result.table.directions),
        "used_in_loop": sorted(result.table.in_loop),
        "negative_optimisations": counts,
        "methods": {
            method: {
                "verdict": verdict_of(found),
                "sentences": sentences(found),
                "axes": {
                    axis.axis: {
                        "level": axis.level,
                        "win": axis.gain.win,
                        "tie": axis.gain.tie,
                        "loss": axis.gain.loss,
                        "mean": number(axis.gain.mean),
                    }
                    for axis in found.axes
                },
            }
            for method, found in result.analyses.items()
        },
        "unavailable": dict(result.unavailable),
        "failed": dict(result.failed),
        "notes": list(result.notes),
        "forced": result.forced,
    }


def _joint_text(result: Comparison) -> ReportText:
    """Return what the page of all methods says in words."""
    verdicts = result.verdicts
    helped = "better" in verdicts.values()
    methods = f"{len(verdicts)} method{'s' if len(verdicts) != 1 else ''}"
    return ReportText(
        title="Comparison",
        headline=headline_of(verdicts),
        subtitle=f"{methods} on the same {len(result.files[ORIGINAL])} images, each against the {ORIGINAL}",
        tone="gain" if helped else "loss" if "worse" in verdicts.values() else "even",
        sentences=tuple(_verdict_sentences(result)),
        forced=result.forced,
        facts=(("methods", ", ".join(result.analyses)), ("metrics", ", ".join(result.table.metrics) or "none")),
        missing=(*result.unavailable.items(), *result.failed.items()),
        notes=(*result.notes, *dict.fromkeys(note for found in result.analyses.values() for note in found.notes)),
    )


def headline_of(verdicts: Mapping[str, Verdict]) -> str:
    """Return which methods helped, in a few words."""
    helped = [method for method, verdict in verdicts.items() if verdict == "better"]
    if not set(verdicts.values()) - {"no evidence"}:
        return "Nothing here may judge"
    if not helped:
        return "No method clearly helped" if len(verdicts) > 1 else f"{next(iter(verdicts))} did not clearly help"
    if len(helped) == 1:
        return f"Only {helped[0]} clearly helped" if len(verdicts) > 1 else f"{helped[0]} clearly helped"
    return f"{', '.join(helped[:-1])} and {helped[-1]} clearly helped"


def _verdict_sentences(result: Comparison) -> list[str]:
    """Return the methods by verdict, and what must not be taken for evidence."""
    said = []
    for verdict, word in VERDICT_WORDS.items():
        named = [method for method, found in result.verdicts.items() if found == verdict]
        if named:
            said.append(f"{word[0].upper()}{word[1:]}: {', '.join(named)}.")
    if result.evidence:
        said.append(f"Judged by {', '.join(result.evidence)}.")
    if result.table.in_loop:
        loop = ", ".join(sorted(result.table.in_loop))
        said.append(f"Not counted for any method, because they steered one of them: {loop}.")
    return said

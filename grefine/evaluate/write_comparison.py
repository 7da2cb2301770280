"""What a comparison leaves on disk: long table, wide tables, summary, a report per method."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from grefine.evaluate.compare_page import joint_context, joint_text
from grefine.evaluate.evaluation import ORIGINAL, Comparison
from grefine.evaluate.long_table import values_of, write_rows
from grefine.evaluate.report import gallery_images, write_joint_report, write_report
from grefine.evaluate.report_view import TONES
from grefine.evaluate.scoring import change_means
from grefine.evaluate.table_text import number, write_table
from grefine.evaluate.verdict import headline, sentences, verdict_of
from grefine.io.atomic import write_text
from grefine.report.entry import ReportImage, ReportText
from grefine.report.records import RefineRecords


def write_comparison(result: Comparison, out: Path, *, report: bool = True) -> None:
    """Write scores.csv, table.md, .tex and .csv, comparison.json, report.html and reports/METHOD/report.html."""
    write_rows(out / "scores.csv", result.rows)
    write_table(result.table, out, count_lines(result))
    write_text(out / "comparison.json", json.dumps(as_data(result), indent=1, allow_nan=False) + "\n")
    for method in result.analyses if report else ():
        _write_report(result, method, out / "reports" / method)
    if report:
        _write_joint(result, out)


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


def _write_report(result: Comparison, method: str, folder: Path) -> None:
    analysis = result.analyses[method]
    text = ReportText(
        title=f"{ORIGINAL} and {method}",
        subtitle=headline(analysis),
        headline=method,
        tone=TONES.get(verdict_of(analysis), "even"),
        facts=(("method", method), ("compared methods", ", ".join(result.analyses))),
        missing=(*result.unavailable.items(), *((k, v) for k, v in result.failed.items() if k.startswith(method))),
        notes=result.notes,
        forced=result.forced,
    )
    change = {"all inputs": change_means(result.rows, result.files[ORIGINAL], method)}
    images = _images(result, method)
    write_report(folder, images, text, analysis=analysis, specs=result.specs, change=change)


def _write_joint(result: Comparison, out: Path) -> None:
    facts = (("methods", ", ".join(result.analyses)), ("metrics", ", ".join(result.table.metrics) or "none"))
    text, context = joint_text(result, ORIGINAL, facts), joint_context(result, ORIGINAL)
    images = zip(*(_images(result, method) for method in result.analyses), strict=True)
    write_joint_report(out, images, text, context, analyses=result.analyses, specs=result.specs, baseline=ORIGINAL)


def _images(result: Comparison, method: str) -> Iterator[ReportImage]:
    files = {name: (path, result.files[method][name]) for name, path in result.files[ORIGINAL].items()}
    found = result.analyses[method]
    return gallery_images(files, values_of(result.rows), found, RefineRecords(), result.prompts, result.groups)

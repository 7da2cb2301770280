"""What a comparison leaves on disk: tables, summary, a report per method, and the joint page of all."""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from grefine.evaluate import plots
from grefine.evaluate.report import (
    TONES,
    axis_cells,
    axis_line,
    draw_radars,
    gallery_images,
    metric_line,
    radar_metrics,
    write_joint_report,
    write_report,
)
from grefine.evaluate.results import (
    AXIS_NAMES,
    CELL_WORDS,
    ORIGINAL,
    Analysis,
    AxisResult,
    Comparison,
    Verdict,
    headline,
    sentences,
    verdict_of,
)
from grefine.evaluate.scoring import change_means
from grefine.evaluate.tables import number, values_of, write_rows, write_table
from grefine.io.atomic import write_text
from grefine.report.entry import ReportImage, ReportText
from grefine.report.records import RefineRecords
from grefine.types import AXES


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


VERDICT_WORDS: dict[Verdict, str] = {
    "better": "better",
    "worse": "worse",
    "mixed": "better and worse",
    "no change": "no change",
    "unclear": "unclear",
    "no evidence": "no evidence",
}


def joint_text(result: Comparison, baseline: str, facts: tuple[tuple[str, str], ...]) -> ReportText:
    """Return what the joint page says in words."""
    verdicts = result.verdicts
    helped = "better" in verdicts.values()
    count = len(result.files[baseline])
    return ReportText(
        title="Comparison",
        headline=headline_of(verdicts),
        subtitle=f"{len(verdicts)} method{'s' if len(verdicts) != 1 else ''} on the same {count} images, "
        f"each against the {baseline}",
        tone="gain" if helped else "loss" if "worse" in verdicts.values() else "even",
        sentences=tuple(verdict_sentences(verdicts, result)),
        forced=result.forced,
        facts=facts,
        missing=(*result.unavailable.items(), *result.failed.items()),
        notes=(*result.notes, *dict.fromkeys(note for found in result.analyses.values() for note in found.notes)),
    )


def joint_context(result: Comparison, baseline: str) -> dict[str, Any]:
    """Return what the joint page's template prints above the gallery."""
    return {
        "baseline": baseline,
        "methods": [_method_row(result, method, baseline) for method in result.analyses],
        "axis_names": [AXIS_NAMES[axis] for axis in AXES],
        "table": _table(result),
        "forests": _axis_forests(result.analyses),
        "metric_forests": _metric_forests(result.analyses),
        "radars": _radars(result, baseline),
    }


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


def verdict_sentences(verdicts: Mapping[str, Verdict], result: Comparison) -> list[str]:
    """Return the methods by verdict, and what must not be taken for evidence."""
    said = []
    for verdict, word in VERDICT_WORDS.items():
        named = [method for method, found in verdicts.items() if found == verdict]
        if named:
            said.append(f"{word[0].upper()}{word[1:]}: {', '.join(named)}.")
    if result.evidence:
        said.append(f"Judged by {', '.join(result.evidence)}.")
    if result.table.in_loop:
        loop = ", ".join(sorted(result.table.in_loop))
        said.append(f"Not counted for any method, because they steered one of them: {loop}.")
    return said


def _method_row(result: Comparison, method: str, baseline: str) -> dict[str, Any]:
    found = result.analyses[method]
    verdict = verdict_of(found)
    worse, counted = result.negative_optimisations.get(method, 0), sum(m.evidence for m in found.metrics)
    change = change_means(result.rows, result.files[baseline], method)
    return {
        "name": method,
        "link": f"reports/{quote(method)}/report.html",
        "word": VERDICT_WORDS[verdict],
        "tone": TONES.get(verdict, "unclear" if verdict == "unclear" else "even"),
        "axes": [_axis_cell(axis) for axis in found.axes],
        "worse": f"{worse} of {counted}",
        "any_worse": worse > 0,
        "psnr": _psnr(change),
        "untouched": f"{100 * change['untouched']:.0f} %" if change else "–",
    }


def _axis_cell(axis: AxisResult) -> dict[str, Any]:
    if not axis.gain.n:
        return {"n": 0, "word": CELL_WORDS[axis.level], "tone": "none"}
    return axis_cells(axis)


def _psnr(change: Mapping[str, float]) -> str:
    if not change:
        return "–"
    return "identical" if math.isnan(change["psnr"]) else f"{change['psnr']:.1f} dB"


def _table(result: Comparison) -> dict[str, Any]:
    table = result.table
    heads = [
        {
            "name": metric,
            "arrow": "↓" if table.directions.get(metric) == "lower" else "↑",
            "better": "lower is better" if table.directions.get(metric) == "lower" else "higher is better",
            "loop": metric in table.in_loop,
            "description": result.specs[metric].description if metric in result.specs else "",
        }
        for metric in table.metrics
    ]
    rows = [
        {
            "name": method,
            "original": method == table.baseline,
            "cells": [
                {"text": number(c.value), "best": c.best, "second": c.second, "worse": c.worse, "loop": h["loop"]}
                for c, h in zip(cells, heads, strict=True)
            ],
        }
        for method, cells in table.rows
    ]
    return {"heads": heads, "rows": rows}


def _axis_forests(analyses: Mapping[str, Analysis]) -> list[dict[str, str]]:
    """Return one plot per axis with a line per method: the pooled gain of all judges that count."""
    drawn = []
    for place, axis in enumerate(AXES):
        gains = {method: found.axes[place].gain for method, found in analyses.items()}
        rows = [axis_line(method, gain) for method, gain in gains.items() if gain.n]
        if rows:
            title = f"{AXIS_NAMES[axis]}: mean gain of every method with its 95 % interval"
            svg = plots.forest_svg(rows, title=title, unit="gain in SD of the input's scores")
            drawn.append({"name": AXIS_NAMES[axis], "svg": svg})
    return drawn


def _metric_forests(analyses: Mapping[str, Analysis]) -> list[dict[str, str]]:
    lines: dict[str, list[plots.ForestRow]] = {m.metric: [] for found in analyses.values() for m in found.metrics}
    for method, found in analyses.items():
        for result in found.metrics:
            if result.gain.n:
                lines[result.metric].append(metric_line(method, result))
    drawn = []
    for metric, rows in lines.items():
        if rows:
            loop = " (used in the loop)" if rows[0].kind == "loop" else ""
            svg = plots.forest_svg(rows, title=f"{metric}: mean gain of every method", unit="gain in SD")
            drawn.append({"name": metric + loop, "svg": svg})
    return drawn


def _radars(result: Comparison, baseline: str) -> list[dict[str, Any]]:
    """Return one radar per group, or one of all images, with a polygon per method and the original's."""
    first = next(iter(result.analyses.values()), None)
    if first is None:
        return []
    metrics = radar_metrics(first)
    panels = {
        group: _group_polygons(result.analyses, metrics, baseline, group)
        for group in (first.group_means if len(first.group_means) > 1 else ())
    } or {"all images": _table_polygons(result, metrics)}
    return draw_radars(panels, metrics, result.specs, {})


def _table_polygons(result: Comparison, metrics: list[str]) -> dict[str, dict[str, float]]:
    columns = {metric: place for place, metric in enumerate(result.table.metrics)}
    return {
        method: {m: cells[columns[m]].value for m in metrics if m in columns} for method, cells in result.table.rows
    }


def _group_polygons(
    analyses: Mapping[str, Analysis], metrics: list[str], baseline: str, group: str
) -> dict[str, dict[str, float]]:
    polygons: dict[str, dict[str, float]] = {baseline: {}}
    for method, found in analyses.items():
        means = {m: pair for m, pair in found.group_means.get(group, {}).items() if m in metrics}
        polygons[baseline] |= {m: pair[0] for m, pair in means.items()}
        polygons[method] = {m: pair[1] for m, pair in means.items()}
    return polygons

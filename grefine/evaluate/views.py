"""What an evaluation and a comparison leave on disk beside the long table: tables, summaries and pages."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from grefine.evaluate.pairs import some_names
from grefine.evaluate.report import VERDICT_WORDS, write_joint_page, write_method_page
from grefine.evaluate.results import ORIGINAL, TONES, Comparison, Evaluation, Verdict, headline, sentences
from grefine.evaluate.scoring import change_means
from grefine.evaluate.tables import AFTER, BEFORE, write_csv, write_table
from grefine.io.atomic import write_text
from grefine.io.picture import printable
from grefine.report.entry import ReportText
from grefine.types import AXES


def write_evaluation(result: Evaluation, out: Path, *, report: bool = True) -> None:
    """Write table.md, table.tex, table.csv, images.csv, summary.json and report.html into `out`."""
    write_table(result.table, out)
    values, stages, moved = result.values, (BEFORE, AFTER), ("psnr", "ssim", "changed")
    metrics = [m.metric for m in result.analysis.metrics]
    header = ["image", "group", "worse_on", *(f"gain_{axis}" for axis in AXES)]
    header += [*(f"{metric}_{stage}" for metric in metrics for stage in stages), *moved]
    rows: list[list[object]] = []
    for name in result.files[BEFORE]:
        lost = sum(m.evidence and m.gains.get(name, 0.0) < -m.gain.band for m in result.analysis.metrics)
        row: list[object] = [name, result.prompting.groups.get(name, ""), lost]
        row += [axis.per_image.get(name, "") for axis in result.analysis.axes]
        row += [values[metric].get(stage, {}).get(name, "") for metric in metrics for stage in stages]
        row += [values.get(measure, {}).get(AFTER, {}).get(name, "") for measure in moved]
        rows.append(row)
    write_csv(out / "images.csv", header, rows)
    write_text(out / "summary.json", json.dumps(summary(result), indent=1, allow_nan=False) + "\n")
    if not report:
        return
    settings = result.settings
    facts = {**settings, "scores computed now / known before": f"{result.computed} / {result.reused}"}
    text = ReportText(
        title="Before and after",
        subtitle=f"{printable(settings['before'])} → {printable(settings['after'])}",
        facts=tuple((what, printable(value)) for what, value in facts.items()),
        missing=(
            *result.unavailable.items(),
            *((printable(name), reason) for name, reason in result.failed.items()),
            *(
                (f"{len(names)} files", f"only in the folder {side}: {some_names(names)}; summary.json names them all")
                for side, names in ((BEFORE, result.pairing.only_before), (AFTER, result.pairing.only_after))
                if names
            ),
        ),
        forced=result.forced,
        notes=result.notes,
    )
    write_method_page(result, AFTER, out, text, change_rows(result))


def summary(result: Evaluation) -> dict[str, Any]:
    """Return the findings as plain data for JSON; NaN and infinities become null."""
    worse, counted = result.analysis.negative_optimisations
    return _plain(
        {
            "verdict": result.verdict,
            "sentences": result.sentences,
            "images": len(result.files[BEFORE]),
            "negative_optimisations": {"worse": worse, "metrics": counted},
            "metrics": {
                m.metric: {
                    "before": m.before,
                    "after": m.after,
                    "direction": m.spec.direction,
                    "used_in_loop": m.spec.used_in_loop,
                    "evidence": m.evidence,
                    "gain": asdict(m.gain),
                    "p_holm": m.p_holm,
                    "note": m.note,
                }
                for m in result.analysis.metrics
            },
            "axes": {a.axis: {"level": a.level, "judges": a.metrics, "gain": asdict(a.gain)}
                     for a in result.analysis.axes},
            "strata": [{"axis": s.axis, "inputs": s.stratum, "sorted_by": s.stratified_by, "level": s.level,
                        "gain": asdict(s.gain)} for s in result.analysis.strata],
            "groups": {g: {a.axis: {"level": a.level, "gain": asdict(a.gain)} for a in found}
                       for g, found in result.analysis.groups.items()},
            "change": change_rows(result),
            "unavailable": dict(result.unavailable),
            "failed": dict(result.failed),
            "only_before": result.pairing.only_before,
            "only_after": result.pairing.only_after,
            "notes": result.notes,
            "forced": result.forced,
            "computed": result.computed,
            "reused": result.reused,
        }
    )  # fmt: skip


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return printable(value) if isinstance(value, str) else value


def change_rows(result: Evaluation) -> dict[str, dict[str, float]]:
    """Return how far all inputs, and the best third by quality, moved from themselves."""
    best = {axis: result.analysis.cell(axis, "high") for axis in AXES}
    groups = {"all inputs": result.files[BEFORE]}
    groups |= {f"best third by {axis} quality": cell.per_image for axis, cell in best.items() if cell.gain.n}
    found = {label: change_means(result.values, images, AFTER) for label, images in groups.items()}
    return {label: means for label, means in found.items() if means}


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
            tone=TONES[result.verdicts[method]],
            facts=(("method", method), ("compared methods", ", ".join(result.analyses))),
            missing=(*result.unavailable.items(), *((k, v) for k, v in result.failed.items() if k.startswith(method))),
            notes=result.notes,
            forced=result.forced,
        )
        change = {"all inputs": change_means(result.values, result.files[ORIGINAL], method)}
        write_method_page(result, method, out / "reports" / method, text, change)
    verdicts = result.verdicts
    named = {word: [m for m, found in verdicts.items() if found == verdict] for verdict, word in VERDICT_WORDS.items()}
    said = [f"{word[0].upper()}{word[1:]}: {', '.join(methods)}." for word, methods in named.items() if methods]
    if result.evidence:
        said.append(f"Judged by {', '.join(result.evidence)}.")
    if result.table.in_loop:
        loop = ", ".join(sorted(result.table.in_loop))
        said.append(f"Not counted for any method, because they steered one of them: {loop}.")
    methods = f"{len(verdicts)} method{'s' if len(verdicts) != 1 else ''}"
    tones = [tone for verdict, tone in (("better", "gain"), ("worse", "loss")) if verdict in verdicts.values()]
    text = ReportText(
        title="Comparison",
        headline=headline_of(verdicts),
        subtitle=f"{methods} on the same {len(result.files[ORIGINAL])} images, each against the {ORIGINAL}",
        tone=tones[0] if tones else "even",
        sentences=tuple(said),
        forced=result.forced,
        facts=(("methods", ", ".join(result.analyses)), ("metrics", ", ".join(result.table.metrics) or "none")),
        missing=(*result.unavailable.items(), *result.failed.items()),
        notes=(*result.notes, *dict.fromkeys(note for found in result.analyses.values() for note in found.notes)),
    )
    write_joint_page(result, out, text)


def count_lines(result: Comparison) -> list[str]:
    """Return one Markdown line per method: its verdict and its negative optimisations."""
    counts, total = result.negative_optimisations, len(result.evidence)
    return [
        f"- {method}: {verdict}; worse than the original on {counts.get(method, 0)} of {total} metric means"
        for method, verdict in result.verdicts.items()
    ]


def as_data(result: Comparison) -> dict[str, Any]:
    """Return the comparison as plain data for JSON; NaN and infinities become null."""
    table = result.table
    return _plain(
        {
            "images": table.n,
            "means": {
                method: {metric: cell.value for metric, cell in zip(table.metrics, cells, strict=True)}
                for method, cells in table.rows
            },
            "used_in_loop": sorted(table.in_loop),
            "negative_optimisations": result.negative_optimisations,
            "methods": {
                method: {
                    "verdict": result.verdicts[method],
                    "sentences": sentences(found),
                    "axes": {a.axis: {"level": a.level, "gain": asdict(a.gain)} for a in found.axes},
                }
                for method, found in result.analyses.items()
            },
            "unavailable": dict(result.unavailable),
            "failed": dict(result.failed),
            "notes": result.notes,
            "forced": result.forced,
        }
    )


def headline_of(verdicts: Mapping[str, Verdict]) -> str:
    """Return which methods helped, in a few words."""
    helped = [method for method, verdict in verdicts.items() if verdict == "better"]
    if not set(verdicts.values()) - {"no evidence"}:
        return "Nothing here may judge"
    return f"{', '.join(helped) or 'No method'} clearly helped"

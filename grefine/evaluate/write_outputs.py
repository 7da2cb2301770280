"""Everything that is written beside the long table: wide tables, per-image table, summary, report."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from grefine.evaluate.report import write_method_page
from grefine.evaluate.results import Evaluation
from grefine.evaluate.scoring import change_means
from grefine.evaluate.tables import AFTER, BEFORE, write_csv, write_table
from grefine.io.atomic import write_text
from grefine.io.picture import printable
from grefine.report.entry import ReportText
from grefine.types import AXES

_SHOWN = 20


def write_views(result: Evaluation, out: Path, *, report: bool = True) -> None:
    """Write table.md, table.tex, table.csv, images.csv, summary.json and report.html into `out`."""
    write_table(result.table, out)
    write_csv(out / "images.csv", *image_table(result))
    write_text(out / "summary.json", json.dumps(summary(result), indent=1, allow_nan=False) + "\n")
    if report:
        write_page(result, out)


def image_table(result: Evaluation) -> tuple[list[str], list[list[object]]]:
    """Return one row per image: both stages of every metric, the gain per axis, and on how many metrics it lost."""
    values = result.values
    metrics = [m.metric for m in result.analysis.metrics]
    worse = worse_on(result)
    header = ["image", "group", "worse_on"]
    header += [f"gain_{axis}" for axis in AXES]
    header += [f"{metric}_{stage}" for metric in metrics for stage in (BEFORE, AFTER)]
    header += ["psnr", "ssim", "changed"]
    rows: list[list[object]] = []
    for pair in result.pairing.pairs:
        row: list[object] = [pair.name, result.prompting.groups.get(pair.name, ""), worse.get(pair.name, 0)]
        row += [axis.per_image.get(pair.name, "") for axis in result.analysis.axes]
        row += [values[m].get(stage, {}).get(pair.name, "") for m in metrics for stage in (BEFORE, AFTER)]
        row += [values.get(name, {}).get(AFTER, {}).get(pair.name, "") for name in ("psnr", "ssim", "changed")]
        rows.append(row)
    return header, rows


def worse_on(result: Evaluation) -> dict[str, int]:
    """Return image → the number of metrics of evidence on which it lost more than their noise."""
    counts: dict[str, int] = {}
    for metric in result.analysis.metrics:
        for image, gain in metric.gains.items():
            counts[image] = counts.get(image, 0) + (metric.evidence and gain < -metric.gain.band)
    return counts


def summary(result: Evaluation) -> dict[str, Any]:
    """Return the findings as plain data for JSON; NaN and infinities become null."""
    worse, counted = result.analysis.negative_optimisations
    return _plain(
        {
            "verdict": result.verdict,
            "sentences": result.sentences,
            "images": len(result.pairing.pairs),
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
    best = {
        f"best third by {axis} quality": result.analysis.cell(axis, "high").per_image
        for axis in AXES
        if result.analysis.cell(axis, "high").gain.n
    }
    everything = {"all inputs": [pair.name for pair in result.pairing.pairs], **best}
    found = {label: change_means(result.values, images, AFTER) for label, images in everything.items()}
    return {label: means for label, means in found.items() if means}


def write_page(result: Evaluation, out: Path) -> Path:
    """Write the report of an evaluation."""
    facts = [
        ("before", str(result.settings["before"])),
        ("after", str(result.settings["after"])),
        ("metrics", ", ".join(result.settings["metrics"]) or "none"),
        ("pipeline", str(result.settings["pipeline"] or "none")),
        ("device", str(result.settings["device"])),
        ("scores computed now / known before", f"{result.computed} / {result.reused}"),
    ]
    text = ReportText(
        title="Before and after",
        subtitle=f"{printable(result.settings['before'])} → {printable(result.settings['after'])}",
        facts=tuple((what, printable(value)) for what, value in facts),
        missing=(
            *result.unavailable.items(),
            *((printable(name), reason) for name, reason in result.failed.items()),
            *_unpaired(result.pairing.only_before, "only in the folder before"),
            *_unpaired(result.pairing.only_after, "only in the folder after"),
        ),
        forced=result.forced,
        notes=result.notes,
    )
    return write_method_page(result, AFTER, out, text, change_rows(result))


def _unpaired(names: Sequence[str], where: str) -> list[tuple[str, str]]:
    """Name the first files; summary.json has them all."""
    shown = [(printable(name), where) for name in names[:_SHOWN]]
    more = len(names) - _SHOWN
    return [*shown, (f"{more} more files", where)] if more > 0 else shown

"""From the long table to what was found: gains per metric and axis, thirds by input quality, groups."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from grefine.evaluate.results import Analysis, AxisResult, MetricResult, level_of
from grefine.evaluate.statistics import holm, noise_band, summarise, terciles
from grefine.evaluate.tables import AFTER, BEFORE, NOISE, ScoreRow, Values, finite_pairs, values_of
from grefine.scorers.noise import CEILING, metric_width
from grefine.types import AXES, Axis, MetricSpec


def analyse(
    rows: Iterable[ScoreRow] | Values,
    specs: Mapping[str, MetricSpec],
    *,
    method: str = AFTER,
    baseline: str = BEFORE,
    groups: Mapping[str, str] | None = None,
) -> Analysis:
    """Analyse one method against the baseline; columns without a spec are left out."""
    values = rows if isinstance(rows, Mapping) else values_of(rows)
    groups = groups or {}
    shown = [m for m in values if m in specs and not specs[m].needs_reference and method in values[m]]
    bands = {m: noise_band(_noise(values[m], specs[m], baseline)) for m in shown}
    inputs = {m: _finite(values[m].get(baseline, {})) for m in shown}
    unfit = {m for m in shown if _unfit(bands[m], specs[m], inputs[m])}
    gains = {m: gains_of(values[m], specs[m], baseline, method) for m in shown}
    evidence = [m for m in shown if m not in unfit and gains[m] and is_evidence(m, specs[m], shown)]
    summaries = {m: summarise(list(gains[m].values()), bands[m]) for m in shown}
    adjusted = holm({m: summaries[m].p for m in evidence})
    scale = {m: _scale(inputs[m], bands[m]) for m in shown}
    results = tuple(
        MetricResult(
            m,
            specs[m],
            *_means(finite_pairs(values[m].get(baseline, {}), values[m][method])),
            gain=summaries[m],
            p_holm=adjusted.get(m, math.nan),
            evidence=m in evidence,
            unfit=m in unfit and is_evidence(m, specs[m], shown),
            note=_note(m, specs[m], (m in evidence, m in unfit), values[m], gains[m], (baseline, method)),
            spread=scale[m],
            input_range=_input_range(inputs[m]),
        )
        for m in shown
    )
    members = {axis: [m for m in evidence if axis in axes_of(m, specs[m], shown)] for axis in AXES}
    axes, thirds, notes = [], [], []
    by_group: dict[str, tuple[AxisResult, ...]] = {}
    for axis in AXES:
        noise = _composite_noise(members[axis], values, specs, scale, baseline)
        parts = {m: {i: g / scale[m] for i, g in gains[m].items()} for m in members[axis]}
        axes.append(_axis_result(axis, parts, noise))
        strata = strata_of(axis, values, specs, members[axis], baseline)
        notes += [strata.note] * bool(strata.note)
        thirds += [_stratum_result(axis, parts, noise, strata, third) for third in ("low", "mid", "high")]
        for group in sorted(set(groups.values())):
            inside = {m: {i: g for i, g in part.items() if groups.get(i) == group} for m, part in parts.items()}
            by_group[group] = (*by_group.get(group, ()), _axis_result(axis, inside, noise))
    adjusted_axes = holm({axis.axis: axis.gain.p_visible for axis in axes})
    axes = [replace(axis, level=level_of(axis.gain, adjusted_axes[axis.axis])) for axis in axes]
    images = {image for m in shown for image in gains[m]}
    return Analysis(
        method=method,
        baseline=baseline,
        n=len(images),
        metrics=results,
        axes=tuple(axes),
        strata=tuple(thirds),
        groups=by_group,
        group_means=_group_means(shown, values, groups, baseline, method),
        notes=tuple(notes),
    )


def is_evidence(metric: str, spec: MetricSpec, shown: Sequence[str]) -> bool:
    """Return whether a column may speak in a verdict.

    What steered the refinement may not, measures of change or of a mere property may not, and of a metric with several
    values only the main one of each axis does, so that nine dimensions of one network are not nine witnesses.
    """
    judges = not spec.used_in_loop and not spec.needs_reference and spec.axis != "none"
    same = [column for column in shown if spec.axis_of(column) == spec.axis_of(metric)]
    return judges and metric == main_column(metric.split(".")[0], same)


def axes_of(metric: str, spec: MetricSpec, shown: Sequence[str]) -> set[Axis]:
    """Return what a column speaks for: its own axis, or both where a judge of both has no value for the other."""
    own: set[Axis] = {spec.axis_of(metric)}
    beside = {spec.axis_of(column) for column in shown if column.split(".")[0] == metric.split(".")[0]}
    return set(AXES) if spec.axis == "both" and beside == own else own


def main_column(metric: str, columns: Sequence[str]) -> str:
    """Return the column that stands for a metric: named like it, or its "overall", or its first."""
    for name in (metric, f"{metric}.overall", f"{metric}.main"):
        if name in columns:
            return name
    return next((c for c in columns if c.startswith(f"{metric}.")), metric)


def gains_of(
    stages: Mapping[str, Mapping[str, float]], spec: MetricSpec, baseline: str, method: str
) -> dict[str, float]:
    """Return each image's gain where both sides have a number, turned so that positive is better."""
    pairs = finite_pairs(stages.get(baseline, {}), stages.get(method, {}))
    sign = -1.0 if spec.direction == "lower" else 1.0
    return {image: sign * (after - before) for image, before, after in pairs}


def _noise(stages: Mapping[str, Mapping[str, float]], spec: MetricSpec, baseline: str) -> list[float]:
    probes = (stage for stage in stages if stage.startswith(NOISE))
    return [change for probe in probes for change in gains_of(stages, spec, baseline, probe).values()]


def _unfit(band: float, spec: MetricSpec, inputs: Mapping[str, float]) -> bool:
    return bool(inputs) and band > CEILING * metric_width(spec, float(np.mean(np.abs(list(inputs.values())))))


def _scale(inputs: Mapping[str, float], band: float) -> float:
    """Return the unit in which a metric's gains are put beside other metrics': the spread of the inputs' scores."""
    spread = float(np.std(list(inputs.values()))) if len(inputs) > 1 else 0.0
    return spread or band or 1.0


def _input_range(inputs: Mapping[str, float]) -> tuple[float, float] | None:
    if not inputs:
        return None
    low, high = np.quantile(list(inputs.values()), (0.1, 0.9))
    return float(low), float(high)


def _composite_noise(
    metrics: Sequence[str],
    values: Values,
    specs: Mapping[str, MetricSpec],
    scale: Mapping[str, float],
    baseline: str,
) -> float:
    changes: list[float] = []
    for probe in {stage: None for m in metrics for stage in values[m] if stage.startswith(NOISE)}:
        parts = {
            m: {i: g / scale[m] for i, g in gains_of(values[m], specs[m], baseline, probe).items()} for m in metrics
        }
        changes += composite(parts).values()
    return noise_band(changes)


def composite(parts: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Return each image's mean over the metrics that have a value for it."""
    collected: dict[str, list[float]] = {}
    for part in parts.values():
        for image, gain in part.items():
            collected.setdefault(image, []).append(gain)
    return {image: float(np.mean(gains)) for image, gains in sorted(collected.items())}


def _axis_result(
    axis: Axis,
    parts: Mapping[str, Mapping[str, float]],
    band: float,
    stratum: str = "all",
    stratified_by: str = "",
) -> AxisResult:
    per_image = composite(parts)
    gain = summarise(list(per_image.values()), band)
    return AxisResult(axis, level_of(gain), tuple(parts), gain, stratum, stratified_by, per_image)


def _stratum_result(
    axis: Axis, parts: Mapping[str, Mapping[str, float]], band: float, strata: "Strata", third: str
) -> AxisResult:
    """Judge one third of the inputs.

    Where each metric has thirds of its own, an image can be in the third for some metrics only, and which ones depends
    on their scores. Averaging such images would bring back the bias that separate thirds avoid, so every judgement
    (one metric, one image) has the same weight, and images are resampled whole.
    """
    inside = {m: {i: gain for i, gain in part.items() if strata.third(m, i) == third} for m, part in parts.items()}
    found = _axis_result(axis, inside, band, third, strata.source)
    if "" in strata.thirds or len(parts) < 2:
        return found
    judgements = [gain for part in inside.values() for gain in part.values()]
    if not judgements:
        return found
    weight = found.gain.n / len(judgements)
    pooled = summarise([weight * sum(p[i] for p in inside.values() if i in p) for i in found.per_image], band)
    counted = summarise(judgements, band)
    gain = replace(pooled, win=counted.win, tie=counted.tie, loss=counted.loss)
    usual = {i: v for i, v in found.per_image.items() if 2 * sum(i in p for p in inside.values()) >= len(parts)}
    return replace(found, gain=gain, level=level_of(gain), per_image=usual)


def _means(pairs: Sequence[tuple[str, float, float]]) -> tuple[float, float]:
    """Return the means before and after of (image, before, after)."""
    if not pairs:
        return math.nan, math.nan
    return float(np.mean([before for _, before, _ in pairs])), float(np.mean([after for _, _, after in pairs]))


def _note(
    metric: str,
    spec: MetricSpec,
    counts: tuple[bool, bool],
    stages: Mapping[str, Mapping[str, float]],
    gains: Mapping[str, float],
    names: tuple[str, str],
) -> str:
    notes = []
    evidence, unfit = counts
    if spec.used_in_loop:
        notes.append("used in the loop")
    elif unfit:
        notes.append("its own noise is too wide to judge here")
    elif spec.axis == "none":
        notes.append("describes a property, judges nothing")
    elif not evidence and gains:
        notes.append(f"part of {metric.split('.')[0]}")
    lost = len(stages.get(names[0], {}).keys() & stages.get(names[1], {}).keys()) - len(gains)
    if lost:
        notes.append(f"no number for {lost} image{'s' if lost > 1 else ''}")
    return "; ".join(notes)


def _group_means(
    metrics: Sequence[str], values: Values, groups: Mapping[str, str], baseline: str, method: str
) -> dict[str, dict[str, tuple[float, float]]]:
    means: dict[str, dict[str, tuple[float, float]]] = {}
    for group in sorted(set(groups.values())):
        for metric in metrics:
            pairs = finite_pairs(values[metric].get(baseline, {}), values[metric][method])
            inside = [pair for pair in pairs if groups.get(pair[0]) == group]
            if inside:
                means.setdefault(group, {})[metric] = _means(inside)
    return means


INPUT_QUALITY = {"perceptual": ("pq_map", "pq", "p"), "alignment": ("aq_map", "aq", "a")}
"""Columns that hold p and a of the inputs, in the order in which they are looked for."""


@dataclass(frozen=True, slots=True)
class Strata:
    """Which third of the inputs an image belongs to."""

    source: str
    """What the inputs were sorted by, in words."""
    thirds: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Metric → image → "low", "mid", "high". The key "" serves every metric."""
    note: str = ""

    def third(self, metric: str, image: str) -> str | None:
        """Return the third of `image` for judging by `metric`."""
        return self.thirds.get(metric, self.thirds.get("", {})).get(image)


def strata_of(
    axis: str, values: Values, specs: Mapping[str, MetricSpec], evidence: Sequence[str], baseline: str
) -> Strata:
    """Sort the inputs into thirds by p (perceptual) or a (alignment), else by the axis's other metrics.

    Sorting by the very metric that then judges would show gains at the bottom and losses at the top where there are
    none (regression to the mean), so each metric is left out of its own strata. With a single metric that is not
    possible, and a note says so.
    """
    for name in INPUT_QUALITY[axis]:
        known = _finite(values.get(name, {}).get(baseline, {}))
        if known:
            return Strata(name, {"": _thirds(known)})
    turned = {m: -1 if specs[m].direction == "lower" else 1 for m in evidence}
    scores = {m: {i: turned[m] * v for i, v in _finite(values[m].get(baseline, {})).items()} for m in evidence}
    if not scores:
        return Strata("")
    if len(scores) == 1:
        (only,) = scores
        note = (
            f"The {axis} thirds are sorted by {only}, which also judges them: part of a gain in the low third and of "
            "a loss in the high third is regression to the mean. Give a pipeline (p and a sort the inputs then) or "
            "a second metric."
        )
        return Strata(only, {"": _thirds(scores[only])}, note)
    thirds = {m: _thirds(_mean_rank({k: v for k, v in scores.items() if k != m})) for m in scores}
    return Strata("the other metrics' scores of the input", thirds)


def _finite(values: Mapping[str, float]) -> dict[str, float]:
    return {image: value for image, value in values.items() if math.isfinite(value)}


def _thirds(values: Mapping[str, float]) -> dict[str, str]:
    return dict(zip(values, terciles(list(values.values())), strict=True))


def _mean_rank(scores: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    from scipy.stats import rankdata

    ranks: dict[str, list[float]] = {}
    for values in scores.values():
        for image, rank in zip(values, rankdata(list(values.values())) / max(1, len(values)), strict=True):
            ranks.setdefault(image, []).append(float(rank))
    return {image: sum(found) / len(found) for image, found in ranks.items()}

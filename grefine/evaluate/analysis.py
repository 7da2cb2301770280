"""From the long table to what was found: gains per metric and axis, thirds by input quality, groups."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from scipy.stats import rankdata

from grefine.evaluate.results import Analysis, AxisResult, MetricResult, level_of
from grefine.evaluate.statistics import holm, noise_band, summarise, terciles
from grefine.evaluate.tables import AFTER, BEFORE, NOISE, ScoreRow, Values, values_of
from grefine.scorers.noise import CEILING, metric_width
from grefine.types import AXES, Axis, MetricSpec

Stages = Mapping[str, Mapping[str, float]]
"""Stage → image → value."""


class _Column:
    """One column of the long table; every array is over the images, NaN where there is no number."""

    def __init__(
        self, metric: str, spec: MetricSpec, stages: Stages, images: Sequence[str], ends: tuple[str, str]
    ) -> None:
        self.metric, self.spec = metric, spec
        self.before, self.after = (_over(images, stages.get(stage, {})) for stage in ends)
        sign = -1.0 if spec.direction == "lower" else 1.0
        self.gain = sign * (self.after - self.before)
        """Turned so that positive is better."""
        probes = {stage: _over(images, found) for stage, found in stages.items() if stage.startswith(NOISE)}
        self.noise = {stage: sign * (changed - self.before) for stage, changed in probes.items()}
        """Probe → gain by a change that nobody sees."""
        self.inputs = self.before[np.isfinite(self.before)]
        self.band = noise_band([*self.noise.values()])
        """Changes up to this size are its noise."""
        known = self.inputs.size > 0
        self.unfit = known and self.band > CEILING * metric_width(spec, float(np.abs(self.inputs).mean()))
        """Its noise is too wide to judge here."""
        self.scale = (float(self.inputs.std()) if self.inputs.size > 1 else 0.0) or self.band or 1.0
        """The unit in which its gains are put beside other metrics': the spread of the inputs' scores."""

    def means(self, inside: np.ndarray | bool = True) -> tuple[float, float]:
        """Return the means before and after over the images that have both numbers."""
        both = np.isfinite(self.gain) & inside
        if not both.any():
            return math.nan, math.nan
        return float(self.before[both].mean()), float(self.after[both].mean())


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
    shown = [m for m in values if m in specs and not specs[m].needs_reference and method in values[m]]
    images = sorted({image for m in shown for stage in (baseline, method) for image in values[m].get(stage, {})})
    labels = np.array([(groups or {}).get(image, "") for image in images])
    columns = {m: _Column(m, specs[m], values[m], images, (baseline, method)) for m in shown}
    speaking = {m for m in shown if is_evidence(m, specs[m], shown)}
    evidence = [m for m, c in columns.items() if m in speaking and not c.unfit and np.isfinite(c.gain).any()]
    summaries = {m: summarise(c.gain[np.isfinite(c.gain)], c.band) for m, c in columns.items()}
    adjusted = holm({m: summaries[m].p for m in evidence})
    results = tuple(
        MetricResult(
            m,
            c.spec,
            *c.means(),
            gain=summaries[m],
            p_holm=adjusted.get(m, math.nan),
            evidence=m in evidence,
            unfit=c.unfit and m in speaking,
            note=_note(c, m in evidence),
            spread=c.scale,
            input_range=tuple(np.quantile(c.inputs, (0.1, 0.9)).tolist()) if c.inputs.size else None,
            gains={i: g for i, g in zip(images, c.gain.tolist(), strict=True) if math.isfinite(g)},
        )
        for m, c in columns.items()
    )
    axes, thirds, notes = [], [], []
    by_group: dict[str, tuple[AxisResult, ...]] = {}
    named = sorted(set(labels.tolist()) - {""})
    for axis in AXES:
        members = [columns[m] for m in evidence if axis in axes_of(m, specs[m], shown)]
        judged = _Judged(axis, members, images)
        axes.append(judged.result(judged.gains))
        source, places, note = sort_inputs(axis, values, members, images, baseline)
        notes += [note] * bool(note)
        thirds += [judged.stratum(places, third, source) for third in ("low", "mid", "high")]
        for group in named:
            inside = judged.result(np.where(labels == group, judged.gains, math.nan))
            by_group[group] = (*by_group.get(group, ()), inside)
    adjusted_axes = holm({axis.axis: axis.gain.p_visible for axis in axes})
    return Analysis(
        method=method,
        baseline=baseline,
        n=len({image for result in results for image in result.gains}),
        metrics=results,
        axes=tuple(replace(axis, level=level_of(axis.gain, adjusted_axes[axis.axis])) for axis in axes),
        strata=tuple(thirds),
        groups=by_group,
        group_means={
            group: {m: c.means(own) for m, c in columns.items() if np.isfinite(c.gain[own]).any()}
            for group, own in ((group, labels == group) for group in named)
        },
        notes=tuple(notes),
    )


def _over(images: Sequence[str], values: Mapping[str, float]) -> np.ndarray:
    found = np.array([values.get(image, math.nan) for image in images], dtype=float)
    return np.where(np.isfinite(found), found, math.nan)


def is_evidence(metric: str, spec: MetricSpec, shown: Sequence[str]) -> bool:
    """Return whether a column may speak in a verdict: not what steered the refinement, nor a measure of change or of a
    mere property, and of a metric with several values only the main one of each axis: nine dimensions are one witness.
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


def _note(column: _Column, evidence: bool) -> str:
    if column.spec.used_in_loop:
        return "used in the loop"
    if column.unfit:
        return "its own noise is too wide to judge here"
    if column.spec.axis == "none":
        return "describes a property, judges nothing"
    return "" if evidence or not np.isfinite(column.gain).any() else f"part of {column.metric.split('.')[0]}"


def _mean(parts: np.ndarray) -> np.ndarray:
    """Return each image's mean over the metrics that have a value for it, `(metrics, images)` → `(images,)`."""
    known = np.isfinite(parts)
    count = known.sum(0)
    return np.where(count, np.where(known, parts, 0.0).sum(0) / np.maximum(count, 1), math.nan)


def _stack(rows: Iterable[np.ndarray], images: Sequence[str]) -> np.ndarray:
    """Return rows over the images as one matrix, also when there is none."""
    found = list(rows)
    return np.array(found, dtype=float).reshape(len(found), len(images))


class _Judged:
    """One axis as its judges see it, each in units of the spread of its inputs' scores."""

    def __init__(self, axis: Axis, members: Sequence[_Column], images: Sequence[str]) -> None:
        self.axis, self.metrics, self.images = axis, tuple(c.metric for c in members), images
        self.gains = _stack((c.gain / c.scale for c in members), images)
        probes = {probe: None for c in members for probe in c.noise}
        gap = np.full(len(images), math.nan)
        noise = [_mean(_stack((c.noise.get(probe, gap) / c.scale for c in members), images)) for probe in probes]
        self.band = noise_band(noise)

    def result(self, gains: np.ndarray, stratum: str = "all", stratified_by: str = "") -> AxisResult:
        """Return what these gains, `(metrics, images)`, say."""
        mean = _mean(gains)
        per_image = {i: m for i, m in zip(self.images, mean.tolist(), strict=True) if math.isfinite(m)}
        gain = summarise(list(per_image.values()), self.band)
        return AxisResult(self.axis, level_of(gain), self.metrics, gain, stratum, stratified_by, per_image)

    def stratum(self, thirds: np.ndarray, third: str, source: str) -> AxisResult:
        """Judge one third of the inputs.

        Where each metric has thirds of its own, which of them an image is in depends on its scores. A mean per image
        would be biased, so every judgement (one metric, one image) weighs the same, and images are resampled whole.
        """
        inside = np.where(thirds == third, self.gains, math.nan)
        found = self.result(inside, third, source)
        judgements = inside[np.isfinite(inside)]
        if thirds.ndim < 2 or not judgements.size:
            return found
        count = np.isfinite(inside).sum(0)
        pooled = summarise(np.nansum(inside, 0)[count > 0] * (found.gain.n / judgements.size), self.band)
        counted = summarise(judgements, self.band)
        gain = replace(pooled, win=counted.win, tie=counted.tie, loss=counted.loss)
        usual = {i for i, n in zip(self.images, count.tolist(), strict=True) if 2 * n >= len(self.metrics)}
        per_image = {i: v for i, v in found.per_image.items() if i in usual}
        return replace(found, gain=gain, level=level_of(gain), per_image=per_image)


def sort_inputs(
    axis: str, values: Values, members: Sequence[_Column], images: Sequence[str], baseline: str
) -> tuple[str, np.ndarray, str]:
    """Sort the inputs into thirds by p (perceptual) or a (alignment), else each metric's by the other metrics: its own
    noisy scores would show gains at the bottom and losses at the top (regression to the mean).

    Returned are what they were sorted by; "low", "mid", "high" or "" for each, `(images,)` or `(metrics, images)`; a
    note where a single metric has to sort what it judges.
    """
    for name in ("pq_map", "pq", "p") if axis == "perceptual" else ("aq_map", "aq", "a"):
        known = _over(images, values.get(name, {}).get(baseline, {}))
        if np.isfinite(known).any():
            return name, _thirds(known), ""
    scores = [-c.before if c.spec.direction == "lower" else c.before for c in members]
    if not scores:
        return "", np.array(""), ""
    if len(scores) == 1:
        only = members[0].metric
        note = (
            f"The {axis} thirds are sorted by {only}, which also judges them: part of a gain in the low third and of "
            "a loss in the high third is regression to the mean. Give a pipeline (p and a sort the inputs then) or "
            "a second metric."
        )
        return only, _thirds(scores[0]), note
    # Ranks as shares of their number.
    ranks = np.stack([rankdata(x, nan_policy="omit") / max(1, np.isfinite(x).sum()) for x in scores])
    thirds = [_thirds(_mean(np.delete(ranks, place, 0))) for place in range(len(ranks))]
    return "the other metrics' scores of the input", np.stack(thirds), ""


def _thirds(scores: np.ndarray) -> np.ndarray:
    found = np.full(scores.shape, "", dtype="U4")
    known = np.isfinite(scores)
    found[known] = terciles(scores[known].tolist())
    return found

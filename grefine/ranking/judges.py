"""Judges against voters: their values for every voted image, and how often they side with the people (2AFC)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from grefine.errors import ConfigError, GRefineError
from grefine.io.images import read_image
from grefine.ranking.features import images_in
from grefine.ranking.thurstone import fit_scores
from grefine.ranking.votes import VoteTable
from grefine.scorers.files import Task, judge_pictures
from grefine.scorers.registry import split_value
from grefine.scorers.resolve import Judge, Weights, resolve

ImageKey = tuple[str, str]
"""Method and image name."""
JudgeValues = dict[ImageKey, float]
"""What one judge gives every image, turned so that more is better."""


@dataclass(frozen=True, slots=True)
class AfcResult:
    score: float
    """Mean credit over pairs, 0..1."""
    interval: tuple[float, float]
    """95 % of the resamples of images."""
    credits: np.ndarray
    """`(pairs,)`, one per row of the table."""
    ties: int = 0


def preference(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return 1 where the first value is larger, 0 where the second is, 0.5 for a tie."""
    return 0.5 + 0.5 * np.sign(np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64))


def two_afc(table: VoteTable, q: np.ndarray, resamples: int = 1000, seed: int = 0) -> AfcResult:
    """Score the choices q (1 first, 0 second, 0.5 tie), one per row of the table, by the people that each follows."""
    q = np.asarray(q, dtype=np.float64)
    p = table.shares()
    credits = p * q + (1 - p) * (1 - q)
    interval = clustered_interval(credits, table.images(), resamples, seed)
    return AfcResult(float(credits.mean()), interval, credits, int((q == 0.5).sum()))


def judge_choices(table: VoteTable, values: Mapping[tuple[str, str], float]) -> np.ndarray:
    """Return the choices of a judge that gives every (method, image) a value, more for better."""
    missing = [k for v in table.votes for k in ((v.method_a, v.image), (v.method_b, v.image)) if k not in values]
    if missing:
        method, image = missing[0]
        raise ConfigError(f"{len(missing)} voted images have no value, first '{image}' of '{method}'.")
    first = np.array([values[v.method_a, v.image] for v in table.votes])
    second = np.array([values[v.method_b, v.image] for v in table.votes])
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise ConfigError("The judge's values contain NaN or infinity; every image needs a finite value.")
    return preference(first, second)


def baselines(table: VoteTable, mu: Mapping[str, float], resamples: int = 1000, seed: int = 0) -> dict[str, AfcResult]:
    """Return what needs no look at the images: the human oracle and the global ranking."""
    p = table.shares()
    choices = {
        "human oracle": preference(p, 1 - p),
        "global ranking": preference(*np.array([(mu[v.method_a], mu[v.method_b]) for v in table.votes]).T),
    }
    return {name: two_afc(table, q, resamples, seed) for name, q in choices.items()}


def clustered_interval(values: np.ndarray, images: Sequence[str], resamples: int, seed: int) -> tuple[float, float]:
    """Return 95 % of the means over resampled images, because values of one image share its difficulty."""
    _, where = np.unique(np.array(images), return_inverse=True)
    n = int(where.max()) + 1
    total, size = np.bincount(where, values, n), np.bincount(where, minlength=n)
    weights = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples)
    low, high = np.percentile(weights @ total / (weights @ size), (2.5, 97.5))
    return float(low), float(high)


@dataclass(frozen=True, slots=True)
class AfcRow:
    """One row of the table: a judge, or a baseline that looks at no image."""

    name: str
    baseline: bool
    result: AfcResult

    def as_dict(self) -> dict[str, Any]:
        return {
            "judge": self.name,
            "baseline": self.baseline,
            "2afc": self.result.score,
            "interval": list(self.result.interval),
            "ties": self.result.ties,
            "pairs": len(self.result.credits),
        }

    def line(self) -> str:
        low, high = self.result.interval
        ties = f"  {self.result.ties} ties" if self.result.ties and not self.baseline else ""
        mark = " (baseline)" if self.baseline else ""
        return f"{self.name + mark:<28} {self.result.score:.4f}  [{low:.4f}, {high:.4f}]{ties}"


def afc_table(table: VoteTable, judges: Mapping[str, JudgeValues], seed: int = 0) -> list[AfcRow]:
    """Return one row per judge, best first, after the baselines."""
    pairs = table.merged()
    mu = dict(zip(table.methods, fit_scores(table.counts(), table.methods).mu.tolist(), strict=True))
    found = [
        AfcRow(name, False, two_afc(pairs, judge_choices(pairs, values), seed=seed)) for name, values in judges.items()
    ]
    fixed = [AfcRow(name, True, result) for name, result in baselines(pairs, mu, seed=seed).items()]
    return fixed + sorted(found, key=lambda row: -row.result.score)


def voted_images(table: VoteTable, folders: Sequence[str | Path]) -> dict[ImageKey, Path]:
    if not folders:
        raise ConfigError("A metric needs the images: pass --images with the methods' folders, or the folder above.")
    roots = {Path(f).resolve().name: Path(f) for f in folders}
    if len(folders) == 1 and Path(folders[0]).is_dir() and not set(roots) & set(table.methods):
        roots = {p.name: p for p in sorted(Path(folders[0]).iterdir()) if p.is_dir()}
    found: dict[ImageKey, Path] = {}
    wanted = sorted({key for v in table.votes for key in ((v.method_a, v.image), (v.method_b, v.image))})
    for method in sorted({m for m, _ in wanted}):
        if method not in roots:
            raise ConfigError(f"No folder for the voted method '{method}'; there are {', '.join(roots) or 'none'}.")
        images = images_in(roots[method])
        missing = [name for m, name in wanted if m == method and name not in images]
        if missing:
            raise ConfigError(f"'{roots[method]}' lacks {len(missing)} voted images, first '{missing[0]}'.")
        found |= {(m, name): images[name] for m, name in wanted if m == method}
    return found


def metric_values(
    metrics: Sequence[str],
    paths: Mapping[ImageKey, Path],
    pipeline: str | None = None,
    device: str = "cpu",
    prompts: Mapping[str, str] | None = None,
    progress: Callable[[str], None] = lambda _: None,
    weights: Weights = (),
    allow_noncommercial: bool = False,
    force: bool = False,
) -> dict[str, JudgeValues]:
    """Run metrics of the registry; "mdiqa" becomes a judge per value, "mdiqa.sharpness" one."""
    found: dict[str, JudgeValues] = {}
    for asked in metrics:
        base, part = split_value(asked)
        judge = resolve(
            base, weights=weights, pipeline=pipeline, device=device, allow_noncommercial=allow_noncommercial
        )
        spec = judge.spec
        if spec.needs_reference:
            raise ConfigError(f"'{asked}' compares with a reference picture; judges of votes look at one picture.")
        progress(f"{asked}: {len(paths)} images")
        if spec.needs_prompt and (missing := [image for _, image in paths if image not in (prompts or {})]):
            raise ConfigError(
                f"'{spec.name}' needs a prompt for every voted image, and there is none for '{missing[0]}': pass "
                "--prompts with a table of prompts by file name."
            )
        tasks = [
            Task(lambda path=path: read_image(path).rgb, (prompts or {}).get(image, ""))
            for (_, image), path in paths.items()
        ]
        _see_world(judge, paths, force, progress)
        sign, each = -1 if spec.direction == "lower" else 1, dict[str, JudgeValues]()
        for key, values in zip(paths, judge_pictures(spec, judge.load, tasks), strict=True):
            if isinstance(values, GRefineError):  # every voted image needs a value
                raise values
            for name, value in values.items():
                each.setdefault(name, {})[key] = sign * value
        chosen = {n: v for n, v in each.items() if not part or n.lower().replace("-", "_").endswith(f".{part}")}
        if not chosen:
            raise ConfigError(f"'{base}' has no value '{part}'; it gives {', '.join(each)}.")
        found |= chosen
    return found


def calibrated_values(
    folders: Sequence[str | Path],
    paths: Mapping[ImageKey, Path],
    device: str = "cpu",
    progress: Callable[[str], None] = lambda _: None,
    force: bool = False,
) -> dict[str, JudgeValues]:
    """Run calibrated judges beside the frozen ones that they correct; one of `train five-level` stands alone."""
    found: dict[str, JudgeValues] = {}
    if not folders:
        return found
    from grefine.ranking.frozen import FIVE_LEVEL, CalibratedJudge, JudgeSource, load_judge

    for folder in folders:
        name = Path(folder).resolve().name
        progress(f"{name}: {len(paths)} images")
        if (Path(folder) / "config.json").is_file():
            alone = load_judge(JudgeSource(weights=str(folder)), device)
            found[name] = {key: float(alone.read([read_image(path).rgb])[0]) for key, path in paths.items()}
            continue
        judge = CalibratedJudge.load(folder, device)
        source = judge.source
        if source.metric != FIVE_LEVEL:
            weights = {source.metric: source.weights} if source.weights else {}
            how = {"device": device, "allow_noncommercial": source.allow_noncommercial}
            _see_world(resolve(source.metric, weights=weights, **how), paths, force, progress)
        both = {key: judge.both([read_image(path).rgb]) for key, path in paths.items()}
        found[name] = {key: float(corrected) for key, (_, corrected) in both.items()}
        found[f"{name} (frozen {source.metric})"] = {key: float(plain) for key, (plain, _) in both.items()}
    return found


def _see_world(judge: Judge, paths: Mapping[ImageKey, Path], force: bool, progress: Callable[[str], None]) -> None:
    """Refuse pictures of a world that a judge does not know; with `force` say how many they are."""
    if judge.domain is None:
        return
    pictures = (read_image(path).rgb for path in paths.values())
    if not force:
        judge.domain.demand(pictures)
        return
    foreign = sum(map(judge.domain.is_foreign, pictures))
    progress(judge.domain.told(foreign, len(paths), force) or "All are of its world.")

"""Judges against voters: a metric's value for every voted image, and the table of 2AFC scores."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grefine.errors import ConfigError, GRefineError
from grefine.io.images import read_image
from grefine.ranking.afc import AfcResult, baselines, judge_choices, merged, two_afc
from grefine.ranking.methods import images_in
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
    pairs = merged(table)
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
    """Run calibrated judges, each under its folder's name, and beside each the frozen judge that it corrects.

    A folder of `grefine train five-level` is a judge by itself.
    """
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

"""From a name, a folder of weights or a pipeline to a judge that can run here."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grefine.errors import ConfigError, MetricUnavailable, WeightsMissing
from grefine.fetching import accepted_terms, fetch_recipe, fetched_folder, fetched_weights, is_recorded, may_fetch
from grefine.fetching import fetch as fetch_weights
from grefine.indicators.recipe import fetched_part, fetched_pipeline
from grefine.io.places import here
from grefine.resources import cache_folder, pipeline_names
from grefine.scorers.component import pipeline_judge
from grefine.scorers.protocol import AnyJudge, Images, Prompts, Scorer, as_scorer, check_images, value_names
from grefine.scorers.registry import judge_file, known_metric, metric_specs, split_names
from grefine.types import MetricSpec, Scores

if TYPE_CHECKING:
    from grefine.indicators.domain_check import DomainCheck

_EXTRA = "grefine[full]"
_HASHED_BYTES = 64 * 2**20
Weights = Mapping[str, str | Path] | Iterable[str]
"""Where weights lie: by metric, or as entries METRIC=PATH."""


@dataclass(frozen=True)
class Judge:
    """A metric that can run here, loaded only when something has to be computed."""

    spec: MetricSpec
    load: Callable[[], Scorer]
    weights: Path | None = None
    """Where its weights lie; None for one without any, or in memory."""
    origin: str = ""
    """What tells a judge without a folder of weights from others of its name."""
    device: str = "cpu"
    domain: DomainCheck | None = None
    """Tells the pictures that its weights do not know."""

    def scorer(self, force: bool = False) -> Scorer:
        """Load it; unless forced, it refuses pictures that its weights do not know."""
        scorer = self.load()
        return scorer if self.domain is None or force else DomainScorer(scorer, self.domain)

    @cached_property
    def source(self) -> str:
        """What tells its weights from others."""
        return self.origin if self.weights is None else fingerprint_of(self.weights)


class DomainScorer:
    """A scorer that refuses pictures of a world that its network was never taught."""

    def __init__(self, scorer: Scorer, domain: DomainCheck) -> None:
        self.scorer, self.domain = scorer, domain
        self.spec, self.values = scorer.spec, value_names(scorer)

    def __call__(self, images: Images, prompts: Prompts = None) -> list[Scores]:
        self.domain.demand(check_images(images, self.spec.name))
        return self.scorer(images, prompts)


def resolve(
    judge: str | AnyJudge,
    *,
    weights: Weights = (),
    pipeline: Any = None,
    device: str = "cpu",
    allow_noncommercial: bool = False,
    fetch: bool = True,
) -> Judge:
    """Return the judge that a name means, fetched where that is allowed, or the one around a scorer or function."""
    if not isinstance(judge, str):
        kind = judge if hasattr(judge, "__qualname__") else type(judge)
        scorer = judge if isinstance(judge, Scorer) else as_scorer(judge)
        return Judge(scorer.spec, lambda: scorer, origin=f"{kind.__module__}.{kind.__qualname__}", device=device)
    check_device(device)
    file = judge_file(judge)
    spec = file.SPEC
    given = read_weights(weights).get(spec.name)
    if given is None and pipeline is not None:
        if not isinstance(pipeline, (str, Path)):
            held = pipeline_judge(pipeline, file)
            if held is not None:
                return Judge(spec, lambda: held, device=device)
        else:
            given = carried(known_pipeline(pipeline), spec)
    if spec.noncommercial and not (allow_noncommercial or accepted_terms(spec.name, spec.licence)):
        raise MetricUnavailable(
            f"{spec.name} runs under non-commercial terms ({spec.licence}); pass --allow-noncommercial "
            f"(allow_noncommercial=True) if yours is such a use, or once `grefine fetch {spec.name} --accept-terms`."
        )
    try:
        path = find_weights(spec, given)
    except WeightsMissing:
        if given is not None or not (fetch and _fetched_now(spec)):
            raise
        path = find_weights(spec)
    domain = None
    if path is not None:
        from grefine.indicators.domain_check import domain_at

        domain = domain_at(path)
    return Judge(spec, partial(file.load, path, device), path, device=device, domain=domain)


def _fetched_now(spec: MetricSpec) -> bool:
    """Fetch the weights of a metric, and say so first, where that is allowed and its terms are accepted."""
    if not (spec.fetch and may_fetch()):
        return False
    recipe, say = fetch_recipe(spec.fetch), partial(print, file=sys.stderr)
    if recipe.ask and not accepted_terms(spec.fetch, recipe.licence):
        return False
    say(f"{spec.name} needs what is not on this machine; GREFINE_FETCH=1 allows to get it: {recipe.description}")
    say(f"Terms: {recipe.licence}. It goes to '{fetched_folder(spec.fetch)}'.")
    fetch_weights(spec.fetch, report=say)
    return True


def resolve_all(metrics: str, **how: Any) -> dict[str, Judge]:
    """Return the judges of names with commas between them, each by its own name; `how` as for `resolve`."""
    names = dict.fromkeys(known_metric(name) for name in split_names(metrics))
    if not names:
        raise ConfigError("No metric was asked for; `grefine metrics` lists them.")
    return {name: resolve(name, **how) for name in names}


def load_scorer(
    name: str,
    weights: str | Path | None = None,
    device: str = "cpu",
    allow_noncommercial: bool = False,
    force: bool = False,
) -> Scorer:
    """Build a scorer: `load_scorer("mdiqa", "tiny")(images)`.

    `weights` is a folder or file, or the name of a bundled pipeline that carries the network; by default what lies in
    the cache under the metric's name, or was fetched. With `force` it scores pictures of a world that the weights do
    not know; else it refuses them.

    Raises:
        ConfigError: unknown metric or device.
        WeightsMissing: nothing to load, with what gets it.
        WeightsCorrupt: weights that are something else.
        MetricUnavailable: a package or a consent is missing.
    """
    given = {} if weights is None else {name: weights}
    return resolve(name, weights=given, device=device, allow_noncommercial=allow_noncommercial).scorer(force)


def list_metrics(only: str | None = None, pipeline: str | Path | None = None) -> list[dict[str, Any]]:
    """Return every metric, or the paper's thirteen: what is known of it, and whether it can run here."""
    folder = None if pipeline is None else known_pipeline(pipeline)
    rows = []
    for spec in metric_specs(only):
        facts = ("name", "direction", "needs_prompt", "axis", "licence", "weights", "description")
        row: dict[str, Any] = {fact: getattr(spec, fact) for fact in facts}
        low, high = spec.range
        row |= {"range": f"{low:g}..{high:g}", "values": list(spec.values)}
        runs, reason, step = availability(spec.name, carried(folder, spec) if folder is not None else None)
        rows.append(row | {"runs": runs, "reason": reason, "next": step})
    return rows


def absent(unavailable: Mapping[str, str], each: bool) -> list[str]:
    """Say which metrics did not run: each with its reason, or all in one line."""
    if each or len(unavailable) < 2:
        return [f"{name} did not run: {why}" for name, why in unavailable.items()]
    return [f"{len(unavailable)} metrics did not run here, which -v lists with what they need."]


def availability(name: str, weights: str | Path | None = None) -> tuple[bool, str, str]:
    """Say whether a metric can run here, with these weights or others; why not, or a warning; what would help."""
    spec = judge_file(name).SPEC
    lacking = next((one for one in (spec.package, *spec.imports) if one and find_spec(one) is None), "")
    if lacking:
        step = f"install {'grefine[iqa]' if spec.package else _EXTRA}"
    elif spec.fetch:
        step = f"fetch {spec.fetch}"
    else:
        step = f"convert {spec.convert}" if spec.convert else f"--weights {spec.name}=PATH"
    try:
        find_weights(spec, weights)
    except (WeightsMissing, MetricUnavailable) as error:
        return False, str(error), step
    if lacking:
        need = f"{spec.name} needs the package {lacking}, which is not installed: `pip install {_EXTRA}`."
        return False, need, step
    terms = f"{spec.package} downloads its weights at first use and is for non-commercial use only."
    return True, terms if spec.noncommercial else "", "runs"


def find_weights(spec: MetricSpec, weights: str | Path | None = None) -> Path | None:
    """Return where the weights of a metric lie; None when it needs none, or a package of its own brings them."""
    if spec.package:
        if find_spec(spec.package) is None:
            raise MetricUnavailable(f"{spec.name} needs {spec.package}, which is not installed: {spec.weights}.")
        return None
    if not spec.weights:
        return None
    if weights is not None:
        folder = fetched_pipeline(weights)
        if folder is not None and (folder / "model_index.json").is_file():
            inside = carried(folder, spec)
            if inside is not None:
                return inside
            raise WeightsMissing(f"The pipeline '{weights}' carries no {spec.name}; it needs {spec.weights}.")
        path = Path(weights)
        if path.exists():
            return path
        raise WeightsMissing(f"There is nothing at '{weights}'; {spec.name} needs {spec.weights}.")
    cached = cache_folder() / spec.name
    if spec.fetch and spec.component and not (cached / "config.json").is_file():
        return fetched_part(spec.component)
    if spec.fetch and not spec.component and is_recorded(spec.fetch):
        return fetched_weights(spec.fetch)
    if cached.exists():
        return cached
    raise WeightsMissing(f"{spec.name} needs {spec.weights}; nothing was given and '{cached}' does not exist.")


def carried(pipeline: Path, spec: MetricSpec) -> Path | None:
    """Return where a pipeline folder keeps the network of a metric; None when it carries none."""
    inside = pipeline / (spec.component or spec.name)
    return inside if inside.is_dir() else None


def known_pipeline(name: str | Path) -> Path:
    """Return the folder of a pipeline on this machine."""
    folder = fetched_pipeline(here(name))
    if folder is None:
        raise ConfigError(f"There is no pipeline '{name}' here: {', '.join(pipeline_names())} or a folder.")
    return folder


def read_weights(weights: Weights) -> dict[str, str | Path]:
    """Return weights by the metric's own name."""
    if isinstance(weights, Mapping):
        return {known_metric(name): path for name, path in weights.items()}
    found: dict[str, str | Path] = {}
    for entry in weights:
        name, sign, path = entry.partition("=")
        if not (sign and path):
            raise ConfigError(f"--weights takes METRIC=PATH, not '{entry}'.")
        found[known_metric(name)] = path
    return found


def check_device(device: str) -> None:
    """Raise ConfigError for a device that this machine does not have."""
    import torch

    try:
        kind, index = torch.device(device).type, torch.device(device).index or 0
    except RuntimeError as error:
        raise ConfigError(f"'{device}' is no device; accepted are cpu, cuda, cuda:0 ... and mps.") from error
    if kind == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"Device '{device}' was asked for, but this machine has no usable GPU; use cpu.")
    if kind == "cuda" and index >= torch.cuda.device_count():
        raise ConfigError(f"Device '{device}' was asked for, but this machine has {torch.cuda.device_count()} GPUs.")


def fingerprint_of(root: Path) -> str:
    """Return a hash of a file or of all files below a folder: the bytes of small ones, size and time of large ones."""
    files = sorted(p for p in root.rglob("*") if p.is_file()) if root.is_dir() else [root]
    digest = hashlib.sha256()
    for path in files:
        state = path.stat()
        digest.update(path.name.encode("utf-8", "surrogateescape"))
        if state.st_size <= _HASHED_BYTES:
            digest.update(path.read_bytes())
        else:
            digest.update(f"{state.st_size} {state.st_mtime_ns}".encode())
    return digest.hexdigest()[:24]

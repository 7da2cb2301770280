"""`grefine train pq` and `aq`: PQ-Map's learned prompts and the CLIP of AQ-Map, fitted to opinions.

Of PQ-Map only the contexts of T_p move (Eq. 2). Of AQ-Map's CLIP the text tower and CLIP's scale move, and last blocks
of the image tower where asked; token embeddings never do, since an opinion set holds only some of the words. PQ-Map
reads the same CLIP, so a second loss holds its factors where they were on the training pictures.
"""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn

from grefine.config import load_config
from grefine.errors import ConfigError
from grefine.indicators.aq_map import parsed_prompt, scaled_logits
from grefine.indicators.calibrate import weights_digest
from grefine.indicators.calibration import BOUNDS, Calibration
from grefine.indicators.defects import alignment_score
from grefine.indicators.encoding import TextFeatures, factor_logits, normalise_features
from grefine.indicators.grids import resize
from grefine.indicators.load import load_clip, load_prompts, load_tokenizer, stored_calibration
from grefine.indicators.pq_map import cask
from grefine.io.atomic import write_atomic
from grefine.models.clip_surgery import ClipSurgery
from grefine.models.pq_prompts import PQPrompts
from grefine.resources import config_file
from grefine.training.loop import Budget, Record, curves, train
from grefine.training.maps.opinions import CHUNK, FitSettings, Opinions, OpinionSource, RatedTable, agreement, errors
from grefine.types import FeatureNorm, ParsedPrompt


class Fit(NamedTuple):
    """What a map's fit moves, and how."""

    part: Any
    """The component that is kept."""
    parameters: Sequence[nn.Parameter]
    losses: Callable[[Opinions], dict[str, Tensor]]
    """Of a batch by name; "loss" is minimised."""
    evaluate: Callable[[], dict[str, float]]
    """What it is worth on what is never trained on."""


@dataclass(frozen=True)
class PQSettings(FitSettings):
    start: Literal["pipeline", "fresh"] = "pipeline"
    """Go on from the pipeline's prompts, or begin with random contexts."""
    n_ctx: int = 16
    """Learned vectors per text of fresh prompts."""
    feature_norm: FeatureNorm = "channel"
    bounds: tuple[float, float, float] = BOUNDS
    """User bounds that alpha is multiplied by."""
    factor_weight: float = 1.0
    """Of the factors that somebody scored one by one."""


class ClassTokens:
    """Class tokens of frozen images, normalised as the prompts want them; remembered by key."""

    def __init__(self, clip: ClipSurgery, norm: FeatureNorm) -> None:
        self.clip, self.norm, self.known = clip, norm, {}

    @torch.no_grad()
    def __call__(self, rated: Opinions) -> Tensor:
        if not rated.keys:
            return self.tokens(rated)[:, 0]
        new = [row for row, key in enumerate(rated.keys) if key not in self.known]
        found = [token for part in self._looks(rated, new) for token in part[:, 0].clone()]
        self.known |= {rated.keys[row]: token for row, token in zip(new, found, strict=True)}
        return torch.stack([self.known[key] for key in rated.keys])

    @torch.no_grad()
    def tokens(self, rated: Opinions) -> Tensor:
        """Return `(B, 1 + N, D)` of all tokens, which are not remembered."""
        return torch.cat(list(self._looks(rated, range(rated.count))))

    def _looks(self, rated: Opinions, rows: Sequence[int]) -> Iterator[Tensor]:
        for start in range(0, len(rows), CHUNK):
            yield normalise_features(self.clip(rated.look(rows[start : start + CHUNK])).float(), self.norm)


def quality_scores(tokens: Tensor, texts: Tensor, limits: Tensor) -> tuple[Tensor, Tensor]:
    """Return p `(...)` and factors `(..., 4)` of normalised tokens `(..., D)`; texts are `(4, 2, D)`. (Eq. 3)"""
    logits = torch.einsum("...d,fsd->...fs", tokens, texts)
    chances = logits.softmax(dim=-1)[..., 0]
    return cask(chances, limits), chances


def fit_prompts(
    source: OpinionSource,
    settings: PQSettings,
    device: torch.device,
    clip: ClipSurgery,
    prompts: PQPrompts,
    calibration: Calibration,
) -> Fit:
    """Return how `prompts` are fitted to opinions."""
    clip.to(device).float().eval().requires_grad_(False)
    prompts.to(device).float().train()
    limits = torch.tensor([a * b for a, b in zip(calibration.alpha, settings.bounds, strict=True)]).to(device)
    seen, measured = ClassTokens(clip, prompts.config["feature_norm"]), source.held_out()
    tokens = seen.tokens(measured) if measured.damage is not None else seen(measured)[:, None]

    def losses(data: Opinions) -> dict[str, Tensor]:
        score, chances = quality_scores(seen(data)[data.image_of.to(device)], prompts(clip), limits)
        found = errors(score, data.opinions.to(device), settings.order_weight)
        rated = data.factors.to(device)
        known = ~rated.isnan()
        if settings.factor_weight and bool(known.any()):
            found["factors"] = F.mse_loss(chances[:, 1:][known], rated[known])
            found["loss"] = found["loss"] + settings.factor_weight * found["factors"]
        return found

    @torch.no_grad()
    def evaluate() -> dict[str, float]:
        score, _ = quality_scores(tokens, prompts(clip), limits)
        found = agreement(score[:, 0].cpu()[measured.image_of], measured.opinions)
        if measured.damage is None:
            return found
        height, width = measured.damage.shape[-2:]
        grids = score[:, 1:].unflatten(1, clip.grid).cpu().numpy()
        bad = np.stack([1.0 - resize(grid, height, width, "bicubic") for grid in grids])
        return found | {"map_ap": average_precision(bad.ravel(), measured.damage.cpu().numpy().ravel())}

    return Fit(prompts, [prompts.ctx], losses, evaluate)


def average_precision(scores: np.ndarray, truth: np.ndarray) -> float:
    """Return the area under the precision-recall curve of flat scores against bool truth."""
    order = np.argsort(-scores, kind="stable")
    hits = truth[order]
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float((precision * hits).sum() / max(hits.sum(), 1))


@dataclass(frozen=True)
class AQSettings(FitSettings):
    text: bool = True
    """The text tower and CLIP's scale move."""
    image_blocks: int = 0
    """So many last blocks of the image tower move."""
    batch: int = 48
    learning_rate: float = 1e-5
    keep_quality: float = 10.0
    """Of the mean squared change of PQ-Map's factors on the training pictures."""

    def __post_init__(self) -> None:
        if not self.text and not self.image_blocks:
            raise ConfigError("Nothing would move: set text to true, or image_blocks above 0.")


def moving(clip: ClipSurgery, settings: AQSettings) -> list[nn.Parameter]:
    """Freeze the whole CLIP except what the settings let move, and return that."""
    blocks = list(clip.clip.visual.transformer.resblocks)
    if not 0 <= settings.image_blocks <= len(blocks):
        raise ConfigError(f"image_blocks must lie in 0..{len(blocks)} for this CLIP, not {settings.image_blocks}.")
    clip.requires_grad_(False)
    chosen: list[nn.Module | nn.Parameter] = []
    if settings.text:
        tower = clip.clip
        chosen += [tower.transformer, tower.ln_final, tower.positional_embedding, tower.text_projection]
        chosen += [tower.logit_scale]  # type: ignore[list-item]
    if settings.image_blocks:
        visual = clip.clip.visual
        chosen += [*blocks[-settings.image_blocks :], visual.ln_post, visual.proj]  # type: ignore[list-item]
    for part in chosen:
        part.requires_grad_(True)
    return [p for p in clip.parameters() if p.requires_grad]


def alignment_scores(
    features: Tensor,
    image_of: Tensor,
    prompts: Sequence[ParsedPrompt],
    texts: TextFeatures,
    calibration: Calibration,
) -> Tensor:
    """Return a `(P,)` of prompts, each about its own picture. (Eq. 5, 8)"""
    parts = [[phrase.text for phrase in prompt.phrases] for prompt in prompts]
    asked = list(
        dict.fromkeys(text for prompt, own in zip(prompts, parts, strict=True) for text in (prompt.text, *own))
    )
    encoded = texts.encode([*asked, ""])
    at = {text: column for column, text in enumerate(asked)}
    seen = F.normalize(features, dim=-1)
    own_scale = texts.clip.logit_scale.exp()
    # The whole prompt has nobody to compete with.
    paired = "empty" if calibration.redundant == "compete" else calibration.redundant
    scores: list[Any] = []
    for row, (prompt, own) in enumerate(zip(prompts, parts, strict=True)):
        tokens = seen[int(image_of[row])]
        columns = [at[prompt.text], *(at[text] for text in own), len(asked)]
        cosines = tokens @ encoded[columns].T
        whole = scaled_logits(cosines[:1][:, [0, -1]], calibration.prompts, own_scale, paired)[0, 0].sigmoid()
        places = cosines[:1, 1:] if calibration.phrase_score == "class" else cosines[1:, 1:]
        logits = scaled_logits(places, calibration.phrases, own_scale, calibration.redundant)
        chances = logits.softmax(dim=-1)[:, :-1] if calibration.redundant == "compete" else logits.sigmoid()
        judged = [j for j, phrase in enumerate(prompt.phrases) if phrase.drawable and not phrase.negated]
        aligned: list[Any] = [chances[:, j].amax() for j in judged]
        scores.append(alignment_score(whole, aligned, calibration.beta, "worst3"))  # type: ignore[arg-type]
    return torch.stack(scores)


def fit_alignment(
    source: OpinionSource,
    settings: AQSettings,
    device: torch.device,
    clip: ClipSurgery,
    tokenizer: Any,
    prompts: PQPrompts,
    calibration: Calibration,
    before: ClipSurgery,
) -> Fit:
    """Return how `clip` is fitted to opinions; `before` is the one that PQ-Map's factors are held to."""
    clip.to(device).float().eval()
    prompts.to(device).float().eval().requires_grad_(False)
    teacher = before.to(device).float().eval().requires_grad_(False)
    parameters = moving(clip, settings)
    texts, norm, measured = TextFeatures(clip, tokenizer), prompts.config["feature_norm"], source.held_out()
    with torch.no_grad():
        texts_before = prompts(teacher)
        held_out = [(part, teacher(part.look(range(part.count)))) for part in measured.parts()]

    def features_of(data: Opinions, was: Tensor) -> Tensor:
        return clip(data.look(range(data.count))) if settings.image_blocks else was

    def quality_change(features: Tensor, before: Tensor) -> Tensor:
        """Return the mean squared change of PQ-Map's factors at all tokens; both features `(B, 1 + N, D)`."""
        was = factor_logits(before, texts_before, norm).softmax(-1)[..., 0]
        now = factor_logits(features, prompts(clip), norm).softmax(-1)[..., 0]
        return F.mse_loss(now, was)

    def score(data: Opinions, features: Tensor) -> tuple[Tensor, Tensor]:
        parsed = [parsed_prompt(text) for text in data.prompts]
        rows = [row for row, prompt in enumerate(parsed) if prompt.phrases]
        if not rows:
            raise ConfigError("None of a batch's prompts names anything that can be seen, so nothing can be learnt.")
        chosen = [parsed[row] for row in rows]
        found = alignment_scores(features, data.image_of[rows], chosen, texts, calibration)
        return found, data.opinions[rows].to(found.device)

    def losses(data: Opinions) -> dict[str, Tensor]:
        with torch.no_grad():
            was = teacher(data.look(range(data.count)))
        features = features_of(data, was)
        found = errors(*score(data, features), settings.order_weight)
        found["quality_change"] = quality_change(features, was)
        found["loss"] = found["loss"] + settings.keep_quality * found["quality_change"]
        return found

    @torch.no_grad()
    def evaluate() -> dict[str, float]:
        scored, change = [], 0.0
        for part, was in held_out:
            features = features_of(part, was)
            change += float(quality_change(features, was)) * part.count
            scored.append([x.cpu() for x in score(part, features)])
        found, opinions = (torch.cat(side) for side in zip(*scored, strict=True))
        return agreement(found, opinions) | {"quality_rms_change": (change / measured.count) ** 0.5}

    return Fit(clip, parameters, losses, evaluate)


SourceMaker = Callable[[ClipSurgery, PQSettings | AQSettings], OpinionSource]
"""`make(clip, settings)` gives a source of opinions in place of a table."""
FREE = ("learning_rate", "weight_decay", "order_weight", "factor_weight", "keep_quality", "epochs")
"""Settings that may change between runs; all others fix what is learnt and from what."""


def train_map(
    kind: Literal["pq", "aq"],
    out: Path,
    pipeline: str | Path,
    *,
    data: str | Path | None = None,
    images: str | Path | None = None,
    source: SourceMaker | None = None,
    config: str | Path | None = None,
    minutes: float | None = None,
    steps: int | None = None,
    seed: int | None = None,
    cpu: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Fit one map to opinions, or go on: PQ-Map's prompts (`out`/pq_prompts) or the CLIP of AQ-Map (`out`/clip)."""
    schema: type[PQSettings | AQSettings] = PQSettings if kind == "pq" else AQSettings
    settings = load_config(config_file(f"train/{kind}", config or "paper"), schema)
    if min(settings.batch - 1, settings.epochs) < 1 or settings.learning_rate <= 0:
        raise ConfigError("batch must be at least 2, epochs at least 1 and learning_rate above 0.")
    if seed is not None:
        settings = replace(settings, seed=seed)
    clip = load_clip(pipeline).float()
    if source is not None:
        opinions = source(clip, settings)
    elif data is not None:
        opinions = RatedTable(clip, data, images, seed=settings.seed, plan=settings.split, prompted=kind == "aq")
        for note in opinions.data.notes:
            progress(note)
    else:
        raise ConfigError(f"Give `data`: a CSV file of opinions to fit the {kind.upper()}-Map to (docs/maps.md).")
    identity = {"opinions": opinions.identity}
    in_place = Path(pipeline).is_dir() and out.is_dir() and out.samefile(pipeline)
    if kind == "pq" or not in_place:
        identity["pipeline_clip"] = weights_digest(clip)
    record = Record.load(out / "training", kind)
    stated = asdict(settings) | identity
    record.check(stated, out, FREE)
    if steps is None and minutes is None and opinions.size is None:
        raise ConfigError("This source of opinions never ends: give a budget with --minutes N or --steps N.")
    whole = settings.epochs * math.ceil((opinions.size or 0) / settings.batch)
    budget = Budget.rest(minutes, steps, whole, record.samples // settings.batch)
    torch.manual_seed(settings.seed)
    accelerator, resumed = Accelerator(cpu=cpu), bool(record.samples)
    calibration, device = stored_calibration(pipeline), accelerator.device
    component = "pq_prompts" if isinstance(settings, PQSettings) else "clip"
    if isinstance(settings, AQSettings):
        fitted = ClipSurgery.from_pretrained(out / component) if resumed else load_clip(pipeline)
        prompts = load_prompts(pipeline)
        tokenizer = load_tokenizer(pipeline)
        fit = fit_alignment(opinions, settings, device, fitted, tokenizer, prompts, calibration, clip)
    else:
        if resumed:
            prompts = PQPrompts.from_pretrained(out / component)
        elif settings.start == "pipeline":
            prompts = load_prompts(pipeline)
        else:
            tokenizer = load_tokenizer(pipeline)
            prompts = PQPrompts.from_clip(clip, tokenizer, settings.n_ctx, feature_norm=settings.feature_norm)
        fit = fit_prompts(opinions, settings, device, clip, prompts, calibration)
    if not record.rows:  # the first row is of before
        record.rows.append({"step": 0, "samples": 0, "cpu_seconds": 0.0} | fit.evaluate())
    done = record.samples // settings.batch
    train(
        lambda number: fit.losses(opinions.draw(done + number, settings.batch)),
        [torch.optim.Adam(fit.parameters, settings.learning_rate, weight_decay=settings.weight_decay)],
        budget,
        record,
        settings=stated,
        evaluate=fit.evaluate,
        save=lambda: fit.part.save_pretrained(out / component),
        batch=settings.batch,
        accelerator=accelerator,
    )
    curves(record, out / "training" / f"{record.name}.png")
    names = [name for name in record.rows[0] if name not in ("step", "samples", "cpu_seconds")]
    found = {
        "before": {name: record.rows[0][name] for name in names},
        "after": {name: record.rows[-1][name] for name in names},
        "samples": record.samples,
        "runs": len(record.runs),
    }
    write_atomic(out / component / "metrics.json", (json.dumps(found, indent=1) + "\n").encode())
    return found

"""Frozen judges: a score and the features it was made from; with a rectifier on top, a calibrated judge."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from grefine.config import build
from grefine.errors import ConfigError, MetricUnavailable, WeightsMissing, nearest
from grefine.io.atomic import write_text
from grefine.models.five_level import FiveLevelCLIP
from grefine.models.rectifier import Rectifier
from grefine.scorers.resolve import load_scorer

FIVE_LEVEL = "five_level"
JUDGE_FILE = "judge.json"
RECTIFIER = "rectifier"


@dataclass(frozen=True, slots=True)
class JudgeSource:
    """Which judge is frozen, and what the rectifier reads from it."""

    metric: str = FIVE_LEVEL
    """"five_level", or a metric of the registry."""
    weights: str = ""
    """Its folder of weights; empty for what lies in the cache."""
    features: str = "patches"
    """Of the five-level judge "patches" or "embedding"; of a metric the name of a layer of its network."""
    value: str = ""
    """Which value of a metric that has several; empty for its only or first one."""
    centre: float = 0.0
    scale: float = 1.0
    """The rectifier sees (score - centre) / scale, turned round for metrics that are better when lower."""
    allow_noncommercial: bool = False


class FiveLevelJudge:
    """The five-level CLIP judge, frozen."""

    def __init__(self, model: FiveLevelCLIP, features: str = "patches") -> None:
        if features not in ("patches", "embedding"):
            raise ConfigError(f"The five-level judge offers 'patches' or 'embedding', not '{features}'.")
        self.model = model.eval().requires_grad_(False)
        self.features: Any = features
        self.width = model.config["vision_width" if features == "patches" else "embed_dim"]

    def read(self, images: Sequence[Image.Image]) -> tuple[Tensor, Tensor]:
        """Return scores `(B,)`, high = good, and features `(B, tokens, width)`."""
        out: Any = self.model.judge(images, self.features)
        return out.quality, out.features


class ScorerJudge:
    """Any scorer whose network lies open: a hook on one of its layers gives the features."""

    def __init__(self, scorer: Any, layer: str, value: str = "") -> None:
        """Take a scorer with a `model`; `layer` is the dotted name of a module in it."""
        network = getattr(scorer, "model", None) or getattr(scorer, "metric", None)
        if not isinstance(network, nn.Module):
            raise MetricUnavailable(f"'{scorer.spec.name}' exposes no features: it has no network to look into.")
        modules = dict(network.named_modules())
        if layer not in modules:
            raise ConfigError(f"'{scorer.spec.name}' has no layer '{layer}'{nearest(layer, modules)}")
        self.scorer, self.layer, self.value = scorer, modules[layer], value
        probe = Image.new("RGB", (256, 256), (128, 120, 110))
        self.width = self.read([probe])[1].shape[-1]

    def read(self, images: Sequence[Image.Image]) -> tuple[Tensor, Tensor]:
        """Rate pictures one by one; a network that runs on several crops of one has its features averaged."""
        scores, features = zip(*map(self._one, images), strict=True)
        return torch.stack(scores), torch.stack(features)

    def _one(self, image: Image.Image) -> tuple[Tensor, Tensor]:
        seen: list[Tensor] = []
        hook = self.layer.register_forward_hook(lambda _module, _given, out: seen.append(_tokens(out)))
        try:
            scores = self.scorer([image], None)[0]
        finally:
            hook.remove()
        if not seen:
            raise ConfigError("The chosen layer takes no part in this metric's score; choose another.")
        name = self.value or next(iter(scores.keys()))
        if name not in scores:
            raise ConfigError(f"'{self.scorer.spec.name}' has no value '{name}'; it gives {', '.join(scores.keys())}.")
        sign = -1.0 if self.scorer.spec.direction == "lower" else 1.0
        features = torch.cat(seen).mean(0)
        return torch.tensor(sign * scores[name]), torch.from_numpy(features.float().cpu().numpy().copy())


def _tokens(out: Any) -> Tensor:
    out = out[0] if isinstance(out, (tuple, list)) else out
    if not isinstance(out, Tensor) or out.ndim not in (2, 3, 4):
        raise ConfigError("The chosen layer does not give (B, width), (B, tokens, width) or (B, width, H, W).")
    if out.ndim < 4:
        return out[:, None] if out.ndim == 2 else out
    # A fixed grid of cells, so that pictures of any size have the same number of tokens.
    return torch.nn.functional.adaptive_avg_pool2d(out, 7).flatten(2).transpose(1, 2)


FrozenJudge = FiveLevelJudge | ScorerJudge
"""Rates pictures and shows what it saw."""


def load_judge(source: JudgeSource, device: str = "cpu") -> FrozenJudge:
    if source.metric == FIVE_LEVEL:
        folder = Path(source.weights)
        if not source.weights or not (folder / "config.json").is_file():
            raise WeightsMissing(
                f"The five-level judge needs a folder of weights, and '{source.weights}' is none; `grefine train "
                "five-level` makes one, or name a metric of the registry instead."
            )
        return FiveLevelJudge(FiveLevelCLIP.from_pretrained(folder).to(device), source.features)
    # Forced, because a rectifier learns from whatever the judge says, right or wrong.
    scorer = load_scorer(source.metric, source.weights or None, device, source.allow_noncommercial, force=True)
    if scorer.spec.needs_prompt or scorer.spec.needs_reference:
        raise ConfigError(f"'{source.metric}' looks at more than the picture; a frozen judge must not.")
    return ScorerJudge(scorer, source.features, source.value)


class CalibratedJudge:
    """A frozen judge whose score is corrected by a rectifier (Eq. 3)."""

    def __init__(self, judge: FrozenJudge, rectifier: Rectifier, source: JudgeSource) -> None:
        self.judge, self.rectifier, self.source = judge, rectifier.eval(), source

    @torch.no_grad()
    def both(self, images: Sequence[Image.Image]) -> tuple[Tensor, Tensor]:
        """Return the frozen judge's own scores and the corrected ones, each `(B,)`, high = good."""
        q, features = self.judge.read(images)
        device = self.rectifier.device
        return q.cpu(), self.rectifier(features.to(device), seen_score(q, self.source).to(device)).score.cpu()

    def save(self, folder: str | Path) -> None:
        """Write the rectifier and the name of its judge; the judge's own weights stay where they are."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.rectifier.save_pretrained(folder / RECTIFIER)
        write_text(folder / JUDGE_FILE, json.dumps(asdict(self.source), indent=1) + "\n")

    @classmethod
    def load(cls, folder: str | Path, device: str = "cpu") -> "CalibratedJudge":
        path = Path(folder) / JUDGE_FILE
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"'{folder}' holds no calibrated judge; `grefine train rectifier` makes one.") from error
        source = build(JudgeSource, stored, where=f"'{path}'")
        rectifier = Rectifier.from_pretrained(Path(folder) / RECTIFIER)
        return cls(load_judge(source, device), rectifier.to(device), source)


def seen_score(q: Tensor, source: JudgeSource) -> Tensor:
    """Return the judge's score as the rectifier sees it."""
    return (q - source.centre) / source.scale

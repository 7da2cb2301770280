"""Draw the maps of pictures, whoever provides them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Self

import numpy as np
from PIL import Image

from grefine.errors import ConfigError
from grefine.indicators.aq_map import AQMap, Asker
from grefine.indicators.calibration import Calibration
from grefine.indicators.heatmap import ENDINGS, HeatmapAlignment, HeatmapQuality, Source, read_heatmap
from grefine.indicators.pq_map import PQMap
from grefine.indicators.providers import OWN, Provider, maps_of, open_source
from grefine.refine.job import Job, timed
from grefine.refine.settings import RefineConfig
from grefine.scorers import vqascore
from grefine.scorers.resolve import load_scorer
from grefine.types import AlignmentMap, MapSpec, ParsedPrompt, QualityMap

QualityProvider = Source | Callable[[Sequence[Image.Image]], Sequence[QualityMap | np.ndarray]]
"""Your own heatmaps in place of PQ-Map: an array, a file, a list of these, a folder, or `function(images) -> maps`; or
the name of a provider that is installed."""
AlignmentProvider = (
    Source | Callable[[Sequence[Image.Image], Sequence[ParsedPrompt]], Sequence[AlignmentMap | np.ndarray]]
)
"""Your own in place of AQ-Map: the same, or `function(images, prompts) -> maps`."""


VQA = MapSpec(vqascore.SPEC.name)
"""Who decides which phrases are missing where `phrase_judge` asks for it."""


def guesses(stored: Any, config: RefineConfig, quality: Any, alignment: Any) -> bool:
    """Say whether an automatic mask would be cut at thresholds that nobody measured, given whose maps are drawn."""
    ours, own_words = (
        one is None or (isinstance(one, Provider) and OWN[kind] in one.names)
        for kind, one in (("quality", quality), ("alignment", alignment))
    )
    judged = ours or (bool(config.use_aq) and own_words and config.phrase_judge == "clip")
    return judged and (config.gated or config.mask_threshold is None) and not Calibration.of(stored).calibrated


@dataclass(frozen=True)
class MapDrawer:
    """Both maps over one encoding of the pictures; a provider replaces the map that it stands for."""

    pq: PQMap
    aq: AQMap | None
    quality: Callable[..., Any] | None = None
    alignment: Callable[..., Any] | None = None

    @classmethod
    def of(
        cls,
        pq: PQMap,
        aq: AQMap | None,
        quality: QualityProvider | None,
        alignment: AlignmentProvider | None,
        phrase_judge: str = "clip",
    ) -> Self:
        """Put what a caller gives in the place of our maps; a text that is no path names a provider."""
        device = str(pq.clip.device)
        given = [_opened("quality", quality, device), _opened("alignment", alignment, device)]
        aq_draws = given[1] is None or (isinstance(given[1], Provider) and OWN["alignment"] in given[1].names)
        if aq is not None and phrase_judge != "clip" and aq_draws:
            aq = aq.asking(_asker(phrase_judge, device))
        return cls(pq, aq, *(one.with_own(pq, aq) if isinstance(one, Provider) else one for one in given))

    @property
    def drawn_by(self) -> list[MapSpec]:
        """The providers from outside that draw one of the maps."""
        asked = [VQA] if self._asks else []
        return [one.spec for one in (self.quality, self.alignment) if isinstance(one, Provider)] + asked

    @property
    def _asks(self) -> bool:
        return self.aq is not None and self.aq.asker is not None

    @property
    def calibration(self) -> Calibration:
        """The thresholds that count: half where a provider, or a map that nobody measured, stands for ours."""
        found = self.pq.calibration
        if isinstance(self.quality, Provider):
            return replace(found, mask_threshold=0.5, p_gate=0.5, worst_gate=None)
        foreign = self.quality is not None and not found.calibrated
        return replace(found, mask_threshold=0.5) if foreign else found

    def __call__(
        self, images: Sequence[Image.Image], prompts: Sequence[ParsedPrompt | None]
    ) -> list[tuple[QualityMap, AlignmentMap]]:
        """Return both maps of every picture; without a prompt the second says that only p counts."""
        ours = self.quality is None or (self.alignment is None and self.aq is not None and any(prompts))
        encoding = self.pq.encode(images) if ours else None
        qualities = self._qualities(images, encoding)
        return list(zip(qualities, self._alignments(images, prompts, encoding), strict=True))

    def qualities(self, images: Sequence[Image.Image]) -> list[QualityMap] | None:
        """Return the quality maps of pictures that are not those of the call; None where given maps say nothing."""
        return None if _is_given(self.quality) else self._qualities(images)

    def scores(self, images: Sequence[Image.Image], prompts: Sequence[ParsedPrompt | None]) -> list[dict[str, float]]:
        """Return p, and a where a prompt has something to judge, of pictures that are not those of the call.

        Given maps say nothing of them, and nobody from outside judges the repair of a mask that he drew.
        """
        from_outside = [_is_given(one) or isinstance(one, Provider) for one in (self.quality, self.alignment)]
        measures_p, measures_a = not from_outside[0], any(prompts) and not (from_outside[1] or self._asks)
        ours = (measures_p and self.quality is None) or (measures_a and self.alignment is None and self.aq is not None)
        encoding = self.pq.encode(images) if ours else None
        records: list[dict[str, float]] = [{} for _ in images]
        if measures_p:
            for record, quality in zip(records, self._qualities(images, encoding), strict=True):
                record["p"] = quality.score
        if measures_a:
            alignments = self._alignments(images, prompts, encoding)
            for record, alignment in zip(records, alignments, strict=True):
                record.update({} if alignment.score is None else {"a": alignment.score})
        return records

    def _qualities(self, images: Sequence[Image.Image], encoding: Any = None) -> list[QualityMap]:
        if self.quality is None:
            return self.pq(images, encoding=encoding)
        maps = _checked("quality", images, self.quality(images))
        return [m if isinstance(m, QualityMap) else QualityMap(m, float(m.mean())) for m in maps]

    def _alignments(
        self, images: Sequence[Image.Image], prompts: Sequence[ParsedPrompt | None], encoding: Any = None
    ) -> list[AlignmentMap]:
        ones = [np.ones((image.height, image.width), np.float32) for image in images]
        found = [AlignmentMap(one, None, (), "No prompt: only p counts.") for one in ones]
        asked = [index for index, prompt in enumerate(prompts) if prompt is not None]
        draw = self.aq if self.alignment is None else self.alignment
        if not asked or draw is None:
            return found
        if self.alignment is None or _is_given(self.alignment):  # one for each picture, whatever was asked of it
            words = [prompt or "" for prompt in prompts]
            every = draw(images, words, encoding=encoding)
            drawn = [every[index] for index in asked]
        else:
            some = [images[index] for index in asked]
            drawn = _checked("alignment", some, draw(some, [prompts[index] for index in asked]))
        for index, one in zip(asked, drawn, strict=True):
            found[index] = one if isinstance(one, AlignmentMap) else AlignmentMap(one, None)
        return found


def _opened(kind: Any, given: Any, device: str) -> Callable[..., Any] | None:
    """Return what draws in the place of our map; None for nobody."""
    if isinstance(given, str) and Path(given).suffix.lower() not in ENDINGS and not Path(given).exists():
        given = maps_of(open_source(kind, given, device), ())
    if given is None or callable(given):
        return given
    return HeatmapQuality(given) if kind == "quality" else HeatmapAlignment(given)


@lru_cache(maxsize=1)
def _asker(phrase_judge: str, device: str) -> Asker:
    """Return who answers for `vqa` or `vqa=FOLDER`, loaded once."""
    scorer = load_scorer(VQA.name, phrase_judge.partition("=")[2] or None, device)
    return partial(scorer.ask, against=True)  # type: ignore[attr-defined]


def draw_maps(jobs: Sequence[Job], maps: MapDrawer) -> list[Job]:
    """Draw both maps of every image. (Eq. 1-8)"""
    with timed(jobs, "maps"):
        first = list({job.row: job for job in jobs}.values())  # samples of a picture share its maps
        found = maps([job.picture.image for job in first], [job.parsed for job in first])
    by_row = dict(zip([job.row for job in first], found, strict=True))
    drawn = []
    for job in jobs:
        quality, alignment = by_row[job.row]
        notes = (alignment.note,) if alignment.note else ()
        drawn.append(replace(job, quality=quality, alignment=alignment, warnings=(*job.warnings, *notes)))
    return drawn


def _is_given(provider: Any) -> bool:
    """Say whether maps were made for the pictures of the call alone, so that they cannot be drawn of others."""
    return isinstance(provider, HeatmapQuality)


def _checked(name: str, images: Sequence[Image.Image], maps: Any) -> list[Any]:
    """Return what a provider gave, one map per picture; arrays are read as maps in 0..1."""
    if isinstance(maps, QualityMap | AlignmentMap) or not hasattr(maps, "__len__"):
        raise ConfigError(f"The {name} map provider returned a {type(maps).__name__}: return one map for each image.")
    if len(maps) != len(images):
        raise ConfigError(f"The {name} map provider returned {len(maps)} maps for {len(images)} images.")
    found = []
    for image, drawn in zip(images, maps, strict=True):
        if isinstance(drawn, QualityMap | AlignmentMap):
            read_heatmap(drawn.values.round(3), image.size)  # what is wrong with it is told
            found.append(drawn)
        else:
            found.append(read_heatmap(drawn, image.size))
    return found

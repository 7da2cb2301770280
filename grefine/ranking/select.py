"""From folders of outputs to a study: measure, choose the images on which two methods differ most (MAD), copy."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from grefine.errors import ConfigError, WeightsMissing
from grefine.indicators.draw import png
from grefine.io.atomic import write_atomic
from grefine.io.content import content_hash
from grefine.io.images import decode_image, read_bytes
from grefine.ranking.features import OfflineDistances, inputs_for, match_methods
from grefine.ranking.study import IMAGES, STUDY_FILE, VERSION, CheckPair, Study, StudyPair, save_study

if TYPE_CHECKING:
    from grefine.ranking.deep import DeepDistances

LAMBDA = 0.1
WEB_FORMATS = {"PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp"}


@dataclass(frozen=True, slots=True)
class Pick:
    index: int
    d1: float
    d2: float
    """Mean distance to the images already chosen; 0 for the first."""


def greedy_mad(d1: np.ndarray, distances: Callable[[int], np.ndarray], k: int, lambda_: float = LAMBDA) -> list[Pick]:
    """Choose k images: next = argmax D1(x) + lambda D2(x, S), D2 the mean distance to the chosen set S (Eq. 1).

    `d1` is the `(n,)` distance of the two methods' outputs; `distances` gives those of one image to all and is called
    once per pick, so that k picks cost k * n of them. Ties go to the larger D1, then to the image listed first.
    """
    d1 = np.asarray(d1, dtype=np.float64)
    if not np.isfinite(d1).all():
        raise ConfigError("Some distances between two methods' outputs are not finite; the images cannot be compared.")
    order = np.argsort(-d1, kind="stable")
    running = np.zeros(len(d1))
    free = np.ones(len(d1), dtype=bool)
    picks: list[Pick] = []
    for _ in range(min(k, len(d1))):
        d2 = running / max(len(picks), 1)
        gain = np.where(free, d1 + lambda_ * d2, -np.inf)
        best = int(order[np.argmax(gain[order])])
        picks.append(Pick(best, float(d1[best]), float(d2[best])))
        free[best] = False
        if lambda_:
            running += distances(best)
    return picks


def random_picks(n: int, k: int, generator: np.random.Generator, taken: set[int]) -> list[int]:
    """Return k random image positions outside `taken`, fewer where there are not enough."""
    free = np.array([i for i in range(n) if i not in taken], dtype=np.int64)
    return [int(i) for i in generator.permutation(free)[:k]]


def choose_distances(
    name: str, cache: Path | None = None, progress: Callable[[str], None] = lambda _: None
) -> "OfflineDistances | DeepDistances":
    """Return the distances called `name`: "offline", "deep" (DISTS and VGG16-BN), or "auto" (deep where present)."""
    if name not in ("auto", "offline", "deep"):
        raise ConfigError(f"No distance '{name}': choose auto, offline or deep.")
    if name == "offline":
        return OfflineDistances(cache, progress)
    from grefine.ranking.deep import DeepDistances, missing_weights

    missing = missing_weights()
    if not missing:
        return DeepDistances(cache, progress)
    if name == "deep":
        raise WeightsMissing(
            f"Deep distances need {', '.join(missing)}, which are not on this machine; put them into the torch hub "
            "checkpoints folder or pass --distance offline."
        )
    progress("weights of DISTS or VGG are absent: comparing by our own offline distances")
    return OfflineDistances(cache, progress)


@dataclass(frozen=True, slots=True)
class PairsConfig:
    """How the pairs of a study are chosen."""

    k: int = 16
    """Images per pair of methods."""
    random: int = 0
    """Further images per pair of methods, drawn at random, for comparison."""
    lambda_: float = LAMBDA
    distance: str = "auto"
    """"auto", "offline" or "deep"; see `choose_distances`."""
    training: int = 3
    """Pairs with a known answer that a subject begins with."""
    attention: int | None = None
    """Pairs with a known answer among the others; one in 25 by default, at least 2."""
    title: str = "Which picture is better?"
    question: str = "Choose the picture of higher quality. If in doubt, choose anyway."
    seed: int = 0


def build_study(
    folders: Sequence[str | Path],
    out: str | Path,
    config: PairsConfig = PairsConfig(),  # noqa: B008 - frozen
    inputs: str | Path | None = None,
    cache: Path | None = None,
    common: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> Study:
    """Choose the pairs that tell most (Eq. 1), copy their images into `out` and write its study file."""
    out = Path(out)
    for name in ("k", "random", "lambda_", "training", "attention"):
        if (getattr(config, name) or 0) < 0:
            raise ConfigError(f"{name.rstrip('_')} is {getattr(config, name)}: it must be 0 or more.")
    if config.k + config.random < 1:
        raise ConfigError("k and random are both 0: choose at least one image per pair of methods.")
    if (out / STUDY_FILE).exists():
        raise ConfigError(f"'{out}' already holds a study, perhaps with votes; choose another folder.")
    found = match_methods(folders, common)
    distances = choose_distances(config.distance, cache, progress)
    progress(f"{len(found.methods)} methods, {len(found.names)} images each; {distances.appearance_name}")
    semantic = distances.semantics(inputs_for(inputs, found.names) if inputs else None, found)
    generator = np.random.default_rng(config.seed)
    store = _ImageStore(out / IMAGES)
    files = {(m, n): path for m in found.methods for n, path in zip(found.names, found.paths[m], strict=True)}
    pairs: list[StudyPair] = []

    def add(a: str, b: str, group: str, order: int, index: int, d1: float, d2: float = 0.0) -> None:
        image = found.names[index]
        name = content_hash("\0".join((a, b, image, group)))[:12]
        copies = (store.copy(files[a, image]), store.copy(files[b, image]))
        pairs.append(StudyPair(name, a, b, image, *copies, group, order, round(d1, 6), round(d2, 6)))

    for a, b in combinations(found.methods, 2):
        d1 = distances.appearance(found, a, b)
        picks = greedy_mad(d1, semantic, config.k, config.lambda_)
        for order, pick in enumerate(picks):
            add(a, b, "mad", order, pick.index, pick.d1, pick.d2)
        for order, index in enumerate(random_picks(len(d1), config.random, generator, {p.index for p in picks})):
            add(a, b, "random", order, index, float(d1[index]))
    # Pairs with a known answer: a picture beside a damaged copy of it.
    attention = max(2, len(pairs) // 25) if config.attention is None else config.attention
    sources = sorted({(p.method_a, p.image) for p in pairs} | {(p.method_b, p.image) for p in pairs})
    random.Random(config.seed).shuffle(sources)
    checks = []
    for number in range(config.training + attention):
        path = files[sources[number % len(sources)]]
        kind = "training" if number < config.training else "attention"
        name = content_hash(f"{config.seed}\0{kind}\0{number}")[:12]
        checks.append(CheckPair(name, kind, store.copy(path), store.damaged(path)))
    study = Study(
        version=VERSION,
        title=config.title,
        question=config.question,
        methods=list(found.methods),
        appearance=distances.appearance_name,
        semantics=distances.semantics_name,
        lambda_=config.lambda_,
        k=config.k,
        seed=config.seed,
        candidates=len(found.names),
        pairs=pairs,
        checks=checks,
        images=store.digests,
    )
    save_study(study, out)
    return study


class _ImageStore:
    """Copies images under names that say nothing about where they come from."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.digests: dict[str, str] = {}
        self._names: dict[Path, str] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def copy(self, path: Path) -> str:
        if path not in self._names:
            data = read_bytes(path)
            loaded = decode_image(data, path)
            # Only plain upright files go as they are; everything else would look different in a browser.
            plain = loaded.format in WEB_FORMATS and not loaded.notes and not loaded.embedded.exif
            self._names[path] = (
                self._put(data, WEB_FORMATS[loaded.format]) if plain else self._put(png(loaded.rgb), ".png")
            )
        return self._names[path]

    def damaged(self, path: Path) -> str:
        image = decode_image(read_bytes(path), path).rgb
        small = (max(1, image.width // 8), max(1, image.height // 8))
        coarse = image.resize(small, Image.Resampling.BOX).resize(image.size, Image.Resampling.NEAREST)
        return self._put(png(coarse), ".png")

    def _put(self, data: bytes, suffix: str) -> str:
        digest = content_hash(data)
        name = digest[:20] + suffix
        if name not in self.digests:
            write_atomic(self.folder / name, data)
            self.digests[name] = digest
        return name

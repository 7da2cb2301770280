"""What a calibration looks at: how good images score with their own prompts, and with words that are not theirs."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal

import numpy as np
from PIL import Image
from torch import Tensor

from grefine.errors import ConfigError, PromptError
from grefine.indicators.aq_map import AQMap, is_judged
from grefine.indicators.encoding import plain
from grefine.indicators.grids import GridMap
from grefine.indicators.pq_map import PQMap
from grefine.io.content import content_hash
from grefine.types import ParsedPrompt, Phrase

ENOUGH_IMAGES = 32
ENOUGH_NOUNS = 4
DISTRACTORS = 4
"""Nouns of other prompts that every image is asked for in vain."""

Group = Literal["noun", "other noun", "phrase", "other phrase", "prompt", "other prompt", "pair"]


@dataclass
class Evidence:
    """Similarities by group, each row (class raw, class less empty, peak raw, peak less empty), and qualities."""

    rows: dict[Group, list[list[float]]] = field(default_factory=lambda: defaultdict(list))
    """Of a "pair" that of a phrase and then that of its noun, of the same image."""
    pair_images: list[int] = field(default_factory=list)
    """Which image each pair is of."""
    class_chances: list[np.ndarray] = field(default_factory=list)
    """`(4,)` factor probabilities at the class token."""
    patch_chances: list[tuple[GridMap, ...]] = field(default_factory=list)
    """Factor probabilities of every patch, as one map per factor."""
    image_hashes: list[str] = field(default_factory=list)
    prompt_hashes: list[str] = field(default_factory=list)

    def group(self, name: Group) -> np.ndarray:
        """Return `(n, 4)` similarities of one group."""
        return np.asarray(self.rows[name], dtype=np.float64).reshape(-1, 4)

    def pairs(self, column: int) -> np.ndarray:
        """Return `(n, 2)` similarities of phrases and their nouns."""
        return self.group("pair")[:, column].reshape(-1, 2)

    def separation(self, name: Literal["noun", "phrase"], column: int) -> float:
        """Return how well own words are told from foreign ones."""
        foreign: Group = f"other {name}"  # pyright: ignore[reportAssignmentType]
        return separation_of(self.group(name)[:, column], self.group(foreign)[:, column])


def gather(pq: PQMap, aq: AQMap, images: Iterable[Image.Image], prompts: Sequence[ParsedPrompt]) -> Evidence:
    """Look at every image once and at its words, own and foreign. Images stream; only numbers stay."""
    nouns = list(dict.fromkeys(phrase.noun for prompt in prompts for phrase in filter(is_judged, prompt.phrases)))
    if len(prompts) < ENOUGH_IMAGES:
        raise ConfigError(f"Calibration needs at least {ENOUGH_IMAGES} good images with prompts, got {len(prompts)}.")
    if len(nouns) < ENOUGH_NOUNS:
        raise ConfigError(
            f"The prompts name too few different things ({', '.join(nouns) or 'none'}): {ENOUGH_NOUNS} are needed."
        )
    evidence, source, done = Evidence(), iter(images), 0
    while batch := list(islice(source, pq.batch_size)):
        if done + len(batch) > len(prompts):
            raise PromptError(f"Calibration got more images than prompts ({len(prompts)}): give one prompt per image.")
        encoding = pq.encode(batch)
        for index, image in enumerate(batch):
            evidence.image_hashes.append(content_hash(image.convert("RGB").tobytes()))
            _look(evidence, aq, encoding.whole[index], prompts, done + index, nouns)
            evidence.class_chances.append(pq.chances(encoding.whole[index : index + 1])[0, 0].cpu().numpy())
            views = [pq.chances(features[None])[0, 1:] for _, features in encoding.views[index]]
            evidence.patch_chances.append(
                tuple(encoding.grid_map(index, [view[:, factor] for view in views], "bicubic") for factor in range(4))
            )
        done += len(batch)
    if done != len(prompts):
        raise PromptError(f"Calibration got {done} images for {len(prompts)} prompts: give one prompt per image.")
    different = len(set(evidence.image_hashes))
    if different < ENOUGH_IMAGES:
        raise ConfigError(f"Only {different} of the {done} calibration images are different: give {ENOUGH_IMAGES}.")
    return evidence


def separation_of(present: np.ndarray, absent: np.ndarray) -> float:
    """Return how often a present value exceeds an absent one (area under the ROC curve); 0.5 tells nothing."""
    if not len(present) or not len(absent):
        return 0.5
    from scipy.stats import rankdata

    ranks = rankdata(np.concatenate([present, absent]))[: len(present)]
    return float((ranks.sum() - len(present) * (len(present) + 1) / 2) / (len(present) * len(absent)))


def _look(
    evidence: Evidence, aq: AQMap, whole: Tensor, prompts: Sequence[ParsedPrompt], index: int, nouns: list[str]
) -> None:
    own = [*filter(is_judged, prompts[index].phrases)]
    rng = np.random.default_rng(index)
    foreign = [noun for noun in nouns if noun not in prompts[index].text]
    foreign = [foreign[i] for i in rng.permutation(len(foreign))[:DISTRACTORS]]
    twisted = [_twist(phrase, prompts, index, rng) for phrase in own]
    swapped = next((p.text for p in (*prompts[index + 1 :], *prompts[:index]) if p.text != prompts[index].text), None)
    texts: dict[tuple[Group, str], None] = {("prompt", prompts[index].text): None}
    for group, members in (
        ("noun", [phrase.noun for phrase in own]),
        ("phrase", [phrase.text for phrase in own]),
        ("other noun", foreign),
        ("other phrase", [text for text in twisted if text]),
        ("other prompt", [swapped] if swapped else []),
    ):
        texts |= dict.fromkeys((group, text) for text in members)  # pyright: ignore[reportAssignmentType]
    features = aq.text_features([*(text for _, text in texts), ""]).to(whole.device)
    raw = plain(whole[None], features)[0].cpu().numpy().astype(np.float64)
    cosines = np.stack([raw[:, :-1], raw[:, :-1] - raw[:, -1:]])  # as they are, and less the empty text's
    by_text = {}
    for column, (group, text) in enumerate(texts):
        row = [*cosines[:, 0, column], *cosines[:, 1:, column].max(axis=1)]
        by_text[group, text] = row
        evidence.rows[group].append(row)
    for phrase in own:
        evidence.rows["pair"] += [by_text["phrase", phrase.text], by_text["noun", phrase.noun]]
        evidence.pair_images.append(index)
    evidence.prompt_hashes.append(content_hash(prompts[index].text))


def _twist(phrase: Phrase, prompts: Sequence[ParsedPrompt], index: int, rng: np.random.Generator) -> str | None:
    """Say of a phrase's noun what another prompt says of its own; None when nothing else is said of anything."""
    own = prompts[index].text
    others = [
        " ".join(phrase.noun if word == other.noun else word for word in other.words)
        for prompt in (prompts[i] for i in rng.permutation(len(prompts))[:16])
        for other in filter(is_judged, prompt.phrases)
        if len(other.words) > 1 and other.noun in other.words and not all(word in own for word in other.words[:-1])
    ]
    return next((text for text in others if text != phrase.text), None)

"""AQ-Map: which phrases of its prompt an image misses, and where they would have to be drawn.

G-Refine (arXiv:2404.18343), Eq. 5, 6 and 8. Nothing of the authors' AQ-Map was released; the encoder is the CLIP of
PQ-Map, so that one look at an image serves both.
"""

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from grefine.errors import ConfigError, PromptError
from grefine.indicators.calibration import Calibration, Scale, check_belongs
from grefine.indicators.defects import (
    BACKGROUND,
    LEAVES,
    OPEN,
    THING,
    alignment_score,
    carrier_phrase,
    combine_regions,
    depends_on,
    find_defect,
    hang_together,
    misplaced,
    region_phrase,
    too_few,
)
from grefine.indicators.encoding import MOST_TILES, Encoding, TextFeatures, encode_images, plain
from grefine.indicators.grids import GridMap, GridPhraseAlignment
from grefine.indicators.readings import Readings
from grefine.models.clip_surgery import ClipSurgery
from grefine.text.parse import parse
from grefine.types import AlignmentMap, DefectKind, ParsedPrompt, Phrase

Prompt = str | ParsedPrompt
Asker = Callable[[Sequence[Image.Image], Sequence[str]], Sequence[float]]
"""How sure somebody is that each picture shows its text, 0..1."""
UNDECIDED = 0.5
"""Of an asker's answers: what is less sure counts as missing."""


class AQMap:
    """A view of a CLIP and its tokenizer: images and prompts in, alignment maps out.

    Args:
        clip: the CLIP with value-value attention.
        tokenizer: its tokenizer, of transformers.
        calibration: as `grefine calibrate` writes it, or a dictionary with some of its keys; None uses guesses, and
            the result says so.
        readings: how the paper's open places are read, a `Readings` or a dictionary with some of its keys.
        side: input side of the map's pass (a finer grid); None takes the calibration's.
        tiles: most tiles along each side of a large picture; 1 turns them off.
        batch_size: images per forward pass.
    """

    def __init__(
        self,
        clip: ClipSurgery,
        tokenizer: Any,
        *,
        calibration: Calibration | Mapping[str, Any] | None = None,
        readings: Readings | Mapping[str, Any] | None = None,
        side: int | None = None,
        tiles: int = MOST_TILES,
        batch_size: int = 8,
    ) -> None:
        self.clip = clip
        self.readings = Readings.read(readings)
        self.calibration = self.readings.calibrated(Calibration.of(calibration))
        check_belongs(self.calibration, clip)
        self.text_features = TextFeatures(clip, tokenizer)
        self.side = side or self.calibration.side
        self.tiles, self.batch_size = tiles, batch_size
        self.asker: Asker | None = None
        """Who decides in CLIP's place which phrases are missing; CLIP still says where."""

    def asking(self, asker: Asker) -> "AQMap":
        """Return an AQ-Map of which somebody else decides which phrases are missing."""
        other = copy(self)
        other.asker = asker
        return other

    def encode(self, images: Sequence[Image.Image]) -> Encoding:
        """Look at the images once; PQ-Map can read the same encoding."""
        return encode_images(self.clip, images, self.readings, self.side, self.tiles, self.batch_size)

    @torch.no_grad()
    def __call__(
        self, images: Sequence[Image.Image], prompts: Sequence[Prompt], encoding: Encoding | None = None
    ) -> list[AlignmentMap]:
        """Judge each image against its own prompt."""
        if isinstance(prompts, str) or len(prompts) != len(images):
            given = "one text" if isinstance(prompts, str) else f"{len(prompts)} prompts"
            raise PromptError(f"AQ-Map needs one prompt per image: got {given} for {len(images)} images.")
        encoding = encoding or self.encode(images)
        if len(encoding) != len(images):
            raise ConfigError(f"The encoding is of {len(encoding)} images, but {len(images)} were given.")
        parsed = [parsed_prompt(prompt, self.readings) for prompt in prompts]
        answers = [None] * len(parsed) if self.asker is None else self._ask(images, parsed)
        with self.text_features.steady():
            return [
                self._judge(encoding, index, *asked) for index, asked in enumerate(zip(parsed, answers, strict=True))
            ]

    @torch.no_grad()
    def aligned_map(self, encoding: Encoding, index: int, text: str) -> GridMap:
        """Return how far each place of image `index` shows one text, 0..1, on the grids of all views. (Eq. 5)"""
        cells = [
            self._logits(features, [text], self.calibration.cells, self._single)[1:, 0].sigmoid()
            for _, features in encoding.views[index]
        ]
        return encoding.grid_map(index, cells, "bilinear")

    def _ask(self, images: Sequence[Image.Image], prompts: Sequence[ParsedPrompt]) -> list[dict[str, float] | None]:
        """Return for each picture the answers to its prompt, its phrases and their nouns; all are asked together."""
        shown, texts = [], []
        for image, prompt in zip(images, prompts, strict=True):
            asked = [text for one in prompt.phrases if is_judged(one) for text in (one.text, one.noun)]
            texts.append(list(dict.fromkeys([prompt.text, *asked])) if prompt.phrases else [])
            shown += [image] * len(texts[-1])
        assert self.asker is not None
        found = iter(self.asker(shown, [text for own in texts for text in own]) if shown else ())
        return [dict(zip(own, found, strict=False)) for own in texts]

    def _judge(
        self, encoding: Encoding, index: int, prompt: ParsedPrompt, answers: Mapping[str, float] | None
    ) -> AlignmentMap:
        (width, height), phrases = encoding.sizes[index], prompt.phrases
        if not phrases:
            note = "The prompt is empty." if not prompt.text.strip() else "The prompt names nothing that can be seen."
            return AlignmentMap(np.ones((height, width), dtype=np.float32), None, (), f"{note} Only p counts.")
        if answers is None:
            a_phs, a_pns = self._phrase_scores(encoding.whole[index], phrases)
            a_0, beta = self._prompt_score(encoding.whole[index], prompt.text), self.calibration.beta
        else:
            a_phs = [answers.get(phrase.text, 1.0) for phrase in phrases]
            a_pns = [answers.get(phrase.noun, 1.0) for phrase in phrases]
            a_0, beta = answers[prompt.text], UNDECIDED
        defects = [self._defect(*scored) for scored in zip(phrases, a_phs, a_pns, strict=True)]
        claims = [
            self._seen(encoding, index, phrase.text) if defects[j] is None and is_judged(phrase) else None
            for j, phrase in enumerate(phrases)
        ]
        claims = [self._own_claim(j, phrases, claims) for j in range(len(claims))]
        defects = [
            "noun" if defect == "attribute" and self._is_anothers(encoding, index, j, phrases, claims) else defect
            for j, defect in enumerate(defects)
        ]
        owners: list[int | None] = [None] * len(phrases)
        regions: list[GridMap | None] = [None] * len(phrases)
        carriers: dict[int, int] = {}
        for j, defect in enumerate(defects):
            if defect is None:
                continue
            owner = owners[j] = region_phrase(j, phrases, defects, self.readings)
            carrier = carrier_phrase(j, phrases, defects) if defect == "noun" and owner is None else None
            if carrier is None:
                place = None if owner is None else phrases[owner]
                regions[j] = self._region(encoding, index, j, phrases, place, claims)
            else:
                carriers[j] = carrier
        drawn = [region for region in regions if region is not None]
        E = combine_regions((region.draw() for region in drawn), (height, width), self.readings.a_combine)
        for j, carrier in carriers.items():
            regions[j], owners[j] = regions[carrier], carrier
        judged = [score for phrase, score in zip(phrases, a_phs, strict=True) if is_judged(phrase)]
        score = alignment_score(a_0, judged, beta, self.readings.a_product)
        wrong = self._misplaced(prompt, claims)
        score *= LEAVES ** len(wrong)
        alignments = tuple(
            GridPhraseAlignment(
                phrase,
                a_phs[j],
                a_pns[j],
                defects[j],
                regions[j],  # type: ignore[arg-type]
                claims[j],  # type: ignore[arg-type]
                None if owners[j] == j else owners[j],
            )
            for j, phrase in enumerate(phrases)
        )
        return AlignmentMap(1.0 - E, score, alignments, self._note(prompt, wrong))

    def _defect(self, phrase: Phrase, a_phs: float, a_pns: float) -> DefectKind | None:
        if not is_judged(phrase):
            return None
        if self.asker is not None:
            return None if a_phs >= UNDECIDED else "attribute" if a_pns >= UNDECIDED else "noun"
        limits = self.calibration.a_bound, self.calibration.margin, self.readings.noun_evidence
        return find_defect(a_phs, a_pns, *limits)

    def _is_anothers(
        self, encoding: Encoding, index: int, asked: int, phrases: Sequence[Phrase], claims: Sequence[GridMap | None]
    ) -> bool:
        """Say whether what looks like the noun of `asked` is another, met phrase's: then its own is missing."""
        if self.readings.another == "wrong":
            return False
        limit = self.calibration.claim_threshold
        # What hangs on a phrase, or what it hangs on, shows the same pixels: no rival, unless another of its kind.
        rivals = [
            claim.patches[0][1] > limit
            for j, claim in enumerate(claims)
            if claim is not None
            and _is_thing(claim)
            and (phrases[j].noun == phrases[asked].noun or not hang_together(asked, j, phrases))
        ]
        if not rivals:
            return False
        own = self._seen(encoding, index, phrases[asked].noun).patches[0][1] > limit
        alike = sum(bool((own & rival).sum() > rival.sum() / 2) for rival in rivals)
        free = own & ~np.logical_or.reduce(rivals)
        return bool(free.sum() < own.sum() / (2 * (1 + alike)))  # less than half of an equal share of them

    def _phrase_scores(self, whole: Tensor, phrases: Sequence[Phrase]) -> tuple[list[float], list[float]]:
        """Return a_phs and a_pns of all phrases. (Eq. 5)"""
        scores = []
        for texts in ([phrase.text for phrase in phrases], [phrase.noun for phrase in phrases]):
            logits = self._logits(whole, texts, self.calibration.phrases)
            rows = logits[:1] if self.calibration.phrase_score == "class" else logits[1:]
            competing = self.calibration.redundant == "compete"
            found = rows.softmax(dim=-1)[..., :-1] if competing else rows.sigmoid()
            scores.append(found.amax(dim=0).tolist())
        return scores[0], scores[1]

    def _prompt_score(self, whole: Tensor, text: str) -> float:
        """Return a_0, the whole prompt's score at the class token. (Eq. 8)"""
        if self.readings.prompt_score == "cosine":
            features = self.text_features([text]).to(whole.device)
            return float(plain(whole[None, :1], features).clamp(0.0, 1.0))
        return float(self._logits(whole[:1], [text], self.calibration.prompts, self._single).sigmoid())

    def _own_claim(self, at: int, phrases: Sequence[Phrase], claims: Sequence[GridMap | None]) -> GridMap | None:
        """Return a claim in the areas where its host is, too: "with stripes" is seen on every striped thing."""
        claim, phrase = claims[at], phrases[at]
        host = None if phrase.beside or phrase.ancestor == at else claims[phrase.ancestor]
        if claim is None or host is None or not _is_thing(host):
            return claim
        return claim.touching(host, self.calibration.claim_threshold)

    def _region(
        self,
        encoding: Encoding,
        index: int,
        asked: int,
        phrases: Sequence[Phrase],
        owner: Phrase | None,
        claims: Sequence[GridMap | None],
    ) -> GridMap | None:
        """Return where a defect belongs: on its owner, or, without one, where it looks like it or there is room."""
        if owner is not None:
            return self._seen(encoding, index, owner.noun)
        phrase, how, limit = phrases[asked], self.readings.missing_root, self.calibration.claim_threshold
        if how == "skip":
            return None
        if how == "place":
            # A thing of the asked look under another name is what stands where the asked one belongs.
            look = self.aligned_map(encoding, index, " ".join(phrase.attributes) or phrase.text)
            for ground in (claim for claim in claims if claim is not None and not _is_thing(claim)):
                look = look.beyond(ground, OPEN)  # yellow sand is no wrong thing where a yellow one is asked
            things = [
                # The dots of "a red ball with dots" on something red are no reason to look for the ball elsewhere.
                claim.outside(look, limit) if depends_on(j, asked, phrases) else claim
                for j, claim in enumerate(claims)
                if claim is not None and _is_thing(claim)
            ]
            grounds = (claims[j] for j, other in enumerate(phrases) if other.ancestor == asked and not other.beside)
            ground = next((claim for claim in grounds if claim is not None and not _is_thing(claim)), None)
            return look.one_place(things, limit, THING, ground)
        own = self.aligned_map(encoding, index, phrase.text)
        if how == "whole":
            return own.apply(np.ones_like)
        return own.stretched() if how == "stretched" else own

    def _seen(self, encoding: Encoding, index: int, text: str) -> GridMap:
        """Return where a text is seen; with the reading "peak" its best place counts as 1."""
        found = self.aligned_map(encoding, index, text)
        peak = max(float(grid.max()) for _, grid in found.patches)
        if self.readings.region_scale == "none" or peak <= 0.0:
            return found
        return found.apply(lambda grid: grid / peak)

    @property
    def _single(self) -> str:
        """What one text alone is compared with; competing needs company, so it falls back to the empty text."""
        return "empty" if self.calibration.redundant == "compete" else self.calibration.redundant

    def _logits(self, features: Tensor, texts: Sequence[str], scale: Scale, redundant: str | None = None) -> Tensor:
        """Return `(T, M)` logits of `(T, D)` features for texts. (Eq. 5)"""
        encoded = self.text_features([*texts, ""]).to(features.device)
        cosines = plain(features[None], encoded)[0]
        return scaled_logits(cosines, scale, self.clip.logit_scale.exp(), redundant or self.calibration.redundant)

    def _misplaced(self, prompt: ParsedPrompt, claims: Sequence[GridMap | None]) -> list[str]:
        """Say which things the picture shows the other way round than asked, or fewer of."""
        if self.readings.arrangement == "off":
            return []
        things = {j: claim for j, claim in enumerate(claims) if claim is not None and _is_thing(claim)}
        wrong = [*misplaced(prompt, things, self.calibration.claim_threshold)]
        if self.calibration.counts:
            wrong += filter(None, (too_few(prompt.phrases[j], claim) for j, claim in things.items()))
        return wrong

    def _note(self, prompt: ParsedPrompt, misplaced: Sequence[str]) -> str:
        notes = list(misplaced)
        length, most = len(self.text_features.tokens(prompt.text)), self.clip.context_length
        if length > most:
            notes.append(
                f"The prompt has {length} tokens and CLIP reads {most}: the whole was scored on its beginning, every "
                "phrase by itself."
            )
        if prompt.language and not any(phrase.drawable for phrase in prompt.phrases):
            notes.append(f"The prompt looks like {prompt.language}; only English ones are judged phrase by phrase.")
        if prompt.truncated:
            notes.append(f"{prompt.truncated} words at the end of the prompt were not parsed.")
        if not self.calibration.calibrated and self.asker is None:
            notes.append("Uncalibrated: thresholds are guesses for this CLIP (`grefine calibrate` measures them).")
        return " ".join(notes)


def scaled_logits(cosines: Tensor, scale: Scale, own: Tensor, redundant: str) -> Tensor:
    """Return the logits of cosines `(T, M + 1)`, the empty text's last; `own` is CLIP's scale. (Eq. 5)"""
    tau = scale.tau if scale.tau is not None else own
    if redundant == "none":
        return tau * (cosines[:, :-1] - scale.offset)
    if redundant == "empty":
        return tau * (cosines[:, :-1] - cosines[:, -1:] - scale.offset)
    return tau * cosines


def _is_thing(claim: GridMap) -> bool:
    return float(claim.patches[0][1].mean()) <= BACKGROUND


def is_judged(phrase: Phrase) -> bool:
    """Say whether a phrase can be missing."""
    return phrase.drawable and not phrase.negated


def parsed_prompt(prompt: Prompt, readings: Readings = Readings()) -> ParsedPrompt:
    """Return the prompt parsed, if it is not yet. (Eq. 4)"""
    if isinstance(prompt, ParsedPrompt):
        return prompt
    if not isinstance(prompt, str):
        raise PromptError(f"A prompt must be a text or a parsed prompt, not {type(prompt).__name__}.")
    return parse(prompt, readings.parser, merge_compounds=readings.compounds == "merged")

"""How the paper's open places are read: one record of words, ours by default, the print's by the name `paper`.

docs/method_maps.md and docs/method_refine.md say what stands behind each.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

from grefine.config import build, changed
from grefine.errors import ConfigError, nearest
from grefine.indicators.calibration import BOUNDS, Calibration, MapMode, PhraseScore, PMode, Redundant, Scale
from grefine.types import Attention, FeatureNorm

Combine = Literal["noisy_or", "max", "product"]
Product = Literal["worst3", "product", "geometric", "worst"]
NounEvidence = Literal["best", "noun"]


@dataclass(frozen=True, slots=True)
class Readings:
    """How the paper's open places are read; None is what the maps were calibrated, or learned, with."""

    attention: Attention = "usual"
    """Eq. 1's scale of the values' attention: one over the root of the head's width, or over each value's length."""
    surgery_layers: int | None = None
    """On how many of the last blocks Eq. 1 stands."""
    factors: Literal["logistic", "difference"] = "logistic"
    """Eq. 3 multiplies the chances of good against bad, or the printed differences of their logits."""
    map_mode: MapMode | None = None
    """Eq. 3 at every patch, or the released script's stretched map of the overall factor."""
    p_mode: PMode = "multi"
    """Eq. 3 for the whole picture, or its overall factor alone."""
    feature_norm: FeatureNorm | None = None
    """Features are divided by their norm over tokens, or over channels."""
    alpha: tuple[float, float, float] | None = None
    """Technical, rational and natural quality of a good picture."""
    bounds: tuple[float, float, float] = BOUNDS
    """How much of alpha is asked for."""
    parser: Literal["embedded", "nltk"] = "embedded"
    """Who parses prompts (Eq. 4)."""
    compounds: Literal["merged", "apart"] = "merged"
    """"Coffee mug" is one noun, or two."""
    redundant: Redundant | None = None
    """Eq. 5 compares a phrase with the empty text, with nothing, or with all phrases."""
    phrase_score: PhraseScore | None = None
    """A phrase is scored at the class token, or at the peak of its map."""
    noun_evidence: NounEvidence = "best"
    """A noun is there if it or its whole phrase is seen (a bare word may mean little to a CLIP that knows it in
    company), or only if the bare noun is seen, as printed."""
    another: Literal["missing", "wrong"] = "missing"
    """A noun that is seen only where another met phrase claims it is missing, or its attributes are wrong."""
    defect_regions: Literal["bullets", "equation"] = "bullets"
    """Where defects are drawn: as the paper's bullets say (a missing noun on its ancestor), or as Eq. 6 prints."""
    ancestor: Literal["present", "literal"] = "present"
    """A defect goes to the nearest ancestor that it is on and that is there, or to its ancestor in any case, which
    for a thing at the top is itself."""
    missing_root: Literal["place", "stretched", "raw", "whole", "skip"] = "place"
    """Region of a missing noun that belongs on no other: one place outside what met phrases claim, where its looks are
    seen or else where most room is; its own map stretched to 0..1; that map as it is; everything; or nothing."""
    region_scale: Literal["peak", "none"] = "peak"
    """Regions are divided by their own peak, since words differ in how high they reach, or left as they are."""
    a_combine: Combine = "noisy_or"
    """How regions of several defects join: 1 - prod(1 - R), their maximum, or the printed product, which is 1
    everywhere where nothing is wrong."""
    prompt_score: Literal["pair", "cosine"] = "pair"
    """Eq. 8's a_0: the whole prompt against the empty text as in Eq. 5, or its plain cosine."""
    a_product: Product = "worst3"
    """Eq. 8's product over the three least met phrases, all phrases, their geometric mean, or the least met one."""
    arrangement: Literal["judge", "off"] = "judge"
    """Whether things that stand the other way round than asked ("left of", "above"), or fewer than asked, lower a; the
    paper has no such test."""
    strength: Literal["region", "kept", "printed"] = "region"
    """Stage 1's strength by kind of region; 1 - (p + a) / 2 for all; or Eq. 9's (p + a) / 2 for all."""
    frame: Literal["crops", "whole"] = "crops"
    """Stage 1 sees one crop for each bad place, or the whole frame once under one mask."""
    additions: Literal["ours", "none"] = "ours"
    """Protecting what is met, filling what is missing, matching colours, naming the phrase first, and sparing what was
    good from stage 2; or nothing that the paper does not have."""

    @classmethod
    def read(cls, given: "Readings | Mapping[str, Any] | None") -> "Readings":
        """Read what a caller gave; a dictionary has some of the keys."""
        return given if isinstance(given, Readings) else build(cls, dict(given or {}), "readings")

    @classmethod
    @lru_cache(maxsize=64)
    def of(cls, text: str) -> "Readings":
        """Read `grefine` or `paper`, with changes after it: `paper, a_combine=max, alpha=0.9/0.9/0.8`."""
        base, *changes = (part.strip() for part in text.split(","))
        if base not in BASES:
            raise ConfigError(f"reading begins with {' or '.join(BASES)}, not '{base}'{nearest(base, BASES)}")
        values: dict[str, Any] = {}
        for change in changes:
            name, equals, value = (part.strip() for part in change.partition("="))
            if not equals:
                raise ConfigError(f"reading: '{change}' is not NAME=VALUE, e.g. a_combine=max.")
            values[name] = int(value) if value.isdigit() else value
            if name in ("alpha", "bounds"):
                try:
                    values[name] = tuple(float(part) for part in value.split("/"))
                except ValueError as error:
                    raise ConfigError(f"reading: {name} takes three numbers, e.g. 0.9/0.9/0.8.") from error
        return changed(BASES[base], values, "reading")

    def calibrated(self, found: Calibration) -> Calibration:
        """Return the constants under these readings: what was measured under another Eq. 5 says nothing here."""
        wanted = {name: getattr(self, name) for name in ("redundant", "phrase_score") if getattr(self, name)}
        if all(getattr(found, name) == value for name, value in wanted.items()):
            return found
        guesses = Calibration()
        unknown = ("a_bound", "beta", "margin", "claim_threshold")
        scales = dict.fromkeys(("cells", "phrases", "prompts"), Scale())
        return replace(found, **wanted, **scales, **{name: getattr(guesses, name) for name in unknown})


BASES = {
    "grefine": Readings(),
    "paper": Readings(
        attention="printed",
        factors="difference",
        map_mode="paper",
        compounds="apart",
        redundant="empty",
        phrase_score="class",
        noun_evidence="noun",
        another="wrong",
        defect_regions="equation",
        ancestor="literal",
        region_scale="none",
        a_combine="product",
        prompt_score="cosine",
        a_product="product",
        arrangement="off",
        strength="printed",
        frame="whole",
        additions="none",
    ),
}
"""`paper` parses by `embedded`: NLTK has no English dependency parser, and its tagger needs data that it downloads."""

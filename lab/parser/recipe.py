"""The recipe of the embedded parser: treebank and made-up prompts in, one small file out."""

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from grefine.io.atomic import write_atomic
from grefine.text.embedded import ParserWeights, features_signature
from lab.parser.prompt_grammar import PromptGrammar
from lab.parser.trainers import LabellerTrainer, ParserTrainer, TaggerTrainer, build_lexicon
from lab.parser.treebank import (
    Sentence,
    joined_hyphens,
    noun_phrases,
    phrase_lists,
    prompt_like,
    rare_nouns,
    read_treebank,
    treebank_file,
)


@dataclass(frozen=True, slots=True)
class ParserRecipe:
    """Everything that decides the weights, besides the data and the seed."""

    prompts: int = 6000
    """Made-up prompts of the grammar."""
    phrase_lists: int = 2500
    """Made-up prompts of treebank noun phrases."""
    folds: int = 3
    """Parts of the jackknife that gives the parser tags as a tagger predicts them."""
    jackknife_epochs: int = 2
    tagger_epochs: int = 5
    parser_epochs: int = 5
    parser_seeds: int = 2
    """Parsers whose weights are averaged."""
    labeller_epochs: int = 3
    tagger_bits: int = 17
    parser_bits: int = 20
    labeller_bits: int = 16
    tagger_floor: float = 0.7
    parser_floor: float = 1.5
    labeller_floor: float = 0.8
    """Averaged weights below are dropped."""


LICENCE = "CC BY-SA 4.0"
SOURCE = (
    "Universal Dependencies English Web Treebank (UD_English-EWT), Silveira et al. 2014, LREC; annotations (c) The"
    " Board of Trustees of The Leland Stanford Junior University, CC BY-SA 4.0; and prompts made up by grefine's own"
    " grammar"
)


def train_parser(
    ud: Path,
    out: Path,
    seed: int = 0,
    recipe: ParserRecipe = ParserRecipe(),
    progress: Callable[[str], None] = lambda line: None,
) -> int:
    """Train tagger, parser and labeller, write them to `out`, and return the size; same seed and data, same file."""
    random = np.random.RandomState(seed)
    bank = read_treebank(treebank_file(ud, "ewt", "train"))
    data, folds = training_data(bank, recipe, random)
    progress(f"{len(bank)} treebank sentences, {len(data) - len(bank)} made-up prompts")
    tags = sorted({t for s in data for t in s.tags})
    labels = sorted({x for s in data for x in s.labels})
    predicted = jackknife(data, folds, tags, recipe, random, progress)
    lexicon = build_lexicon(data)
    tagger = TaggerTrainer(tags, lexicon, recipe.tagger_bits)
    tagger.train(data, recipe.tagger_epochs, random)
    progress("tagger trained")
    labeller = LabellerTrainer(labels, lexicon, recipe.labeller_bits)
    labeller.train(data, predicted, recipe.labeller_epochs, random)
    progress("labeller trained")
    tables = []
    for k in range(recipe.parser_seeds):
        parser = ParserTrainer(lexicon, recipe.parser_bits)
        parser.train(data, predicted, recipe.parser_epochs, random)
        tables.append(parser.table.weights)
        progress(f"parser {k + 1} of {recipe.parser_seeds} trained")
    # Left and right as they differ from shift are all that a choice among them needs.
    mean = sum(tables) / len(tables)
    weights = ParserWeights(
        {
            "tagger": quantise(tagger.table.weights, recipe.tagger_floor, 500, np.int16),
            "parser": quantise(mean[:, 1:] - mean[:, :1], recipe.parser_floor, 127, np.int8),
            "labeller": quantise(labeller.table.weights, recipe.labeller_floor, 127, np.int8),
        },
        tags,
        labels,
        dict(lexicon.classes),
        dict(lexicon.endings),
        {"seed": seed, "recipe": asdict(recipe), "licence": LICENCE, "source": SOURCE},
    )
    return write_weights(out, weights)


def training_data(
    bank: Sequence[Sentence], recipe: ParserRecipe, random: np.random.RandomState
) -> tuple[list[Sentence], list[int]]:
    """Return treebank sentences and made-up prompts, and the jackknife fold of each; a fold keeps documents whole."""
    whole = [joined_hyphens(s) for s in bank]
    grammar = PromptGrammar(random, rare_nouns(whole))
    made = [grammar.prompt() for _ in range(recipe.prompts)]
    made += phrase_lists(noun_phrases(whole), recipe.phrase_lists, random)
    folds = [k * recipe.folds // len(bank) for k in range(len(bank))] + [k % recipe.folds for k in range(len(made))]
    return prompt_like(bank, random) + made, folds


def jackknife(
    data: Sequence[Sentence],
    folds: Sequence[int],
    tags: list[str],
    recipe: ParserRecipe,
    random: np.random.RandomState,
    progress: Callable[[str], None],
) -> list[list[str]]:
    """Return tags of each sentence by a tagger that was trained without its fold."""
    out: list[list[str]] = [[] for _ in data]
    for fold in range(recipe.folds):
        seen = [s for s, f in zip(data, folds, strict=True) if f != fold]
        held = [k for k, f in enumerate(folds) if f == fold]
        tagger = TaggerTrainer(tags, build_lexicon(seen), recipe.tagger_bits)
        tagger.train(seen, recipe.jackknife_epochs, random)
        for k, found in zip(held, tagger.tag([data[k] for k in held]), strict=True):
            out[k] = found
        progress(f"fold {fold + 1} of {recipe.folds} tagged")
    return out


def quantise(weights: np.ndarray, floor: float, top: int, kind: type) -> np.ndarray:
    """Return whole numbers: small weights dropped, the 99.998th percentile of the others at `top`."""
    sizes = np.abs(weights)
    kept = sizes >= floor
    if not kept.any():
        return np.zeros(weights.shape, dtype=kind)
    scale = top / np.percentile(sizes[kept], 99.998)
    return np.clip(np.rint(np.where(kept, weights, 0) * scale), -top, top).astype(kind)


def write_weights(path: Path, weights: ParserWeights) -> int:
    """Write the file and return its size in bytes; equal weights give equal bytes."""
    told: dict[str, Any] = asdict(weights) | {"features": features_signature()}
    told["shapes"] = {name: table.shape for name, table in told.pop("tables").items()}
    arrays = {"told": np.frombuffer(json.dumps(told).encode(), np.uint8)}
    for name, table in weights.tables.items():
        arrays |= {f"{name} places": np.packbits(table != 0), f"{name} values": table[table != 0]}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, buffer.getvalue())
    return len(buffer.getvalue())

"""AGIQA-1K and AGIQA-3K: generated pictures with their prompts, in the forms in which they are passed on."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from grefine.errors import ConfigError
from grefine.io.picture import printable
from grefine.training.datasets.rated import MOS, RatedImage, RatedImages, one_of, pictures_below, rated
from grefine.training.datasets.table import read_mat, scored

PLACES = ("images", "file", "image", "Images")

# A name of AGIQA-1K spells its prompt: model_object_activity_place_style.jpg. The set's key holds for "deepai"; the
# prompts of its table show that "dreamStudio" counts through fewer objects and activities.
_OBJECT = ["bird", "cat", "dog", "batman", "snoppy", "teddy bear", "kid", "man", "woman", "alien", "demon", "witch"]
_ACTIVITY = [
    "driving aircraft",
    "driving bike",
    "driving car",
    "having hamburger",
    "having icecream",
    "having pizza",
    "playing baseball",
    "playing football",
    "playing yoga",
    "using CD",
    "using laptop",
    "using phone",
    "wearing coat",
    "wearing hat",
    "wearing shirt",
]
_WORDS = {
    "deepai": (_OBJECT, _ACTIVITY),
    "dreamStudio": ([thing for thing in _OBJECT if thing not in ("kid", "demon", "witch")], _ACTIVITY[5:]),
}
_PLACE, _STYLE = ("city", "wild"), ("anime style", "realistic style")
_NAME = re.compile(r"^(deepai|dreamStudio)_(\d+)_(\d+)_(\d)_(\d?)\.\w+$")


def read_agiqa_3k(folder: Path) -> RatedImages:
    """Read AGIQA-3K: quality (`mos`) and, in the CSV, `alignment`, both up to 5."""
    path = one_of(folder, ("data.csv", "AGIQA-3K.mat"), "AGIQA-3K", ("", "data/"))
    if path.suffix.lower() == ".mat":
        return _from_mat("agiqa-3k", path, "subjective_scores_quality")
    find = pictures_below(path.parent, PLACES)
    found = scored(path, {"mos_quality": MOS, "mos_align": "alignment"}, "name", "prompt")
    rows = [RatedImage(find(record["name"]), scores, record["prompt"].strip()) for record, scores in found]
    return rated("agiqa-3k", rows, where=path)


def read_agiqa_1k(folder: Path) -> RatedImages:
    """Read AGIQA-1K from its .mat (normalised scores and published orders), .xlsx (normalised) or .csv (raw means)."""
    names = ("AGIQA-1K.mat", "AIGC_MOS_Zscore.xlsx", "AIGC_all.csv")
    path = one_of(folder, names, "AGIQA-1K", ("", "data/"))
    if path.suffix.lower() == ".mat":
        return _from_mat("agiqa-1k", path, "subjective_scores")
    find = pictures_below(path.parent, PLACES)
    if path.suffix.lower() == ".xlsx":
        found = scored(path, {"MOS": MOS}, "Image", "Prompt")
        rows = [RatedImage(find(record["Image"]), scores, record["Prompt"].strip()) for record, scores in found]
        return rated("agiqa-1k", rows, where=path, repeats=True, notes=_repeats(rows))
    rows = [
        RatedImage(find(record["Image"]), scores, agiqa_1k_prompt(record["Image"].strip()))
        for record, scores in scored(path, {"Score": MOS}, "Image")
    ]
    note = "AGIQA-1K: the CSV has no prompts; they were spelled from the file names."
    return rated("agiqa-1k", rows, where=path, notes=(note,))


def agiqa_1k_prompt(name: str) -> str:
    """Spell the prompt that a file name of AGIQA-1K stands for; one published name lacks its style."""
    found = _NAME.match(name)
    try:
        if found is None:
            raise IndexError
        things, activities = _WORDS[found[1]]
        words = [things[int(found[2])], activities[int(found[3])], _PLACE[int(found[4])]]
        return ", ".join([*words, _STYLE[int(found[5])]] if found[5] else words)
    except IndexError:
        raise ConfigError(f"'{name}' is no file name of AGIQA-1K, such as 'deepai_0_14_1_0.jpg'.") from None


def _from_mat(name: str, path: Path, field: str) -> RatedImages:
    stored = read_mat(path, ("im_names", "text_prompt", field), ("index", "ref_ids"))
    names, prompts, scores = stored["im_names"], stored["text_prompt"], np.ravel(stored[field])
    if not len(names) == len(prompts) == len(scores):
        raise ConfigError(
            f"'{printable(path)}' has {len(names)} names, {len(prompts)} prompts and {len(scores)} scores; "
            "they must be as many."
        )
    find = pictures_below(path.parent, PLACES)
    rows = []
    for number_, (picture, prompt, score) in enumerate(zip(names, prompts, scores, strict=True), 1):
        if not np.isfinite(score):
            raise ConfigError(f"'{printable(path)}' row {number_}: the score of '{picture}' is no number.")
        rows.append(RatedImage(find(picture), {MOS: float(score)}, prompt.strip()))
    # Published splits count rows, so a name that comes twice stays twice.
    orders = _permutations(stored.get("index"), stored.get("ref_ids"), len(rows), path)
    return rated(name, rows, where=path, permutations=orders, repeats=True, notes=_repeats(rows))


def _permutations(index: Any, ids: Any, count: int, path: Path) -> tuple[tuple[int, ...], ...]:
    if index is None:
        return ()
    table = np.asarray(index).astype(int)
    table = table if table.shape[0] == count else table.T
    known = np.arange(1, count + 1) if ids is None else np.ravel(ids).astype(int)
    if table.shape[0] != count or sorted(known.tolist()) != list(range(1, count + 1)):
        return ()  # ids of groups instead of rows: there is no order of rows to follow
    row_of = {identity: row for row, identity in enumerate(known.tolist())}
    try:
        return tuple(tuple(row_of[i] for i in column) for column in table.T.tolist())
    except KeyError as error:
        raise ConfigError(f"'{printable(path)}': its orders name id {error}, which no picture has.") from None


def _repeats(rows: list[RatedImage]) -> tuple[str, ...]:
    seen: dict[Path, set[float]] = {}
    for row in rows:
        seen.setdefault(row.path, set()).add(row.scores[MOS])
    twice = [path.name for path, scores in seen.items() if len(scores) > 1]
    if not twice:
        return ()
    return (f"{len(twice)} pictures have several rows with different scores ('{twice[0]}'); all rows are kept.",)

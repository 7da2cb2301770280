"""The published sets as they are distributed: which file holds the scores, where the pictures lie, what is odd."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from grefine.errors import ConfigError, nearest
from grefine.io.picture import printable
from grefine.training.datasets.rated import MOS, RatedImage, RatedImages, one_of, pictures_below, rated
from grefine.training.datasets.table import number, read_mat, read_records, read_table, scored

PLACES = ("images", "file", "image", "Images")

# A name of AGIQA-1K spells its prompt: model_object_activity_place_style.jpg. The set's key holds for "deepai"; the
# prompts of its table show that "dreamStudio" counts through fewer objects and activities.
_OBJECT = ["bird", "cat", "dog", "batman", "snoppy", "teddy bear", "kid", "man", "woman", "alien", "demon", "witch"]
_ACTIVITY = [f"driving {thing}" for thing in ("aircraft", "bike", "car")]
_ACTIVITY += [f"having {thing}" for thing in ("hamburger", "icecream", "pizza")]
_ACTIVITY += [f"playing {thing}" for thing in ("baseball", "football", "yoga")]
_ACTIVITY += [f"using {thing}" for thing in ("CD", "laptop", "phone")]
_ACTIVITY += [f"wearing {thing}" for thing in ("coat", "hat", "shirt")]
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


KONIQ_PARTS = {"training": "train", "validation": "validation", "test": "test"}
SPAQ_DIMENSIONS = ("Brightness", "Colorfulness", "Contrast", "Noisiness", "Sharpness")
PARA_COLUMNS = {f"{name}Score_mean": name for name in ("aesthetic", "color", "composition", "content", "light")}


@dataclass(frozen=True)
class PublishedSet:
    """How one set is read."""

    read: Callable[[Path], RatedImages]
    layout: str
    """What its folder holds, for messages and the manual."""


def read_koniq(folder: Path) -> RatedImages:
    """Read KonIQ-10k, with its own split where its file has one.

    The label is `MOS_zscore` (0..100) where the file has it, else `MOS`, whose scale is 1..5 in one of the two files
    and 0..100 in the other.
    """
    path = one_of(folder, ("koniq10k_distributions_sets.csv", "koniq10k_scores_and_distributions.csv"), "KonIQ-10k")
    find = pictures_below(path.parent, ("512x384", "1024x768", "images"))
    rows, column = [], MOS
    for line, record in read_records(path, ("image_name", "MOS")):
        column = "MOS_zscore" if "MOS_zscore" in record else "MOS"
        score = number(record[column], column, path, line)
        part = KONIQ_PARTS.get(record.get("set", "").strip(), "")
        rows.append(RatedImage(find(record["image_name"]), {MOS: score}, part=part))
    top = 5.0 if rows and max(row.scores[MOS] for row in rows) <= 5 else 100.0
    note = f"KonIQ-10k: scores from column '{column}', scale up to {top:g}, pictures from '{find('x').parent.name}'."
    return rated("koniq-10k", rows, where=path, top={MOS: top}, notes=(note,))


def read_spaq(folder: Path) -> RatedImages:
    """Read SPAQ: MOS and five dimensions, each 0..100 and high = good (much noise is a low noisiness)."""
    names = ("MOS and Image attribute scores.xlsx", "MOS and Image attribute scores.csv")
    path = one_of(folder, names, "SPAQ", ("Annotations/", ""))
    find = pictures_below(folder, ("TestImage", "Dataset/TestImage"))
    values = {"MOS": MOS} | {name: name.lower() for name in SPAQ_DIMENSIONS}
    rows = [RatedImage(find(record["Image name"]), scores) for record, scores in scored(path, values, "Image name")]
    return rated("spaq", rows, where=path, top=dict.fromkeys(values.values(), 100.0))


def read_para(folder: Path) -> RatedImages:
    """Read PARA: overall quality and aesthetics and four aesthetic dimensions, each 1..5, with its own split."""
    root = folder if (folder / "annotation").is_dir() else folder.parent
    values = {"qualityScore_mean": MOS} | PARA_COLUMNS
    rows = []
    for name, part in (("PARA-GiaaTrain.csv", "train"), ("PARA-GiaaTest.csv", "test")):
        path = one_of(root, (f"annotation/{name}",), "PARA")
        for record, scores in scored(path, values, "imageName", "sessionId"):
            picture = root / "imgs" / record["sessionId"].strip() / record["imageName"].strip()
            rows.append(RatedImage(picture, scores, part=part))
    return rated("para", rows, where=root / "annotation", top=dict.fromkeys(values.values(), 5.0))


def read_kadid(folder: Path) -> RatedImages:
    """Read KADID-10k: 125 distortions of each of 81 pictures.

    Its column is called `dmos`, but 5 is best and 1 is worst, as its authors state.
    """
    path = one_of(folder, ("dmos.csv",), "KADID-10k")
    rows = [
        RatedImage(path.parent / "images" / record["dist_img"].strip(), scores, content=record["ref_img"].strip())
        for record, scores in scored(path, {"dmos": MOS}, "dist_img", "ref_img")
    ]
    return rated("kadid-10k", rows, where=path, top={MOS: 5.0})


PUBLISHED: dict[str, PublishedSet] = {
    "agiqa-3k": PublishedSet(read_agiqa_3k, "data.csv or AGIQA-3K.mat; pictures in images/ (or beside the file)"),
    "agiqa-1k": PublishedSet(
        read_agiqa_1k, "AGIQA-1K.mat, AIGC_MOS_Zscore.xlsx or AIGC_all.csv; pictures in images/ or file/"
    ),
    "koniq-10k": PublishedSet(
        read_koniq,
        "koniq10k_distributions_sets.csv or koniq10k_scores_and_distributions.csv; pictures in 512x384/ or 1024x768/",
    ),
    "spaq": PublishedSet(read_spaq, "Annotations/MOS and Image attribute scores.xlsx (or .csv); TestImage/"),
    "para": PublishedSet(read_para, "annotation/PARA-GiaaTrain.csv, PARA-GiaaTest.csv; imgs/SESSION/"),
    "kadid-10k": PublishedSet(read_kadid, "dmos.csv; images/"),
}


def read_data(given: str) -> RatedImages:
    """Read `NAME:PATH`, where NAME is a published set or "csv", or just the path of a table of one's own."""
    name, colon, path = given.partition(":")
    if not colon:
        name, path = "csv", given
    name = name.strip().lower()
    if name == "csv":
        return read_table(path)
    if name not in PUBLISHED:
        known = ("csv", *PUBLISHED)
        raise ConfigError(f"No data set '{name}': {', '.join(known)}{nearest(name, known)}")
    root = Path(path)
    if not root.exists():
        raise ConfigError(f"'{printable(root)}' does not exist; {name} holds {PUBLISHED[name].layout}.")
    return PUBLISHED[name].read(root)

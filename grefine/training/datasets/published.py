"""The published sets as they are distributed: which file holds the scores, where the pictures lie, what is odd."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from string import Formatter
from typing import Any

import numpy as np

from grefine.config import load_config
from grefine.errors import ConfigError, nearest
from grefine.io.picture import printable
from grefine.resources import bundled
from grefine.training.datasets.rated import MOS, RatedImage, RatedImages, one_of, rated
from grefine.training.datasets.table import number, read_mat, read_records, read_table

PLACES = ("images", "file", "image", "Images")


@dataclass(frozen=True)
class Layout:
    """A set whose opinions stand in one table (or several alike), as `configs/datasets/NAME.yaml` states it."""

    tables: tuple[str, ...]
    """Names below the folder; the first that is there is read, all of a pattern's files."""
    picture: str
    """A picture's path below one of `places`, with the table's columns in braces."""
    scores: Mapping[str, str]
    """What ours is called, by the table's column."""
    places: tuple[str, ...] = ("images", "")
    top: float | None = None
    """Upper end of the scale; None: the largest score."""
    prompt: str = ""
    content: str = ""
    """The pristine picture: columns in braces, as `{name:.3}` for its first three letters."""
    part: str = ""
    """Column that says which side of the set's own split a picture is on."""
    sides: Mapping[str, str] = field(default_factory=dict)
    """Or the side by the name of a table, where each has its own."""
    named: tuple[str, ...] = ()
    """What the first columns are called where the table itself has no heading that says it."""
    repeats: bool = False


PARTS = {"training": "train", "validation": "validation", "test": "test", "train": "train", "val": "validation"}


def read_layout(name: str, layout: Layout, folder: Path) -> RatedImages:
    path = one_of(folder, layout.tables, name, ("", "data/"))
    tables = [path.with_name(table) for table in layout.sides] or [path]
    if "*" in layout.tables[0] and not folder.is_file():
        tables = sorted(path.parent.glob(f"*{path.suffix}"))
    columns = [part[1] for text in (layout.picture, layout.content) for part in Formatter().parse(text) if part[1]]
    others = dict.fromkeys(column for column in (*columns, layout.prompt, layout.part) if column)
    rows = []
    for table in tables:
        for line, record in read_records(table, (*others, *layout.scores), layout.named):
            scores = {ours: number(record[theirs], theirs, table, line) for theirs, ours in layout.scores.items()}
            picture = _below(path.parent, layout.places, layout.picture.format_map(record))
            content, part = layout.content.format_map(record), PARTS.get(record.get(layout.part, "").strip(), "")
            prompt, part = record.get(layout.prompt, ""), layout.sides.get(table.name, part)
            rows.append(RatedImage(picture, scores, prompt.strip(), content.strip(), part))
    top = dict.fromkeys(layout.scores.values(), layout.top) if layout.top else None
    return rated(name, rows, where=path, top=top, repeats=layout.repeats)


def _below(root: Path, places: tuple[str, ...], name: str) -> Path:
    """Return a picture where it is, in either case of its first letter; where none is, where it should be."""
    name = name.strip()
    names = (name, name[:1].swapcase() + name[1:])
    found = (path for place in places for one in names if (path := root / place / one).is_file())
    return next(found, root / places[0] / name)


def read_agiqa_3k(folder: Path) -> RatedImages:
    """Read AGIQA-3K: quality (`mos`) and, from the CSV, `alignment`, both up to 5; published orders from the .mat."""
    path = one_of(folder, ("AGIQA-3K.mat", "data.csv"), "agiqa-3k", ("", "data/"))
    if path.suffix.lower() != ".mat":
        return read_layout("agiqa-3k", LAYOUTS["agiqa-3k"], path)
    found = _from_mat("agiqa-3k", path, "subjective_scores_quality")
    if folder.is_file() or not (beside := path.with_name("data.csv")).is_file():
        return found
    known = {row.path.name: row.scores["alignment"] for row in read_layout("", LAYOUTS["agiqa-3k"], beside).rows}
    try:
        rows = [replace(r, scores={**r.scores, "alignment": known[r.path.name]}) for r in found.rows]
    except KeyError as error:
        raise ConfigError(f"'{printable(beside)}' does not name {error}, which '{path.name}' rates.") from None
    return replace(found, rows=tuple(rows), columns=(MOS, "alignment"))


def read_aigciqa(folder: Path) -> RatedImages:
    """Read AIGCIQA2023: 2,400 pictures, four of each of 100 prompts from each of six models, in this order."""
    path = one_of(folder, ("DATA/MOS/mosz1.mat",), "aigciqa2023")
    root = path.parents[2]
    names = {MOS: "mosz1.mat", "authenticity": "mosz2.mat", "alignment": "mosz3.mat"}
    scores = {ours: np.ravel(read_mat(path.with_name(file), ("MOSz",))["MOSz"]) for ours, file in names.items()}
    table = one_of(root, ("*rompt*.xlsx", "*rompt*.csv"), "aigciqa2023", ("", "DATA/", "DATA/MOS/"))
    prompts = [
        next((text.strip() for column, text in record.items() if "prompt" in column.lower()), "")
        for _, record in read_records(table, ())
    ]
    count = len(scores[MOS])
    known = prompts and all(prompts) and all(len(values) == count for values in scores.values())
    if not known or count % (4 * len(prompts)):
        raise ConfigError(
            f"'{printable(root)}' has {count} scores and {sum(map(bool, prompts))} prompts: four pictures of each "
            "prompt from each model are expected."
        )
    rows = [
        RatedImage(
            _below(root, ("Image/allimg", "Image"), f"{i}.png"),
            {ours: float(values[i]) for ours, values in scores.items()},
            prompts[i // 4 % len(prompts)],
        )
        for i in range(count)
    ]
    return rated("aigciqa2023", rows, where=path, top=dict.fromkeys(names, 100.0))


def read_aigiqa_20k(folder: Path) -> RatedImages:
    """Read AIGIQA-20K and its split; opinions that its contest kept back are in `info_merge.csv` or `data.csv`."""
    path = one_of(folder, ("info_train.csv", "info_train.xlsx"), "aigiqa-20k")
    opinions: dict[str, str] = {}
    for whole in (path.with_name(name) for name in ("info_merge.csv", "data.csv")):
        if whole.is_file():
            opinions |= {record["name"]: record[MOS] for _, record in read_records(whole, ("name", MOS))}
    rows, silent = [], 0
    for part in ("train", "val", "test"):
        table = path.with_name(f"info_{part}{path.suffix}")
        for line, record in read_records(table, ("name", "prompt")) if table.is_file() else ():
            name = record["name"]
            if not (opinion := record.get(MOS) or opinions.get(name, "")):
                silent += 1
                continue
            picture, score = _below(path.parent, (part, "images", "all"), name), number(opinion, MOS, table, line)
            rows.append(RatedImage(picture, {MOS: score}, record["prompt"].strip(), part=PARTS[part]))
    note = f"AIGIQA-20K: {silent} pictures have no opinion here and are left out; info_merge.csv or data.csv has them."
    return rated("aigiqa-20k", rows, where=path, top={MOS: 5.0}, notes=(note,) * bool(silent))


def read_live_c(folder: Path) -> RatedImages:
    """Read LIVE in the Wild (LIVE-C, CLIVE): the first seven of its pictures only trained the subjects."""
    path = one_of(folder, ("Data/AllImages_release.mat",), "live-c", ("", "ChallengeDB_release/"))
    names = read_mat(path, ("AllImages_release",))["AllImages_release"][7:]
    values = read_mat(path.with_name("AllMOS_release.mat"), ("AllMOS_release",))["AllMOS_release"]
    places = ("Images", "Images/Images")
    rows = [
        RatedImage(_below(path.parents[1], places, name), {MOS: float(value)})
        for name, value in zip(names, np.ravel(values)[7:], strict=True)
    ]
    return rated("live-c", rows, where=path, top={MOS: 100.0})


def read_ranking(path: str | Path) -> dict[str, float]:
    """Read a ranking: the JSON of `grefine rank fit --json`, or one object of scores by method."""
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"Cannot read the ranking '{path}': {error}.") from error
    scores = found.get("scores", found) if isinstance(found, dict) else None
    if not isinstance(scores, dict) or len(scores) < 2:
        raise ConfigError(f"'{path}' must hold scores by method, as `grefine rank fit --json` writes them.")
    for method, mu in scores.items():
        if isinstance(mu, bool) or not isinstance(mu, (int, float)) or not math.isfinite(mu):
            raise ConfigError(f"'{path}': the score of '{method}' is {mu!r}, not a number.")
    return {method: float(mu) for method, mu in scores.items()}


def read_ranked(folder: Path) -> RatedImages:
    """Read outputs of ranked methods, METHOD/PICTURE, each rated as its method is in `ranking.json`."""
    path = one_of(folder, ("ranking.json",), "ranked")
    rows = [
        RatedImage(picture, {MOS: mu}, content=picture.stem)
        for method, mu in read_ranking(path).items()
        for picture in sorted(p for p in (path.parent / method).glob("*.*") if p.is_file())
    ]
    return rated("ranked", rows, where=path)


def read_agiqa_1k(folder: Path) -> RatedImages:
    """Read AGIQA-1K from its .mat (normalised scores and published orders), .xlsx (normalised) or .csv (raw means)."""
    names = ("AGIQA-1K.mat", "AIGC_MOS_Zscore.xlsx", "AIGC_all.csv")
    path = one_of(folder, names, "AGIQA-1K", ("", "data/"))
    if path.suffix.lower() == ".mat":
        return _from_mat("agiqa-1k", path, "subjective_scores")
    score, prompt = ("MOS", "Prompt") if path.suffix.lower() == ".xlsx" else ("Score", "")
    layout = Layout((path.name,), "{Image}", {score: MOS}, (*PLACES, ""), prompt=prompt, repeats=True)
    return read_layout("agiqa-1k", layout, path)


def _from_mat(name: str, path: Path, field: str) -> RatedImages:
    stored = read_mat(path, ("im_names", "text_prompt", field), ("index", "ref_ids"))
    names, prompts, scores = stored["im_names"], stored["text_prompt"], np.ravel(stored[field])
    if not len(names) == len(prompts) == len(scores):
        raise ConfigError(
            f"'{printable(path)}' has {len(names)} names, {len(prompts)} prompts and {len(scores)} scores; "
            "they must be as many."
        )
    rows = []
    for number_, (picture, prompt, score) in enumerate(zip(names, prompts, scores, strict=True), 1):
        if not np.isfinite(score):
            raise ConfigError(f"'{printable(path)}' row {number_}: the score of '{picture}' is no number.")
        rows.append(RatedImage(_below(path.parent, (*PLACES, ""), picture), {MOS: float(score)}, prompt.strip()))
    # Published splits count rows, so a name that comes twice stays twice.
    orders = _permutations(stored.get("index"), stored.get("ref_ids"), len(rows), path)
    return rated(name, rows, where=path, permutations=orders, repeats=True)


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


def read_koniq(folder: Path) -> RatedImages:
    """Read KonIQ-10k, with its own split where its file has one; its scores from 0 to 100 have a name in each file."""
    path = one_of(folder, ("koniq10k_distributions_sets.csv", "koniq10k_scores_and_distributions.csv"), "KonIQ-10k")
    first = next((record for _, record in read_records(path, ("image_name", "MOS"))), {})
    score, part = ("MOS_zscore" if "MOS_zscore" in first else "MOS"), ("set" if "set" in first else "")
    places = ("512x384", "1024x768", "images", "")
    return read_layout("koniq-10k", Layout((path.name,), "{image_name}", {score: MOS}, places, 100.0, part=part), path)


LAYOUTS = {path.stem: load_config(path, Layout) for path in (bundled("configs") / "datasets").glob("*.yaml")}
PUBLISHED: dict[str, Callable[[Path], RatedImages]] = {
    **{name: partial(read_layout, name, layout) for name, layout in sorted(LAYOUTS.items())},
    "agiqa-3k": read_agiqa_3k,
    "agiqa-1k": read_agiqa_1k,
    "aigciqa2023": read_aigciqa,
    "aigiqa-20k": read_aigiqa_20k,
    "koniq-10k": read_koniq,
    "live-c": read_live_c,
    "ranked": read_ranked,
}
"""How each set is read; docs/training.md says what its folder holds."""


def read_data(given: str) -> RatedImages:
    """Read `NAME:PATH`, where NAME is a published set, or the path of a table of one's own."""
    name, colon, path = given.partition(":")
    if not colon:
        return read_table(given)
    name = name.strip().lower()
    if name not in PUBLISHED:
        raise ConfigError(f"No data set '{name}': {', '.join(PUBLISHED)}{nearest(name, PUBLISHED)}")
    root = Path(path)
    if not root.exists():
        raise ConfigError(f"'{printable(root)}' does not exist: give the folder of {name} as it is unpacked.")
    return PUBLISHED[name](root)

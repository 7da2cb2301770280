"""The published sets as they are distributed: which file holds the scores, where the pictures lie, what is odd."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from grefine.errors import ConfigError, nearest
from grefine.io.picture import printable
from grefine.training.datasets.generated import read_agiqa_1k, read_agiqa_3k
from grefine.training.datasets.rated import MOS, RatedImage, RatedImages, one_of, pictures_below, rated
from grefine.training.datasets.table import number, read_records, read_table, scored

KONIQ_PARTS = {"training": "train", "validation": "validation", "test": "test"}
SPAQ_DIMENSIONS = ("Brightness", "Colorfulness", "Contrast", "Noisiness", "Sharpness")
PARA_COLUMNS = {
    "aestheticScore_mean": "aesthetic",
    "colorScore_mean": "color",
    "compositionScore_mean": "composition",
    "contentScore_mean": "content",
    "lightScore_mean": "light",
}


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

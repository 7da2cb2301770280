"""What a run over a folder can be told, beside how each image is refined."""

from dataclasses import asdict, dataclass
from typing import Literal

from grefine.errors import ConfigError
from grefine.io.picture import MAX_PIXELS

Overwrite = Literal["never", "older", "always"]
FORMATS = {"same": None, "png": "PNG", "jpeg": "JPEG", "jpg": "JPEG", "webp": "WEBP"}
EXTENSIONS = {"PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp"}


@dataclass(frozen=True)
class FolderOptions:
    """How files are found, named and written."""

    suffix: str = ""
    """Put between the name and the ending of every output."""
    format: Literal["same", "png", "jpeg", "jpg", "webp"] = "same"
    """`same`: as the input, and PNG for what is neither PNG, JPEG nor WebP."""
    overwrite: Overwrite = "never"
    """What happens to files that stand where results belong: kept, replaced when the input changed, or replaced."""
    pattern: tuple[str, ...] = ()
    """Only files whose name or path below SRC matches one of these; every image file without any."""
    recursive: bool = True
    follow_links: bool = False
    """Read files and folders that symbolic links point to outside SRC."""
    batch_size: int = 8
    """Images per unit of work. Bound to the result: another one may move a value by one level."""
    seed: int = 0
    panels: bool = True
    """Write a before/map/after picture for every image that changed."""
    report: bool = True
    """Write `report.html` at the end."""
    max_pixels: int = MAX_PIXELS
    force: bool = False
    """Refine images that the pipeline says it does not know."""
    limit: int | None = None
    """Only so many images from the beginning of the list; a later start without it goes on."""
    prompt_column: str = ""
    """The column of prompts of Parquet files and of the JSON in tars."""
    dataset: Literal["", "same", "parquet", "webdataset", "imagefolder"] = ""
    """Write the results as a data set, too: `same` as the first source."""
    again: bool = False
    """Refine outputs of an equal earlier run once more."""

    def __post_init__(self) -> None:
        for name, count in (("batch_size", self.batch_size), ("limit", self.limit)):
            if count is not None and count < 1:
                raise ConfigError(f"{name} must be at least 1, not {count}.")
        if any(mark in self.suffix for mark in ("/", "\\", "\0")):
            raise ConfigError(f"The suffix {self.suffix!r} must not name a folder.")

    @property
    def written_format(self) -> str | None:
        """PNG, JPEG or WEBP; None to keep each input's own."""
        return FORMATS[self.format]

    def changes_results(self) -> dict[str, object]:
        """Return the choices that decide what is written, for noticing that they changed."""
        values = asdict(self)
        for name in ("overwrite", "pattern", "recursive", "follow_links", "dataset", "limit"):
            del values[name]
        if not self.prompt_column:  # it came later: a run that was begun before it goes on
            del values["prompt_column"]
        return values

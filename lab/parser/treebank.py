"""Read dependency treebanks in the CoNLL-U form."""

import gzip
from dataclasses import dataclass
from pathlib import Path

from grefine.errors import ConfigError


@dataclass(slots=True)
class Sentence:
    """One annotated sentence; heads count from 0, -1 is the root."""

    words: list[str]
    tags: list[str]
    """Penn Treebank tags."""
    heads: list[int]
    labels: list[str]
    glued: list[bool]
    """True where no space follows the word."""


def treebank_file(folder: Path, bank: str, part: str) -> Path:
    """Return the file of one part ("train", "dev", "test") of a bank ("ewt", "gum") in `folder`."""
    for ending in (".conllu.gz", ".conllu"):
        path = folder / f"en_{bank}-ud-{part}{ending}"
        if path.is_file():
            return path
    raise ConfigError(
        f"No 'en_{bank}-ud-{part}.conllu' (or .gz) in '{folder}': give the folder of the"
        f" UniversalDependencies/UD_English-{bank.upper()} release."
    )


def read_treebank(path: Path) -> list[Sentence]:
    """Read all sentences; multiword-token lines and empty nodes are skipped."""
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8")
        blocks = (block.split("\n") for block in text.replace("\r\n", "\n").split("\n\n"))
        tables = ([cells for line in block if (cells := line.split("\t"))[0].isdigit()] for block in blocks)
        return [
            Sentence(
                [r[1].replace("\u00a0", " ").replace(" ", "") or "_" for r in rows],
                [r[4] for r in rows],
                [int(r[6]) - 1 for r in rows],
                [r[7] for r in rows],
                ["SpaceAfter=No" in r[9] for r in rows],
            )
            for rows in tables
            if rows
        ]
    except (OSError, EOFError, ValueError, IndexError) as error:
        raise ConfigError(f"Cannot read '{path}' as CoNLL-U: {error}.") from error

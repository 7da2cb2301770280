"""How well scores follow people: `python benchmarks/agreement.py SCORES.csv OPINIONS.csv [--opinion mos]`.

SCORES.csv is what `grefine score IMAGES --metrics NAMES -o SCORES.csv` writes; p and a come as the JSON lines of
`grefine map IMAGES -o DIR --json > maps.jsonl`. OPINIONS.csv has the columns image, the
opinion, and optionally dataset.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from grefine.evaluate.agreement_table import agreement_table, to_markdown


def main() -> None:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("scores", type=Path)
    parser.add_argument("opinions", type=Path)
    parser.add_argument("--opinion", default="mos", help="column of the opinions")
    parser.add_argument("--resamples", type=int, default=1000)
    given = parser.parse_args()
    print(to_markdown(agreement_table(given.scores, given.opinions, opinion=given.opinion, resamples=given.resamples)))


if __name__ == "__main__":
    main()

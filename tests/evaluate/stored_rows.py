"""Read the long table back, to hold it against what was measured."""

from __future__ import annotations

import csv
import re

from grefine.evaluate.tables import COLUMNS, ScoreRow


def read_rows(path):
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        table = list(csv.DictReader(file))
    rows = []
    for cells in table:
        assert tuple(cells) == COLUMNS
        cells = {name: re.sub(r"^'(?=[=+\-@\t\r])", "", text) for name, text in cells.items()}
        rows.append(ScoreRow(**cells | {"value": float(cells["value"]), "seed": int(cells["seed"])}))
    return rows

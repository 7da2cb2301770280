"""Refine a folder, each picture with its own prompt: python examples/refine_folder.py [FOLDER] [OUT]"""

import sys
from pathlib import Path

from grefine import refine_folder

folder = sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent / "images"
out = Path(sys.argv[2] if len(sys.argv) > 2 else "refined")

# What would happen, without writing anything.
planned = refine_folder(folder, out, "tiny", limit=6, dry_run=True)
print("\n".join(planned.lines()))

# The same line again goes on where an earlier start ended.
summary = refine_folder(folder, out, "tiny", limit=6, seed=1)
print("\n".join(summary.lines()))
table = summary.to_dataframe()  # needs pandas; OUT/results.csv is the same table
print(table[["file", "state", "regions", "failed_phrases", "p_before", "p_after"]].to_string())
print(f"Open {out / 'report.html'} in a browser.")

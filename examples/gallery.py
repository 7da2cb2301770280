"""Stack the panels of a refined folder into one picture: python examples/gallery.py refined out.png [NAME...]."""

import sys
from pathlib import Path

from PIL import Image


def main(folder: str, out: str, *names: str) -> None:
    found = sorted((Path(folder) / "panels").glob("*.png"))
    chosen = [path for path in found if not names or path.name.split(".")[0] in names]
    if not chosen:
        sys.exit(f"'{folder}' has no panels: run `grefine refine examples/images -o {folder} --pipeline tiny` first.")
    panels = [Image.open(path).convert("RGB") for path in chosen]
    sheet = Image.new("RGB", (max(p.width for p in panels), sum(p.height for p in panels)), "white")
    top = 0
    for panel in panels:
        sheet.paste(panel, (0, top))
        top += panel.height
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    sheet.save(out, optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Before and after in a table, by judges that need no weights: python examples/before_after.py [BEFORE] [AFTER]

Without arguments it blurs the example pictures, so that "after" should come out worse.
"""

import sys
from pathlib import Path

from PIL import Image, ImageFilter

from grefine import evaluate_folders
from grefine.evaluate.tables import to_markdown

before = Path(sys.argv[1]) if len(sys.argv) > 2 else Path(__file__).parent / "images"
after = Path(sys.argv[2] if len(sys.argv) > 2 else "blurred")
if len(sys.argv) <= 2:
    after.mkdir(exist_ok=True)
    for path in before.glob("*.png"):
        Image.open(path).convert("RGB").filter(ImageFilter.GaussianBlur(2)).save(after / path.name)

result = evaluate_folders(before, after, metrics="offline", out="evaluation")
print("\n".join(result.sentences))
print(to_markdown(result.table))
print("Open evaluation/report.html in a browser.")

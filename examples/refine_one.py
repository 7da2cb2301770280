"""Refine one picture and lay original, quality map, mask and result side by side.

python examples/refine_one.py [IMAGE] [PROMPT] [OUT.png]
"""

import sys
from pathlib import Path

import torch
from PIL import Image

from grefine import GRefinePipeline

HERE = Path(__file__).parent
image = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "images" / "06_noise.png"
prompt = sys.argv[2] if len(sys.argv) > 2 else "one purple cat, a purple heart with stripes, on sand, in the evening"
target = Path(sys.argv[3]) if len(sys.argv) > 3 else Path("refined.png")

pipe = GRefinePipeline.from_pretrained("tiny")
picture = Image.open(image).convert("RGB")
print(pipe.explain(prompt, picture))

out = pipe(prompt=prompt, image=picture, generator=torch.Generator().manual_seed(0))
result = out.results[0]
print(f"Kept: {result.decision.kept}. {result.decision.reason}")

quality = Image.fromarray((result.quality.values * 255).astype("uint8"))
mask = Image.fromarray((result.plan.mask * 255).astype("uint8"))
side = 4 * max(picture.size)
sheet = Image.new("RGB", (4 * side, side))
for index, part in enumerate((picture, quality, mask, out.images[0])):
    sheet.paste(part.convert("RGB").resize((side, side), Image.Resampling.NEAREST), (index * side, 0))
sheet.save(target)
print(f"Wrote {target}: original, quality map (white = good), mask (white = repainted), result.")

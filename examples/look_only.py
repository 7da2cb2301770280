"""Only look: where is a picture bad, what does it miss, and what would be done? python examples/look_only.py"""

from pathlib import Path

import numpy as np
from PIL import Image

from grefine import GRefinePipeline

path = Path(__file__).parent / "images" / "12_missing.png"
prompt = Image.open(path).text["parameters"].splitlines()[0]

pipe = GRefinePipeline.from_pretrained("tiny")
result = pipe(prompt=prompt, image=path, plan_only=True).results[0]

print(f"'{prompt}': quality p = {result.quality.score:.2f}, alignment a = {result.alignment.score:.2f}")
for found in result.alignment.phrases:
    print(f"  {found.phrase.text}: {found.defect or 'met'} ({found.a_phs:.2f})")
for region in result.plan.regions:
    print(f"  would repaint {region.box} at strength {region.strength}: {region.reason}")

for name, values in (("quality", result.quality.values), ("alignment", result.alignment.values)):
    Image.fromarray((values * 255).astype(np.uint8)).save(f"{name}.png")  # white is good
Image.fromarray(result.plan.mask).save("mask.png")  # white would be repainted

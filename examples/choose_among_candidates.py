"""Several repaints of each region: one judge takes the best, the others decide whether it is kept.

python examples/choose_among_candidates.py [IMAGE] [PROMPT] [OUT.png]
"""

import sys
from pathlib import Path

import torch
from PIL import Image

from grefine import GRefinePipeline

image = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "images" / "10_object.png"
asked = "one red tree over a striped yellow kitten and a blue sphere on green grass under a blue sky"
prompt = sys.argv[2] if len(sys.argv) > 2 else asked
target = Path(sys.argv[3]) if len(sys.argv) > 3 else Path("chosen.png")

pipe = GRefinePipeline.from_pretrained("tiny")  # toy scenes only; for photographs load "sdxl"
pipe.register_to_config(unet_traits={})  # tiny sees what it redraws; here it draws anew, as SDXL does
for candidates in (1, 4, "4 by moe_agiqa.alignment*2,mdiqa"):
    generator = torch.Generator().manual_seed(0)
    out = pipe(prompt, Image.open(image).convert("RGB"), generator=generator, candidates=candidates)
    result = out.results[0]
    print(f"candidates={candidates}: drawn {result.drawn}, kept {result.decision.kept}. {result.decision.reason}")
out.images[0].save(target)

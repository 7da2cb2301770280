"""Train a restorer by named dimensions of quality: python examples/mdiqa_loss.py

One picture and one layer, so that it runs in seconds: the loop is what counts.
"""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from grefine import MDIQALoss
from grefine.models.mdiqa import MDIQA
from grefine.resources import bundled


def picture(name):
    pixels = np.asarray(Image.open(Path(__file__).parent / "images" / name).convert("RGB"), dtype=np.float32)
    return torch.from_numpy(pixels / 255).permute(2, 0, 1)[None]


torch.manual_seed(0)
damaged = picture("05_blur.png")
restorer = torch.nn.Conv2d(3, 3, 5, padding=2)
torch.nn.init.dirac_(restorer.weight)  # begins as "change nothing"
torch.nn.init.zeros_(restorer.bias)

judge = MDIQA.from_pretrained(bundled("pipelines") / "tiny" / "mdiqa")
towards = MDIQALoss(judge, {"sharpness": 1.0, "contrast": 0.5})
optimiser = torch.optim.Adam(restorer.parameters(), lr=5e-4)
for step in range(40):
    restored = restorer(damaged).clamp(0, 1)
    # A pixel loss beside it: a judge alone invites artefacts.
    loss = towards(restored) + torch.nn.functional.l1_loss(restored, damaged)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    print(f"step {step:2d}  loss {loss.item():.4f}")

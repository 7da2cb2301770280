"""What the chain has to beat: nothing at all, the autoencoder alone, wrong places, all places, the true places."""

import torch
from torch import Tensor

from grefine.refine.vae import decode_latents, encode_images
from lab.bench.cases import Cases, quantised
from lab.bench.chain import Outcome, Runner
from lab.bench.repaint import widened

ABLATIONS = {
    "pq_aq": {},
    "aq": {"use_pq": False},
    "pq": {"use_aq": False},
    "stage1": {"restorer": "none"},
}
"""The paper's Table 8: which map asks for repairs, and what stage 2 adds; all without the guard."""


def shuffled(masks: Tensor) -> Tensor:
    """Give every picture the mask of another one: places as large and as many, but wrong."""
    return masks.roll(len(masks) // 2 + 1, 0)


def control_masks(cases: Cases) -> dict[str, Tensor]:
    """Return the masks of the controls by name."""
    true = widened(cases.masks)
    return {"oracle": true, "random": shuffled(true), "full": torch.ones_like(true)}


def through_vae(runner: Runner, cases: Cases) -> Tensor:
    """Return the pictures after one pass through the autoencoder, which is all that a refinement at least costs."""
    return _roundtrip(runner, cases.images)


def perfectly_painted(runner: Runner, cases: Cases) -> Tensor:
    """Return what a painter without fault could make: the clean scene, through the autoencoder, in the true places."""
    places = widened(cases.masks)[:, None]
    return torch.where(places, _roundtrip(runner, cases.clean), cases.images)


def _roundtrip(runner: Runner, images: Tensor) -> Tensor:
    vae, device = runner.pipe.vae, runner.pipe.device
    latents = [encode_images(vae, part * 2 - 1, device) for part in images.split(runner.batch)]
    parts = [(decode_latents(vae, part) / 2 + 0.5).clamp(0, 1).float().cpu() for part in latents]
    return quantised(torch.cat(parts))


def ablation(runner: Runner, name: str, cases: Cases) -> Outcome:
    """Run one column of Table 8."""
    return runner(f"ablation {name}", cases, config=ABLATIONS[name], guard=False)

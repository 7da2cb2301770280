"""What the parts make of validation scenes, as pictures: the fastest way to see whether training goes well."""

import random
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionXLInpaintPipeline
from PIL import Image
from torch import Tensor

from grefine.models.clip_surgery import ClipSurgery
from grefine.models.pq_prompts import PQPrompts
from lab.tiny.stream import VALIDATE, batch
from lab.tiny.tasks import draw_task
from lab.world.captions import describe

COLUMNS = 12


def save_grid(images: Tensor, path: Path, columns: int = 12, enlarge: int = 2) -> None:
    """Write (N, 3, S, S) images in 0..1 as one PNG."""
    pixels = (images.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    count, height, width, _ = pixels.shape
    sheet = Image.new("RGB", (columns * width, -(-count // columns) * height), "white")
    for index, picture in enumerate(pixels):
        sheet.paste(Image.fromarray(picture), ((index % columns) * width, (index // columns) * height))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.resize((sheet.width * enlarge, sheet.height * enlarge), Image.Resampling.NEAREST).save(path)


@torch.no_grad()
def clip_samples(clip: ClipSurgery, prompts: PQPrompts, tokenizer: Any, path: Path) -> None:
    """Draw scenes, the map of each one's first phrase, the damaged scenes, and their quality maps."""
    data = batch(VALIDATE, 1, COLUMNS, device=clip.device)
    rng = random.Random(VALIDATE)
    texts = [describe(data.scenes, i, rng).objects[0].text for i in range(COLUMNS)]
    ids = torch.tensor(tokenizer([*texts, ""], padding=True)["input_ids"], device=clip.device)
    asked = F.normalize(clip.encode_text(ids), dim=-1)
    good, bad = prompts(clip)[0]

    def tokens(images: Tensor) -> Tensor:
        return F.normalize(clip.encode_image(clip.preprocess(images)), dim=-1)[:, 1:]

    def drawn(logits: Tensor) -> Tensor:
        grid = torch.sigmoid(logits).view(-1, 1, *clip.grid)
        return F.interpolate(grid, clip.side, mode="bicubic").expand(-1, 3, -1, -1)

    phrase = clip.logit_scale.exp() * torch.einsum("bnd,bd->bn", tokens(data.clean.images), asked[:-1] - asked[-1])
    quality = tokens(data.damaged.images) @ (good - bad)
    rows = [data.clean.images, drawn(phrase), data.damaged.images, drawn(quality)]
    save_grid(torch.cat(rows), path, columns=COLUMNS)


def unet_samples(net: Any, vae: AutoencoderKL, tokenizer: Any, plan: DDIMScheduler, path: Path) -> None:
    """Draw, for edits and for restorations: what the sampler gets, the masked input, what it makes, the truth."""
    pipe = StableDiffusionXLInpaintPipeline(
        vae, net.text_encoder, net.text_encoder_2, tokenizer, tokenizer, net.unet, plan, add_watermarker=False
    )
    pipe.set_progress_bar_config(disable=True)
    rows = []
    for kind, strength in (("edit", 0.95), ("restore", 0.5)):
        task = draw_task(VALIDATE, 77, COLUMNS, vae.device, (kind,))
        mask = task.mask[:, None]
        made = pipe(
            prompt=task.prompts,
            image=task.source,
            mask_image=mask.float(),
            strength=strength,
            num_inference_steps=round(10 / strength),
            guidance_scale=2.0,
            height=64,
            width=64,
            output_type="pt",
            generator=torch.Generator().manual_seed(0),
        ).images
        hidden = torch.where(mask, torch.tensor(0.5, device=vae.device), task.source)
        rows += [task.source, hidden, torch.where(mask, made, task.source), task.clean]
    save_grid(torch.cat(rows), path, columns=COLUMNS)

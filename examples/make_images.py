"""Draw the example pictures: four clean, four damaged, four that miss their prompts. Prompts go into the files."""

import csv
import random
from pathlib import Path

import torch
from PIL import Image

from grefine.io.atomic import write_atomic
from grefine.io.embedded import Embedded, TextChunk
from grefine.io.images import encode_image
from grefine.io.picture import LoadedImage
from lab.world.captions import describe
from lab.world.defects import damage
from lab.world.render import render
from lab.world.scene import misalign, sample

FOLDER = Path(__file__).parent / "images"
KINDS = ["clean"] * 4 + ["blur", "noise", "warp", "cast"] + ["colour", "object", "texture", "missing"]


def main(seed: int = 11) -> None:
    generator, rng = torch.Generator().manual_seed(seed), random.Random(seed)
    scenes = sample(len(KINDS), generator)
    rows = []
    for index, kind in enumerate(KINDS):
        scene = scenes[[index]]
        caption = describe(scene, 0, rng).text
        if index >= 8:
            scene, _, _ = misalign(scene, kind, generator)
        drawn = render(scene)
        pixels = drawn.images
        if 4 <= index < 8:
            tries = [damage(drawn.images, drawn.objects.any(1), generator, (kind,)) for _ in range(12)]
            pixels = max(tries, key=lambda one: float(one.severity)).images
        picture = Image.fromarray((pixels[0] * 255).round().byte().permute(1, 2, 0).numpy())
        path = FOLDER / f"{index + 1:02d}_{kind}.png"
        told = TextChunk("parameters", f"{caption}\nSteps: 20, Seed: {seed}, Size: 64x64")
        write_atomic(path, encode_image(picture, LoadedImage(picture, embedded=Embedded((told,)))))
        rows.append({"file": path.name, "prompt": caption})
    with (FOLDER / "prompts.csv").open("w", newline="", encoding="utf-8") as table:
        writer = csv.DictWriter(table, ["file", "prompt"])
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()

"""Train and measure the network that knows the toy world: `python -m lab train domain`.

Photographs are split by file: every second name (sorted) of a folder is trained on, the others only measured.
"""

import json
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from grefine.errors import ConfigError
from grefine.models.domain import DomainNet, levels, tiles
from lab.bench.cases import quiet_pipeline
from lab.foreign import DRAWN, blurred, crop, drawn, photograph, resized, saved
from lab.world.captions import describe
from lab.world.defects import with_unknown_damage
from lab.world.pictures import to_picture
from lab.world.stream import batch, generator
from lab.world.vocabulary import DEFECT_KINDS, TRAINING_DEFECTS

TRAIN, VALIDATE, TEST = 5_000_011, 6_000_011, 7_000_003
"""Streams of scenes; nothing else draws from these."""
TILES, EPOCHS = 40_000, 6
"""Toy tiles in training (and half the foreign ones), and how often each is seen."""
SUFFIXES = {".png", ".jpg", ".jpeg", ".webp"}
PHOTOGRAPHS = 0.5
"""Share of photographs among the foreign pictures of training."""
REFUSED = 0.0005
"""Share of validation scenes below the threshold."""


def scenes(stream: int, number: int, kinds: Sequence[str] = TRAINING_DEFECTS) -> tuple[Tensor, Tensor]:
    """Return 64 clean scenes and the same ones damaged, (64, 3, 64, 64) each; some damage is of no known kind."""
    data = batch(stream, number, 64, kinds=kinds)
    return data.clean.images, with_unknown_damage(data.damaged, generator(stream, number)).images


def frame(pictures: Sequence[Image.Image], columns: int, rows: int) -> Image.Image:
    """Return toy scenes side by side as one picture."""
    side = pictures[0].width
    sheet = Image.new("RGB", (columns * side, rows * side))
    for index in range(columns * rows):
        sheet.paste(pictures[index % len(pictures)], (index % columns * side, index // columns * side))
    return sheet


def stepped(image: Image.Image, rng: random.Random) -> Image.Image:
    """Return a picture with every value off by one level or none."""
    steps = np.random.default_rng(rng.getrandbits(32)).integers(-1, 2, (image.height, image.width, 3))
    return Image.fromarray(np.clip(np.asarray(image) + steps, 0, 255).astype(np.uint8))


def worn(image: Image.Image, rng: random.Random) -> Image.Image:
    """Return a toy scene as files and other programs leave it."""
    kind = rng.random()
    if kind < 0.35:
        return saved(image, rng)
    if kind < 0.55:
        return stepped(resized(image, rng.uniform(0.85, 1.15), rng), rng)
    if kind < 0.75:
        image = resized(image, rng.choice((1.5, 2, 2, 3, 4, 4, rng.uniform(1, 4))), rng)
        return saved(image, rng) if rng.random() < 0.4 else image
    return stepped(image, rng) if kind < 0.85 else image


def toy_tiles(stream: int, count: int) -> np.ndarray:
    """Return tiles `(count, 64, 64, 3)` of toy scenes: whole ones, and windows of frames of them."""
    rng, found, number = random.Random(stream), [], 0
    while len(found) < count:
        clean, damaged = scenes(stream, number)
        number += 1
        pictures = [to_picture(image) for image in (*clean, *damaged)]
        rng.shuffle(pictures)
        for image in pictures[:96]:
            *_, last = levels(worn(image, rng), 64)
            found.append(tiles(last, 64)[0])
        sheet = frame(pictures[96:], 6, 5)
        sheet = saved(sheet, rng) if rng.random() < 0.5 else sheet
        for _ in range(32):
            left, top = rng.randint(0, sheet.width - 64), rng.randint(0, sheet.height - 64)
            found.append(np.asarray(sheet.crop((left, top, left + 64, top + 64))))
    return np.stack(found[:count])


def foreign_tiles(photographs: Sequence[Image.Image], seed: int, count: int) -> np.ndarray:
    """Return tiles `(count, 64, 64, 3)` of foreign pictures at all their levels."""
    rng, found = random.Random(seed), []
    while len(found) < count:
        image = photograph(photographs, rng) if rng.random() < PHOTOGRAPHS else drawn(rng.choice([*DRAWN]), rng)
        for level in levels(image, 64):
            every = tiles(level, 64)
            found += [every[i] for i in rng.sample(range(len(every)), min(2, len(every)))]
    return np.stack(found[:count])


def train(net: DomainNet, toy: np.ndarray, foreign: np.ndarray, epochs: int, size: int = 128) -> None:
    """Fit the network; every second tile of a step is a toy one."""
    torch.manual_seed(TRAIN)
    steps = epochs * len(toy) * 2 // size
    optimiser = torch.optim.AdamW(net.parameters(), 3e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, steps, pct_start=0.1)
    wanted = torch.cat([torch.ones(size // 2), torch.zeros(size // 2)]) * 0.98 + 0.01
    net.train()
    for step in range(steps):
        rows = torch.randint(len(toy), (size // 2,)).numpy(), torch.randint(len(foreign), (size // 2,)).numpy()
        pixels = torch.from_numpy(np.concatenate([toy[rows[0]], foreign[rows[1]]])).permute(0, 3, 1, 2) / 255
        pixels = torch.where(torch.rand(size, 1, 1, 1) < 0.5, pixels.flip(3), pixels)
        loss = F.binary_cross_entropy_with_logits(net(pixels), wanted)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 200 == 0:
            print(f"step {step} of {steps}, loss {float(loss.detach()):.4f}", file=sys.stderr, flush=True)
    net.eval()


def toy_groups(seed: int, count: int) -> Iterator[tuple[str, list[Image.Image]]]:
    """Return held-out toy pictures by name of the group; every kind of defect has its own."""
    rng, clean = random.Random(seed), []
    damaged: dict[str, list[Image.Image]] = {kind: [] for kind in (*DEFECT_KINDS, "unknown damage")}
    for number in range(-(-count // 64)):
        for kind in DEFECT_KINDS:
            data = batch(seed, number, 64, kinds=[kind])
            damaged[kind] += map(to_picture, data.damaged.images)
        clean += map(to_picture, data.clean.images)
        damaged["unknown damage"] += map(to_picture, scenes(seed, number, DEFECT_KINDS)[1])
    every = clean + [image for images in damaged.values() for image in images]
    rng.shuffle(every)

    def of(change: Callable[[Image.Image], Image.Image]) -> list[Image.Image]:
        return [change(image) for image in rng.sample(every, count)]

    yield "clean", clean[:count]
    for kind, images in damaged.items():
        yield kind, images[:count]
    yield "JPEG or WebP, 85 to 100", of(lambda image: saved(image, rng))
    yield "resized by 0.9 to 1.1", of(lambda image: resized(image, rng.uniform(0.9, 1.1), rng))
    yield "off by one level", of(lambda image: stepped(image, rng))
    for side in (96, 128, 192, 256):
        yield f"enlarged to {side}", of(lambda image, side=side: resized(image, side / 64, rng))
    yield "enlarged, JPEG or WebP", of(lambda image: saved(resized(image, rng.choice((2, 3, 4)), rng), rng))
    yield "drawn at 128", [to_picture(i) for n in range(-(-count // 64)) for i in batch(seed, n, 64, 128).clean.images]
    sizes = ((2, 1), (2, 2), (4, 4), (8, 8))
    yield "frames of scenes", [frame(rng.sample(every, 64), *rng.choice(sizes)) for _ in range(count // 4)]
    places = [(rng.randint(0, 120), rng.randint(0, 170)) for _ in range(count // 4)]
    cuts = [saved(frame(rng.sample(every, 64), 5, 5).crop((x, y, x + 200, y + 150)), rng) for x, y in places]
    yield "cut out of frames", cuts


def refined(count: int) -> Iterator[tuple[str, list[Image.Image]]]:
    """Return what tiny makes of damaged scenes, whether its guard would keep it or not."""
    pipe, rng, found = quiet_pipeline("tiny"), random.Random(TEST), []
    for number in range(-(-count // 16)):
        data = batch(TEST, 1000 + number, 16)
        prompts = [describe(data.scenes, index, rng).text for index in range(16)]
        pictures = [to_picture(image) for image in data.damaged.images]
        found += pipe(prompt=prompts, image=pictures, guard=False, force=True).images
    yield "refined by tiny, unguarded", found[:count]


def foreign_groups(photographs: dict[str, list[Image.Image]], count: int) -> Iterator[tuple[str, list[Image.Image]]]:
    """Return foreign pictures by name of the group, none of which was trained on."""
    rng = random.Random(TEST)
    for name, images in photographs.items():
        yield f"{name}: whole", images
        yield f"{name}: cut", [crop(rng.choice(images), rng) for _ in range(count)]
        yield f"{name}: blurred", [blurred(rng.choice(images), rng) for _ in range(count)]
        larger = [resized(crop(image, rng), rng.uniform(2, 4), rng) for image in rng.choices(images, k=count)]
        yield f"{name}: cut and enlarged", larger
        chosen = rng.choices(images, k=count)
        smaller = [resized(image, rng.uniform(48, 192) / min(image.size), rng) for image in chosen]
        yield f"{name}: shrunk to 48 to 192", smaller
        yield f"{name}: cut, 64 by 64", [crop(rng.choice(images), rng).resize((64, 64)) for _ in range(count)]
        yield f"{name}: any view", [photograph(images, rng) for _ in range(count)]
    for name in DRAWN:
        yield name, [drawn(name, rng) for _ in range(count)]
    beside = [i for images in photographs.values() for i in images]
    yield "half a photograph, half toy scenes", [half(rng.choice(beside), rng) for _ in range(count // 4)]
    yield "plots", [plot(rng) for _ in range(count // 4)]
    yield "fractals", [fractal(rng) for _ in range(count)]


def half(photo: Image.Image, rng: random.Random) -> Image.Image:
    """Put a photograph beside a frame of toy scenes of the same size."""
    pictures = [to_picture(image) for image in scenes(TEST, rng.randrange(100))[0]]
    sheet = Image.new("RGB", (512, 256))
    sheet.paste(photo.resize((256, 256)), (0, 0))
    sheet.paste(frame(pictures, 4, 4), (256, 0))
    return sheet


def plot(rng: random.Random) -> Image.Image:
    """Draw a plot of a kind that training never shows."""
    figure = Figure(figsize=(rng.uniform(1.5, 6), rng.uniform(1.5, 5)), dpi=rng.choice((40, 72, 100)))
    kind = rng.randrange(4)
    axes = figure.add_subplot(projection="3d" if kind == 3 else None)
    values = np.random.default_rng(rng.getrandbits(32)).normal(size=(12, 12)).cumsum(0)
    if kind == 0:
        axes.plot(values)
    elif kind == 1:
        axes.imshow(values, cmap=rng.choice(("viridis", "jet", "coolwarm")))
    elif kind == 2:
        axes.bar(range(12), values[-1])
    else:
        axes.plot_surface(*np.meshgrid(range(12), range(12)), values, cmap="viridis")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def fractal(rng: random.Random) -> Image.Image:
    """Draw a Julia set in random colours."""
    side = rng.choice((64, 96, 160))
    y, x = np.mgrid[-1.5 : 1.5 : side * 1j, -1.5 : 1.5 : side * 1j]
    z, c, count = x + 1j * y, 0.8 * np.exp(2j * np.pi * rng.random()), np.zeros((side, side))
    for _ in range(40):
        inside = np.abs(z) < 2
        z = np.where(inside, z * z + c, z)
        count += inside
    waves = [127 + 127 * np.sin(count / rng.uniform(2, 12) + rng.uniform(0, 6)) for _ in range(3)]
    return Image.fromarray(np.stack(waves, -1).astype(np.uint8))


def photograph_files(folder: Path, trained: bool | None) -> list[Path]:
    """Return the pictures of a folder: those for training, the others, or (None) all."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise ConfigError(f"No pictures lie in '{folder}': name a folder of photographs.")
    return [path for index, path in enumerate(paths) if trained is None or (index % 2 == 0) == trained]


def read_photographs(folder: Path, trained: bool | None) -> list[Image.Image]:
    found = []
    for path in photograph_files(folder, trained):
        image = Image.open(path).convert("RGB")
        image.thumbnail((1536, 1536))
        found.append(image)
    return found


def table(net: DomainNet, head: str, groups: Iterator[tuple[str, list[Image.Image]]], known: bool) -> list[str]:
    """Return lines of a table of how many pictures were judged wrongly, group by group and over all."""
    lines, wrong, total = [f"| {head} | share |", "|---|---:|---:|---:|"], 0, 0
    for name, images in groups:
        missed = sum(net.knows(image) != known for image in images)
        wrong, total = wrong + missed, total + len(images)
        lines.append(f"| {name} | {len(images)} | {missed} | {missed / len(images):.2%} |")
        print(lines[-1], file=sys.stderr, flush=True)
    return [*lines, f"| **all** | {total} | {wrong} | **{wrong / total:.2%}** |"]


def measure(folder: Path, trained_on: Sequence[Path], held_out: Sequence[Path], count: int) -> str:
    """Return both error rates on held-out pictures, as a table in Markdown."""
    net = DomainNet.from_pretrained(folder).float().eval()
    photographs = {"photographs": [i for other in trained_on for i in read_photographs(other, False)]}
    photographs |= {other.name: read_photographs(other, None) for other in held_out}
    own = chain(toy_groups(TEST, count), refined(count // 4))
    refused = table(net, "toy pictures | pictures | refused", own, True)
    foreign = foreign_groups(photographs, count)
    return "\n".join([*refused, "", *table(net, "foreign pictures | pictures | let in", foreign, False)])


def train_domain(out: Path, photographs: Sequence[Path]) -> None:
    """Train the network, set its threshold on validation scenes, and save both with what was trained on."""
    torch.manual_seed(TRAIN)
    net = DomainNet()
    shown = [image for folder in photographs for image in read_photographs(folder, True)]
    train(net, toy_tiles(TRAIN, TILES), foreign_tiles(shown, TRAIN, 2 * TILES), EPOCHS)
    scores = [net.score(image) for _, images in toy_groups(VALIDATE, 128) for image in images]
    net.register_to_config(threshold=round(float(np.quantile(scores, REFUSED)), 3))
    net.half().save_pretrained(out)
    names = [path.name for folder in photographs for path in photograph_files(folder, True)]
    facts = {"photographs": names, "tiles": TILES, "epochs": EPOCHS, "seed": TRAIN}
    (out / "training.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")

"""Pictures that are not of the toy world: photographs seen in many ways, and what a few lines can draw."""

import math
import random
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont

from lab.world.pictures import through

RESAMPLE = (
    Image.Resampling.NEAREST,
    Image.Resampling.BILINEAR,
    Image.Resampling.BICUBIC,
    Image.Resampling.LANCZOS,
)
WORDS = "quality map prompt light of the a picture tree over water seed score 42 image with text and".split()  # noqa: SIM905


def saved(image: Image.Image, rng: random.Random, lowest: int = 85) -> Image.Image:
    """Return a picture as JPEG (both chroma samplings) or WebP gives it back."""
    quality = rng.randint(lowest, 100)
    if rng.random() < 0.7:
        return through(image, "JPEG", quality=quality, subsampling=rng.choice((0, 2)))
    return through(image, "WEBP", quality=quality)


def resized(image: Image.Image, scale: float, rng: random.Random) -> Image.Image:
    """Return a picture enlarged or shrunk by any of the usual methods."""
    width, height = (max(8, round(length * scale)) for length in image.size)
    return image.resize((width, height), rng.choice(RESAMPLE if scale > 1 else RESAMPLE[1:]))


def crop(image: Image.Image, rng: random.Random) -> Image.Image:
    """Cut out a rectangle of a tenth of the shorter side or more."""
    side = min(image.size)
    width, height = (min(length, rng.randint(max(16, side // 10), side)) for length in image.size)
    left, top = rng.randint(0, image.width - width), rng.randint(0, image.height - height)
    return image.crop((left, top, left + width, top + height))


def blurred(image: Image.Image, rng: random.Random) -> Image.Image:
    """Blur a picture, a little or beyond recognition."""
    return image.filter(ImageFilter.GaussianBlur(min(image.size) * 10 ** rng.uniform(-2.5, -1)))


def photograph(photographs: Sequence[Image.Image], rng: random.Random) -> Image.Image:
    """Return a view of one photograph: cut, shrunk or enlarged, blurred, in other colours, turned, saved."""
    image = rng.choice(photographs)
    if rng.random() < 0.8:
        image = crop(image, rng)
    longest = 2 ** rng.uniform(6, 9)
    if rng.random() < 0.6:
        image = resized(image, longest / max(image.size), rng)
    if max(image.size) > 640:
        image = resized(image, 640 / max(image.size), rng)
    if rng.random() < 0.4:
        image = blurred(image, rng)
    if rng.random() < 0.3:
        image = recoloured(image, rng)
    if rng.random() < 0.15:
        image = rng.choice((image.rotate(90), image.rotate(180), image.quantize(rng.randint(3, 32)).convert("RGB")))
    return saved(image, rng, 30) if rng.random() < 0.3 else image


def recoloured(image: Image.Image, rng: random.Random) -> Image.Image:
    """Turn hue, saturation, contrast and brightness."""
    hue, saturation, value = image.convert("HSV").split()
    turn = rng.randint(0, 255)
    image = Image.merge("HSV", (hue.point([(v + turn) % 256 for v in range(256)]), saturation, value)).convert("RGB")
    image = ImageEnhance.Color(image).enhance(rng.uniform(0, 2.5))
    image = ImageEnhance.Contrast(image).enhance(rng.uniform(0.4, 1.8))
    return ImageEnhance.Brightness(image).enhance(rng.uniform(0.5, 1.6))


def flat(rng: random.Random) -> Image.Image:
    """One colour."""
    return Image.new("RGB", _size(rng), _colour(rng))


def gradient(rng: random.Random) -> Image.Image:
    """A few colours that run into each other, along a line, round a point, or in large soft clouds."""
    width, height = _size(rng)
    kind = rng.randrange(3)
    if kind == 2:
        columns, rows = rng.randint(2, 5), rng.randint(2, 4)
        clouds = np.array([[_colour(rng) for _ in range(columns)] for _ in range(rows)], np.uint8)
        return Image.fromarray(clouds).resize((width, height), Image.Resampling.BICUBIC)
    y, x = np.mgrid[0:height, 0:width] / max(width, height)
    angle = rng.uniform(0, 2 * math.pi)
    t = x * math.cos(angle) + y * math.sin(angle) if kind else np.hypot(x - rng.random(), y - rng.random())
    t = (t - t.min()) / max(1e-6, np.ptp(t))
    stops = np.array([_colour(rng) for _ in range(rng.randint(2, 4))])
    places = np.linspace(0, 1, len(stops))
    return _picture(np.stack([np.interp(t, places, stops[:, c]) for c in range(3)], -1))


def noise(rng: random.Random) -> Image.Image:
    """White, coarse, or with the spectrum of photographs; grey or coloured."""
    width, height = _size(rng)
    source = np.random.default_rng(rng.getrandbits(32))
    shape = (height, width, rng.choice((1, 3)))
    values = source.normal(size=shape)
    kind = rng.randrange(3)
    if kind == 1:
        falloff = np.hypot(*np.meshgrid(np.fft.fftfreq(width), np.fft.fftfreq(height))) + 1 / max(shape)
        values = np.fft.ifft2(
            np.fft.fft2(values, axes=(0, 1)) / falloff[..., None] ** rng.uniform(0.5, 2), axes=(0, 1)
        )
        values = values.real / values.real.std()
    elif kind == 2:
        values = np.abs(values) > rng.uniform(0.5, 2)
    pixels = _picture(rng.uniform(60, 190) + rng.uniform(10, 110) * np.broadcast_to(values, (height, width, 3)))
    return resized(pixels, 2 ** rng.uniform(0, 4), rng).crop((0, 0, width, height)) if rng.random() < 0.4 else pixels


def text(rng: random.Random) -> Image.Image:
    """A page of text."""
    width, height = _size(rng, 64)
    grey = rng.randint(0, 60)
    paper, ink = rng.choice((((245,) * 3, (grey,) * 3), ((grey,) * 3, (245,) * 3), (_colour(rng), _colour(rng))))
    image = Image.new("RGB", (width, height), paper)
    draw, size = ImageDraw.Draw(image), rng.randint(8, 28)
    _lines(draw, (size // 2, size // 2, width - size // 2, height), size, ink, rng)
    return image


def screenshot(rng: random.Random) -> Image.Image:
    """Windows with bars, buttons, fields and text."""
    width, height = _size(rng, 128)
    coloured, size = rng.random() < 0.5, (width, height)
    image = gradient(rng).resize(size) if coloured else Image.new("RGB", size, (236,) * 3)
    draw = ImageDraw.Draw(image)
    for _ in range(rng.randint(1, 4)):
        left, top = rng.randint(0, width // 2), rng.randint(0, height // 2)
        right, bottom = rng.randint(left + 40, width + 40), rng.randint(top + 40, height + 40)
        body, ink = ((250,) * 3, (30,) * 3) if rng.random() < 0.6 else ((32, 34, 40), (220,) * 3)
        draw.rectangle((left, top, right, bottom), body, outline=(128,) * 3)
        draw.rectangle((left, top, right, top + 14), _colour(rng))
        _lines(draw, (left + 6, top + 20, right - 6, bottom - 6), rng.randint(8, 14), ink, rng)
        for _ in range(rng.randint(0, 5)):
            x, y = rng.randint(left, right), rng.randint(top + 14, bottom)
            draw.rounded_rectangle((x, y, x + rng.randint(12, 80), y + 14), 4, _colour(rng), outline=(90,) * 3)
    return image


def drawing(rng: random.Random) -> Image.Image:
    """Shapes, lines and dots on a ground, anti-aliased or not."""
    width, height = _size(rng)
    scale = rng.choice((1, 3))
    ground = gradient(rng) if rng.random() < 0.4 else flat(rng)
    image = ground.resize((width * scale, height * scale))
    draw, reach = ImageDraw.Draw(image), min(image.size)
    for _ in range(rng.randint(1, 30)):
        x, y = rng.uniform(0, image.width), rng.uniform(0, image.height)
        r, s = reach * rng.uniform(0.02, 0.35), rng.uniform(0.3, 1)
        box = (x - r, y - r * s, x + r, y + r * s)
        line = rng.choice((None, (0, 0, 0), _colour(rng)))
        width_ = rng.randint(1, 3 * scale)
        kind = rng.randrange(5)
        if kind == 0:
            draw.ellipse(box, _colour(rng), line, width_)
        elif kind == 1:
            draw.rectangle(box, _colour(rng), line, width_)
        elif kind == 2:
            turns = sorted(rng.uniform(0, 2 * math.pi) for _ in range(rng.randint(3, 9)))
            draw.polygon([(x + r * math.cos(t), y + r * math.sin(t)) for t in turns], _colour(rng), line, width_)
        elif kind == 3:
            draw.arc(box, rng.uniform(0, 360), rng.uniform(0, 360), _colour(rng), width_)
        else:
            points = [(rng.uniform(0, image.width), rng.uniform(0, image.height)) for _ in range(rng.randint(2, 6))]
            draw.line(points, _colour(rng), width_)
    return image.resize((width, height), Image.Resampling.LANCZOS)


def pattern(rng: random.Random) -> Image.Image:
    """Checks, stripes, rings or tiles of two colours."""
    width, height = _size(rng)
    y, x = np.mgrid[0:height, 0:width].astype(float)
    angle, period = rng.uniform(0, math.pi), rng.uniform(3, 40)
    u, v = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    waves = (np.sin(u / period), np.sin(u / period) * np.sin(v / period), np.sin(np.hypot(u, v) / period))
    wave = rng.choice(waves)
    t = (wave > 0 if rng.random() < 0.6 else wave / 2 + 0.5)[..., None]
    return _picture(np.array(_colour(rng)) * t + np.array(_colour(rng)) * (1 - t))


def dead_leaves(rng: random.Random) -> Image.Image:
    """Discs that cover each other, of all sizes: the edges and the statistics of photographs."""
    width, height = _size(rng)
    image = Image.new("RGB", (width, height))
    draw = ImageDraw.Draw(image)
    base, spread = _colour(rng), rng.uniform(10, 120)
    for _ in range(rng.randint(100, 600)):
        r = min(width, height) * 0.02 * rng.uniform(0.001, 1) ** -0.5
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        colour = tuple(int(min(255, max(0, rng.gauss(c, spread)))) for c in base)
        draw.ellipse((x - r, y - r, x + r, y + r), colour)
    return image


def landscape(rng: random.Random) -> Image.Image:
    """A drawn scene of another hand: sky, sun, hills, ground, and things made of a few flat or outlined shapes."""
    width, height = _size(rng)
    scale = rng.choice((1, 3))
    size, coloured = (width * scale, height * scale), rng.random() < 0.5
    image = gradient(rng).resize(size) if coloured else Image.new("RGB", size, _colour(rng))
    draw, reach, level = ImageDraw.Draw(image), min(image.size), image.height * rng.uniform(0.35, 0.75)
    if rng.random() < 0.5:
        x, y, r = rng.uniform(0, image.width), rng.uniform(0, level), reach * rng.uniform(0.04, 0.12)
        draw.ellipse((x - r, y - r, x + r, y + r), _colour(rng))
    for _ in range(rng.randint(0, 3)):
        x, r = rng.uniform(0, image.width), reach * rng.uniform(0.2, 0.8)
        draw.ellipse((x - r, level - r / 2, x + r, level + r / 2), _colour(rng))
    draw.rectangle((0, level, *image.size), _colour(rng))
    for _ in range(rng.randint(1, 5)):
        x, y, r = rng.uniform(0, image.width), level + rng.uniform(-0.1, 0.4) * reach, reach * rng.uniform(0.06, 0.22)
        line = rng.choice((None, (0, 0, 0)))
        for _ in range(rng.randint(1, 4)):
            u, v, s, t = (r * rng.uniform(-0.6, 0.6) for _ in range(4))
            box = (x + min(u, s), y + min(v, t), x + max(u, s) + 2, y + max(v, t) + 2)
            shape = rng.choice((draw.ellipse, draw.rectangle, None))
            if shape:
                shape(box, _colour(rng), line, scale)
            else:
                draw.polygon([(x - r, y), (x + r, y), (x + u, y - r)], _colour(rng), line, scale)
    return image.resize((width, height), Image.Resampling.LANCZOS)


def spheres(rng: random.Random) -> Image.Image:
    """A rendering: lit balls over a checked floor under a sky."""
    width, height = _size(rng)
    y, x = np.mgrid[0:height, 0:width] / min(width, height)
    horizon = rng.uniform(0.2, 0.7)
    ends = np.array([_colour(rng) for _ in range(4)], float)
    t = np.clip(y / horizon, 0, 1)[..., None]
    pixels = ends[0] * (1 - t) + ends[1] * t
    depth = 1 / np.maximum(y - horizon, 1e-3)
    checks = (np.floor((x - 0.5) * depth * 2) + np.floor(depth * 2)) % 2
    floor = np.where(checks[..., None] > 0, ends[2], ends[3] if rng.random() < 0.7 else ends[2])
    pixels = np.where(y[..., None] > horizon, floor, pixels)
    for _ in range(rng.randint(1, 6)):
        cx, cy, r = rng.uniform(0, width / min(width, height)), rng.uniform(0.2, 1), rng.uniform(0.05, 0.35)
        dx, dy = (x - cx) / r, (y - cy) / r
        inside = dx**2 + dy**2 < 1
        dz = np.sqrt(np.maximum(0, 1 - dx**2 - dy**2))
        light = np.clip(-0.5 * dx - 0.6 * dy + 0.62 * dz, 0.08, 1)[..., None]
        shine = np.clip(light - 0.9, 0, 1) * 10 * rng.choice((0, 120))
        pixels = np.where((dx**2 + ((dy - 1) * 4) ** 2 < 1)[..., None], pixels * 0.5, pixels)
        pixels = np.where(inside[..., None], np.array(_colour(rng)) * light + shine, pixels)
    return _picture(pixels)


DRAWN: dict[str, Callable[[random.Random], Image.Image]] = {
    "flat": flat,
    "gradient": gradient,
    "noise": noise,
    "text": text,
    "screenshot": screenshot,
    "drawing": drawing,
    "pattern": pattern,
    "dead leaves": dead_leaves,
    "landscape": landscape,
    "rendering": spheres,
}


def drawn(name: str, rng: random.Random) -> Image.Image:
    """Draw one picture of a kind, often worn as files and screens wear them."""
    image = DRAWN[name](rng)
    if rng.random() < 0.2:
        image = blurred(image, rng)
    if rng.random() < 0.2:
        image = resized(image, 2 ** rng.uniform(-1, 1), rng)
    return saved(image, rng, 30) if rng.random() < 0.3 else image


def _size(rng: random.Random, least: int = 48) -> tuple[int, int]:
    if rng.random() < 0.4:
        return (64, 64) if least <= 64 else (least, least)
    return round(least * 2 ** rng.uniform(0, 2.5)), round(least * 2 ** rng.uniform(0, 2.5))


def _colour(rng: random.Random) -> tuple[int, int, int]:
    return rng.randint(0, 255), rng.randint(0, 255), rng.randint(0, 255)


def _picture(values: np.ndarray) -> Image.Image:
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


def _lines(
    draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], size: int, ink: tuple, rng: random.Random
) -> None:
    font, (left, top, right, bottom) = ImageFont.load_default(size), box
    for y in range(top, bottom - size, round(1.35 * size)):
        words = [rng.choice(WORDS) for _ in range(rng.randint(1, max(2, (right - left) // (3 * size))))]
        draw.text((left, y), " ".join(words), ink, font)

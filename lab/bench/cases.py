"""The benchmark's pictures, scenes that nothing was trained on with what is wrong and where, and how they are run."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from grefine.pipeline import GRefinePipeline
from grefine.types import RefineResult
from lab.world.captions import ANY, Caption, describe, matches
from lab.world.defects import damage
from lab.world.pictures import tensor_of, to_picture
from lab.world.render import render
from lab.world.scene import Combinations, Misalignment, Scenes, misalign, sample
from lab.world.stream import BENCHMARK, source
from lab.world.vocabulary import DEFECT_KINDS, HELD_OUT_DEFECT, TRAINING_DEFECTS

SIDE = 64
MOST_TRIES = 12
"""How often more scenes are drawn when a kind of misalignment was not possible in those drawn so far."""
CHANGED: tuple[Misalignment, ...] = ("colour", "object", "texture", "missing")
"""The misalignments that the whole chain is asked to repair."""


@dataclass(frozen=True)
class Cases:
    """B pictures, what their captions ask for, and the truth about both."""

    images: Tensor
    """(B, 3, 64, 64) as a pipeline gets them: whole steps of 1 / 255."""
    clean: Tensor
    """(B, 3, 64, 64) of the scenes that the captions describe."""
    scenes: Scenes
    """What the captions describe."""
    captions: list[Caption]
    kinds: list[str]
    """ "clean", a kind of defect, or a kind of misalignment."""
    slot: Tensor
    """(B,) the object that is wrong; -1 where none is."""
    masks: Tensor
    """(B, 64, 64) bool, what is wrong: visible damage, or the pixels of the wrong and of the asked object."""
    severity: Tensor
    """(B,) of the damage, 0 without."""
    objects: Tensor
    """(B, K, 64, 64) bool, the objects of `clean`."""

    def __len__(self) -> int:
        return len(self.kinds)

    @property
    def prompts(self) -> list[str]:
        return [caption.text for caption in self.captions]

    @property
    def pictures(self) -> list[Image.Image]:
        return pictures_of(self.images)

    def __getitem__(self, rows: Sequence[int]) -> "Cases":
        index = torch.tensor(list(rows), dtype=torch.long)
        columns = [getattr(self, field.name) for field in fields(self)]
        return Cases(*([c[i] for i in rows] if isinstance(c, list) else c[index] for c in columns))

    @property
    def perceptual(self) -> list[int]:
        """Rows with a perceptual defect."""
        return [i for i, kind in enumerate(self.kinds) if kind in DEFECT_KINDS]

    @property
    def misaligned(self) -> list[int]:
        """Rows that do not show what their caption asks for."""
        return [i for i, kind in enumerate(self.kinds) if kind != "clean" and kind not in DEFECT_KINDS]

    @staticmethod
    def cat(parts: "Sequence[Cases]") -> "Cases":
        """Join cases."""

        def joined(values: list[Any]) -> Any:
            if isinstance(values[0], list):
                return [item for value in values for item in value]
            return Scenes.cat(values) if isinstance(values[0], Scenes) else torch.cat(values)

        return Cases(*(joined([getattr(part, field.name) for part in parts]) for field in fields(Cases)))


def quantised(images: Tensor) -> Tensor:
    """Return pictures in whole steps of 1 / 255."""
    return (images.clamp(0, 1) * 255).round() / 255


def widened(masks: Tensor, pixels: int = 2) -> Tensor:
    """Grow masks (B, H, W) bool by some pixels, as true places are before a pipeline gets them."""
    return F.max_pool2d(masks[:, None].float(), 2 * pixels + 1, 1, pixels)[:, 0] > 0


def pictures_of(images: Tensor) -> list[Image.Image]:
    return [to_picture(image) for image in images]


def clean_cases(count: int, number: int, combinations: Combinations = "seen") -> Cases:
    """Draw pictures that are as good as their captions ask."""
    scenes, captions = _scenes(count, number, combinations)
    rendered = render(scenes)
    clean = quantised(rendered.images)
    nothing = torch.zeros(count, SIDE, SIDE, dtype=torch.bool)
    slot = torch.full((count,), -1)
    none = torch.zeros(count)
    return Cases(clean, clean, scenes, captions, ["clean"] * count, slot, nothing, none, rendered.objects)


def damaged_cases(count: int, number: int, held_out: bool = False, kinds: Sequence[str] | None = None) -> Cases:
    """Draw pictures with one perceptual defect each, of the kinds that training knows or of the held-out one."""
    good = clean_cases(count, number)
    chosen = kinds or ((HELD_OUT_DEFECT,) if held_out else TRAINING_DEFECTS)
    spoilt = damage(good.clean, good.objects.any(1), source(BENCHMARK, 5000 + number), chosen)
    return replace(
        good,
        images=quantised(spoilt.images),
        kinds=[DEFECT_KINDS[i] for i in spoilt.kinds.tolist()],
        masks=spoilt.masks,
        severity=spoilt.severity,
    )


def misaligned_cases(kind: Misalignment, count: int, number: int, combinations: Combinations = "seen") -> Cases:
    """Draw pictures whose captions are not met; "held_out": the wrong object is asked for in a pair never trained."""
    found: list[Cases] = []
    for attempt in range(MOST_TRIES):
        if (lacking := count - sum(map(len, found))) <= 0:
            break
        scenes, wrong, captions, slot = wrong_scenes(kind, lacking, number + 100 * attempt, combinations)
        asked, drawn, each = render(scenes), render(wrong), len(scenes)
        masks = (asked.objects | drawn.objects)[torch.arange(each), slot]
        if kind == "relation":
            masks = (asked.objects | drawn.objects)[:, :2].any(1)
        images, clean = quantised(drawn.images), quantised(asked.images)
        found.append(
            Cases(images, clean, scenes, captions, [kind] * each, slot, masks, torch.zeros(each), asked.objects)
        )
    return Cases.cat(found)


def half_and_half(count: int, number: int) -> Cases:
    """Draw half damaged pictures, half that miss their captions; at least one of each kind."""
    wrong = [misaligned_cases(kind, max(count // 8, 1), number + 1 + i) for i, kind in enumerate(CHANGED)]
    return Cases.cat([damaged_cases(max(count // 2, 1), number), *wrong])


def wrong_scenes(
    kind: Misalignment, most: int, number: int, combinations: Combinations = "seen"
) -> tuple[Scenes, Scenes, list[Caption], Tensor]:
    """Draw scenes as asked for and as shown instead, the captions that ask, and the object that is wrong."""
    count = max(4 * most, 16)
    scenes, captions = _scenes(count, number, combinations)
    wrong, slot, possible = misalign(scenes, kind, source(BENCHMARK, 7000 + number))
    if combinations == "held_out":
        possible = possible & (slot == 0)
    rows = torch.arange(count)
    things = [caption.thing(int(s)) for caption, s in zip(captions, slot, strict=True)]
    if kind == "relation":
        related = [caption.relation[:2] if caption.relation else () for caption in captions]
        possible &= torch.tensor([set(pair) == {0, 1} for pair in related])
    elif kind != "count":
        possible &= ~matches(wrong, things)[rows, :, rows].any(1)
    if kind == "texture":
        possible &= torch.tensor([thing.texture != ANY for thing in things])
    keep = possible.nonzero()[:most, 0]
    return scenes[keep], wrong[keep], [captions[int(i)] for i in keep], slot[keep]


def _scenes(count: int, number: int, combinations: Combinations) -> tuple[Scenes, list[Caption]]:
    scenes = sample(count, source(BENCHMARK, number), combinations)
    rng = random.Random(f"{BENCHMARK}-{number}")
    return scenes, [describe(scenes, i, rng) for i in range(count)]


def spans(caption: Caption, text: str) -> list[tuple[int, int]]:
    """Return where in `text` (the caption, cleaned) each object slot's phrase stands; (0, 0) where it does not."""
    found = [(0, 0)] * len(caption.objects)
    at = 0
    for slot in caption.order:
        phrase = caption.objects[slot].text
        start = text.find(phrase, at)
        if start >= 0:
            at = start + len(phrase)
            found[slot] = (start, at)
    return found


def quiet_pipeline(name: str | Path) -> GRefinePipeline:
    """Load a pipeline that draws no bars of its own."""
    pipe = GRefinePipeline.from_pretrained(name)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@dataclass(frozen=True)
class Outcome:
    """What came out."""

    images: Tensor
    """(B, 3, 64, 64)."""
    results: list[RefineResult]


@dataclass(frozen=True)
class Runner:
    """A pipeline, how it is seeded, and how many pictures it gets at once."""

    pipe: Any
    seed: int = 0
    batch: int = 16
    say: Callable[[str], None] = lambda line: None

    def __call__(self, name: str, cases: Cases, *, prompts: Sequence[str] | None = None, **options: Any) -> Outcome:
        """Refine the pictures of cases, by their own prompts or others."""
        images, results = self.refine(name, cases.pictures, prompts or cases.prompts, **options)
        return Outcome(tensor_of(images), results)

    def refine(
        self,
        name: str,
        pictures: Sequence[Image.Image],
        prompts: Sequence[str],
        *,
        masks: Tensor | None = None,
        config: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> tuple[list[Image.Image], list[RefineResult]]:
        """Refine pictures of any sizes; picture i has the same seed in every run, so that only the options differ."""
        self.say(f"{name}: {len(pictures)} pictures")
        images, results = [], []
        for start in range(0, len(pictures), self.batch):
            rows = range(start, min(start + self.batch, len(pictures)))
            out = self.pipe(
                prompt=[prompts[i] for i in rows],
                image=[pictures[i] for i in rows],
                mask_image=None if masks is None else [masks[i].numpy() for i in rows],
                generator=[torch.Generator().manual_seed(self.seed + i) for i in rows],
                config={"batch_size": self.batch} | dict(config or {}),
                force=True,
                **options,
            )
            images += out.images
            results += out.results
        return images, results

"""`python -m lab candidates`: what choosing among repaints wins where they are drawn anew.

The UNet is shown nothing of its source, as SDXL's is not. All tries are drawn once, by a pipeline whose choosing judge
only looks on; then every chooser picks among the same tries, and the judges apart from it decide. Stage 2 is left out.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image

from grefine.refine.candidates import Chooser, open_chooser
from grefine.refine.composite import rounded
from grefine.refine.guard import Panel, decide, reject_regions
from grefine.refine.inputs import pixel_digest
from grefine.refine.maps import MapDrawer
from grefine.refine.settings import RefineConfig, resolve
from grefine.scorers.fidelity import ssim
from grefine.scorers.protocol import Scorer, value_names
from grefine.text.parse import parse
from grefine.types import RepairPlan
from lab.bench import intervals
from lab.bench.cases import pictures_of
from lab.bench.chain import Runner, quiet_pipeline
from lab.bench.run import Sizes, defective_cases
from lab.bench.verdicts import judge
from lab.bench_judges.check import tie_bands
from lab.bench_judges.networks import Judges
from lab.world.pictures import tensor_of

CHOOSERS = ("mdiqa", "moe_agiqa", "mdiqa,moe_agiqa", "lar_iqa", "lar_iqa,moe_agiqa", "mdiqa,lar_iqa")
KEEPS, TRUTH = "no judge: what keeps most", "no judge: what is nearest to the clean scene"
"""What the choosers are held against: both by SSIM, the second knows what no chooser can know."""
Seen = dict[bytes, list[list[np.ndarray]]]
"""By picture and region: the picture, and it with each try at the region."""


class Remembering:
    """A judge, or both maps' scores, that judges no picture twice."""

    def __init__(self, own: Scorer | Callable[..., Any]) -> None:
        self.own, self.known = own, {}
        self.spec: Any = getattr(own, "spec", None)
        self.values = value_names(own) if isinstance(own, Scorer) else ()

    def __call__(self, images: Sequence[Image.Image], prompts: Any = None) -> list[Any]:
        texts = [prompts] * len(images) if isinstance(prompts, str) else prompts
        keys = [(pixel_digest(np.asarray(image)), text) for image, text in zip(images, texts, strict=True)]
        new = {key: image for key, image in zip(keys, images, strict=True) if key not in self.known}
        if new:
            asked = prompts if isinstance(prompts, str) else [text for _, text in new]
            self.known.update(zip(new, self.own(list(new.values()), asked), strict=True))
        return [dict(self.known[key]) if self.spec is None else self.known[key] for key in keys]


def measure(pipeline: str, count: int, tries: int, seed: int, say: Callable[[str], None]) -> Iterator[str]:
    """Give the lines of the table as they are known."""
    pipe: Any = quiet_pipeline(pipeline)
    pipe.register_to_config(unet_traits={})
    part = count / 176
    cases = defective_cases(Sizes(damaged=round(64 * part), heldout=round(32 * part), misaligned=round(20 * part)))
    pictures, texts = cases.pictures, [parse(prompt).text for prompt in cases.prompts]
    run, config = Runner(pipe, seed, say=say), resolve(RefineConfig(), pipe.config.refine_defaults, {})
    seen: Seen = {}

    def onlooker(images: Sequence[Image.Image]) -> list[float]:
        shown = [np.asarray(image) for image in images]
        seen.setdefault(pixel_digest(shown[0]), []).append(shown)
        return [0.0] * len(images)

    options: dict[str, Any] = {"guard": False, "restorer": "none", "scorers": [onlooker]}
    _, results = run.refine("draw", pictures, cases.prompts, candidates=f"{tries} by onlooker", **options)
    plans = [result.plan for result in results]
    maps = MapDrawer.of(*pipe.own_maps(), None, None)
    own = Remembering(lambda images, texts: maps.scores(images, [parse(text) if text else None for text in texts]))
    scorers, looks = [Remembering(scorer) for scorer in pipe.judges()], Judges.load()
    bands = tie_bands(looks, 200)
    yield f"| who chooses among {tries} (n = {len(cases)}) | one try | chosen | best | share of the gap | worse |"
    yield "| --- | ---: | ---: | ---: | --- | --- |"
    clean = [np.asarray(picture) for picture in pictures_of(cases.clean)]
    for name in (*CHOOSERS, KEEPS, TRUTH):
        say(name)
        chooser = Chooser(tries)
        if name in CHOOSERS:
            chooser = open_chooser(replace(config, candidates=f"{tries} by {name}"), scorers, pipe)
        panel = Panel(own, scorers, choosing=chooser.names)
        found = []
        for image, text, plan, truth in zip(pictures, texts, plans, clean, strict=True):
            regions = seen.get(pixel_digest(np.asarray(image)), [])
            aims = [truth if name == TRUTH else region[0] for region in regions]
            chosen = [1 + _taken(chooser, *one, text) for one in zip(regions, aims, strict=True)]
            found.append(_outcomes(image, text, plan, regions, tries, chosen, panel, config))
        verdicts = [judge(looks, bands, cases, tensor_of(images)) for images in zip(*found, strict=True)]
        better, worse = ([[getattr(v, what) for v in one] for one in verdicts] for what in ("improved", "worse"))
        improved, fell = np.array(better, float), np.array(worse, float)  # (tries + 1, n), the chosen last
        one, taken, best = improved[:-1].mean(0), improved[-1], improved[:-1].max(0)
        won = intervals.ratio(taken - one, best - one)
        rates = " | ".join(f"{values.mean():.3f}" for values in (one, taken, best))
        gap = f"{won.value:.2f} ({won.low:.2f} to {won.high:.2f})"
        yield f"| {name} | {rates} | {gap} | {fell[:-1].mean():.3f} → {fell[-1].mean():.3f} |"


def _taken(chooser: Chooser, region: Sequence[np.ndarray], aim: np.ndarray, text: str) -> int:
    """Return which try a chooser takes, or without a judge the one that is most like `aim`."""
    if chooser.parts:
        return chooser.take(region, chooser.rate(region, text), text)
    return int(np.argmax([ssim(one, aim) for one in region[1:]]))


def _outcomes(
    image: Image.Image,
    text: str,
    plan: RepairPlan,
    regions: Sequence[Sequence[np.ndarray]],
    tries: int,
    chosen: Sequence[int],
    panel: Panel,
    config: RefineConfig,
) -> list[Image.Image]:
    """Return what comes out with every try in all regions, and last with the chosen ones."""
    picture, done = np.asarray(image), []
    if not regions:
        return [image] * (tries + 1)
    for numbers in [*([number] * len(regions) for number in range(1, tries + 1)), chosen]:
        singles = [region[number] for region, number in zip(regions, numbers, strict=True)]
        if len(singles) > 1:
            boxes = [region.box for region in plan.regions]
            singles = [singles[i] for i in reject_regions(panel, picture, singles, boxes, text, config)[0]]
        after = picture
        for single in singles:
            after = np.where(single != picture, single, after)
        both = {"original": picture, "repainted": after}
        done.append(Image.fromarray(rounded(both[decide(panel, both, text, config)[0].kept])))
    return done

"""`python -m lab candidates`: what choosing among repaints wins where they are drawn anew, and what tries cost.

The UNet is shown nothing of its source, as SDXL's is not. All tries are drawn once, by a pipeline whose choosing judge
only looks on; then every chooser picks among the same tries, and the judges apart from it decide. Stage 2 is left out.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from PIL import Image

from grefine.refine.candidates import Chooser, open_chooser
from grefine.refine.composite import rounded
from grefine.refine.guard import Panel, decide, reject_regions
from grefine.refine.maps import MapDrawer
from grefine.refine.seeds import pixel_digest
from grefine.refine.settings import RefineConfig, resolve
from grefine.scorers.protocol import Scorer, value_names
from grefine.text.parse import parse
from grefine.types import MetricSpec, Scores
from lab.bench import intervals
from lab.bench.cases import Cases, tensor_of
from lab.bench.chain import Runner
from lab.bench.run import Sizes, defective_cases
from lab.bench.verdicts import judge
from lab.bench_judges.check import tie_bands
from lab.bench_judges.networks import Judges

CHOOSERS = ("mdiqa", "moe_agiqa", "lar_iqa", "mdiqa,moe_agiqa", "lar_iqa,moe_agiqa", "mdiqa,lar_iqa")
Regions = list[list[np.ndarray]]
"""Per region the picture, and it with each try at the region."""


@dataclass
class Onlooker:
    """A judge that keeps what it is shown."""

    spec: MetricSpec = field(default_factory=lambda: MetricSpec("onlooker"))
    seen: dict[bytes, Regions] = field(default_factory=dict)

    def __call__(self, images: Sequence[Image.Image], prompts: Sequence[str] | None = None) -> list[Scores]:
        pictures = [np.asarray(image) for image in images]
        self.seen.setdefault(pixel_digest(pictures[0]), []).append(pictures)
        return [Scores({"onlooker": 0.0}) for _ in images]


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


def measure(pipe: Any, count: int, tries: int, seed: int, say: Callable[[str], None]) -> Iterator[str]:
    """Give the lines of both tables as they are known."""
    pipe.register_to_config(unet_traits={})
    part = count / 176
    cases = defective_cases(Sizes(damaged=round(64 * part), heldout=round(32 * part), misaligned=round(20 * part)))
    run, config = Runner(pipe, seed, say=say), resolve(RefineConfig(), pipe.config.refine_defaults, {})
    yield from ("| K | drawn per picture | CPU seconds per picture |", "| ---: | ---: | ---: |")
    some = cases[range(0, len(cases), max(1, len(cases) // 32))]
    yield from (_cost(run, some, number) for number in (1, 2, 4, 8))
    looker = Onlooker()
    options: dict[str, Any] = {"guard": False, "restorer": "none", "scorers": [looker]}
    pictures = cases.pictures
    run.refine("draw", pictures, cases.prompts, candidates=f"{tries} by onlooker", **options)
    maps = MapDrawer.of(*pipe.own_maps(), None, None)
    own = Remembering(lambda images, text: maps.scores(images, parse(text) if text else None))
    scorers = [Remembering(scorer) for scorer in pipe.judges()]
    looks = Judges.load()
    bands = tie_bands(looks, 200)
    yield from (
        "",
        f"| who chooses among {tries} (n = {len(cases)}) | one try | chosen | best | share of the gap | worse |",
    )
    yield "| --- | ---: | ---: | ---: | --- | --- |"
    for name in CHOOSERS:
        chooser = open_chooser(replace(config, candidates=f"{tries} by {name}"), scorers, pipe)
        for guard in (True, False):
            panel = Panel(own, scorers if guard else (), choosing=chooser.names)
            say(f"{name}, guard {guard}")
            given = zip(pictures, cases.prompts, strict=True)
            found = [_outcomes(picture, text, looker, chooser, panel, config, guard) for picture, text in given]
            verdicts = [judge(looks, bands, cases, tensor_of(list(images))) for images in zip(*found, strict=True)]
            improved = np.array([[v.improved for v in one] for one in verdicts], float)
            worse = np.array([[v.worse for v in one] for one in verdicts], float)
            yield _line(f"{name}{'' if guard else ', unguarded'}", improved, worse)


def _cost(run: Runner, cases: Cases, number: int) -> str:
    began = time.process_time()
    _, results = run.refine(f"K = {number}", cases.pictures, cases.prompts, candidates=number)
    spent = (time.process_time() - began) / len(cases)
    return f"| {number} | {sum(sum(result.drawn) for result in results) / len(cases):.1f} | {spent:.2f} |"


def _outcomes(
    image: Image.Image,
    prompt: str,
    looker: Onlooker,
    chooser: Chooser,
    panel: Panel,
    config: RefineConfig,
    guard: bool,
) -> list[Image.Image]:
    """Return what comes out with every try in all regions, and last with the chosen ones."""
    picture, text = np.asarray(image), parse(prompt).text
    regions = looker.seen.get(pixel_digest(picture), [])
    if not regions:
        return [image] * (chooser.tries + 1)
    picks = [[number] * len(regions) for number in range(1, chooser.tries + 1)]
    picks.append([1 + int(np.argmax(chooser.rate(region, text)[1:])) for region in regions])
    done = []
    for pick in picks:
        singles = [region[number] for region, number in zip(regions, pick, strict=True)]
        many = guard and len(singles) > 1
        accepted = reject_regions(panel, picture, singles, text, config)[0] if many else range(len(singles))
        after = picture
        for single in (singles[i] for i in accepted):
            after = np.where(single != picture, single, after)
        both = {"original": picture, "repainted": after}
        kept = decide(panel, both, text, config)[0].kept if guard else "repainted"
        done.append(Image.fromarray(rounded(both[kept])))
    return done


def _line(name: str, improved: np.ndarray, worse: np.ndarray) -> str:
    """Return one row; both arrays are (tries + 1, n), the chosen last."""
    one, chosen, best = improved[:-1].mean(0), improved[-1], improved[:-1].max(0)
    won = intervals.ratio(chosen - one, best - one)
    rates = " | ".join(f"{values.mean():.3f}" for values in (one, chosen, best))
    fell = f"{worse[:-1].mean():.3f} → {worse[-1].mean():.3f}"
    return f"| {name} | {rates} | {won.value:.2f} ({won.low:.2f} to {won.high:.2f}) | {fell} |"

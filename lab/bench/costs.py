"""`python -m lab costs`: what tries at a region and steering cost, by themselves and as a plot."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lab.bench.cases import half_and_half
from lab.bench.chain import Runner, quiet_pipeline

TRIES = (1, 2, 4, 8)
STEERING = ("sharpness", "mdiqa", "moe-agiqa")


def measure(pipeline: str, count: int, plot: Path | None, say: Callable[[str], None]) -> None:
    """Refine the same pictures in every way, shown nothing of what they redraw, and say CPU seconds per picture."""
    pipe = quiet_pipeline(pipeline)
    pipe.register_to_config(unet_traits={})
    cases, run = half_and_half(count, 1600), Runner(pipe)

    def cost(name: str, **options: Any) -> tuple[float, float]:
        began = time.process_time()
        _, results = run.refine(name, cases.pictures, cases.prompts, **options)
        spent = (time.process_time() - began) / len(cases)
        drawn = sum(sum(result.drawn) for result in results) / len(cases)
        say(f"| {name} | {drawn:.1f} | {spent:.2f} |")
        return drawn, spent

    say("| way | drawn per picture | CPU seconds per picture |")
    say("| --- | ---: | ---: |")
    run.refine("warm", cases.pictures[:4], cases.prompts[:4])
    tries = [cost(f"candidates={number}", candidates=number) for number in TRIES]
    steered = {name: cost(f"steered by {name}", guidance={name: 1.0})[1] for name in STEERING}
    if plot is not None:
        _draw(plot, [spent for _, spent in tries], steered)


def _draw(plot: Path, tries: list[float], steered: dict[str, float]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(5.2, 3.3), layout="constrained")
    axes.plot(TRIES, tries, "o-", label="candidates=K")
    for style, (name, spent) in zip(("--", ":", "-."), steered.items(), strict=True):
        axes.axhline(spent, color="grey", ls=style, label=f"one try, steered by {name}")
    axes.set(xlabel="K", ylabel="CPU seconds per picture", ylim=(0, None), xticks=TRIES)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    plot.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(plot, dpi=110, metadata={"Software": None})
    pyplot.close(figure)

"""The list of judges. A judge is one file that holds its class, its SPEC and its `load`, and one line here.

The files load no network library before they are asked to judge, so that listing them stays light.
"""

from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, Protocol

from grefine.errors import ConfigError, nearest
from grefine.plugins import opened, plugged_in
from grefine.scorers.protocol import PROCESS, Scorer
from grefine.types import MetricSpec

JUDGES = (
    "grefine.scorers.moe_agiqa",
    "grefine.scorers.mdiqa",
    "grefine.scorers.lar_iqa",
    "grefine.scorers.clip:JUDGES",
    "grefine.scorers.imagereward",
    "grefine.scorers.hpsv2",
    "grefine.scorers.vqascore",
    "grefine.scorers.clipiqa",
    "grefine.scorers.brisque",
    "grefine.scorers.piqe",
    "grefine.scorers.niqe",
    "grefine.scorers.brisque_severity",
    "grefine.scorers.metric_q",
    "grefine.scorers.measures:JUDGES",
    "grefine.scorers.pyiqa_adapter:JUDGES",
)
"""Every judge's file, in the order in which they are listed; MODULE:NAME where one file holds several judges."""
GROUP = "grefine.judges"
"""The entry point group under which other packages bring judges, in the same form."""
PAPER = (
    "clipiqa", "unique", "liqe", "dbcnn", "topiq", "cnniqa", "musiq", "brisque", "qalign",
    "clipscore", "imagereward", "pickscore", "hpsv2",
)  # fmt: skip
"""The thirteen metrics of the paper's tables: nine perceptual, four of alignment."""
_processes: dict[str, Any] = {}
"""Those that were named in this run, by what was written."""


class JudgeFile(Protocol):
    """What the file of a judge holds."""

    SPEC: MetricSpec
    load: Callable[[Any, str], Scorer]
    """From where its weights lie (None when it needs none) and a device to a scorer."""
    wrap: Callable[..., Scorer]
    """With `SPEC.component`: from that component (and its tokenizer, with `SPEC.words`) to a scorer."""
    guard: Callable[..., Scorer]
    """Optional: the same with the values alone that the guard asks for, at the size that it asks for."""
    convert: Callable[..., Any]
    """With `SPEC.convert`: from the published files, as path → state, and options to the network."""
    assemble: Callable[[Path], None]
    """Optional: write the component into a folder, from files fetched as `SPEC.fetch`."""


def judge_files() -> dict[str, JudgeFile]:
    """Return every judge's file by the judge's name: ours in order, then those of other packages."""
    found = {file.SPEC.name: file for entry in JUDGES for file in opened(EntryPoint("", entry, GROUP))}
    found |= {file.SPEC.name: file for file in _processes.values()}
    return found | {name: file for name, file in plugged_in(GROUP, "judge").items() if name not in found}


def judge_file(name: str) -> JudgeFile:
    """Return the file of a judge, by any spelling of its name that `known_metric` understands."""
    own = known_metric(name)  # before the list, to which it may add a process
    return judge_files()[own]


def metric_specs(only: str | None = None) -> list[MetricSpec]:
    """Return what is known of every metric; `only` may be "paper" for its thirteen."""
    if only not in (None, "paper"):
        raise ConfigError(f"Metrics are listed as 'paper', or all without a word, not '{only}'.")
    files = judge_files()
    return [files[name].SPEC for name in (PAPER if only else files)]


def find_metric(name: str) -> str | None:
    """Return a metric's own name for any spelling of case and hyphens, or None; a judge in a process is started."""
    text = name.strip()
    if text.startswith(PROCESS):
        if text not in _processes:
            from grefine.scorers.process import open_process

            opened = open_process(text.removeprefix(PROCESS))
            if opened.SPEC.name in judge_files():
                opened.stop()
                raise ConfigError(
                    f"'{text}' calls itself '{opened.SPEC.name}', which another judge is called already."
                )
            _processes[text] = opened
        return _processes[text].SPEC.name
    plain = name.strip().lower().replace("-", "_")
    return next((own for own, file in judge_files().items() if plain in (own, *file.SPEC.aliases)), None)


def known_metric(name: str) -> str:
    """Return a metric's own name for any spelling of case and hyphens."""
    found = find_metric(name)
    if found is None:
        near = nearest(name.strip().lower().replace("-", "_"), judge_files())
        raise ConfigError(f"No metric '{name}'; `grefine metrics` lists them{near}")
    return found


def split_names(text: str) -> list[str]:
    """Split names with commas between them."""
    return [part.strip() for part in text.split(",") if part.strip()]


def split_value(text: str) -> tuple[str, str]:
    """Return the metric's own name and which of its values is meant ("" for all): "mdiqa.sharpness"."""
    metric, _, part = (text, "", "") if text.strip().startswith(PROCESS) else text.partition(".")
    return known_metric(metric), part.strip().lower()

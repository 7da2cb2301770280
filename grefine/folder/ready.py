"""What a run works with: everything that it is told, checked and opened, cheap things first."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from grefine.cluster import join
from grefine.errors import ConfigError
from grefine.folder.batch import Outcome, Reading, refine_batch
from grefine.folder.loras import LoraShelf
from grefine.folder.options import FolderOptions
from grefine.folder.plans import open_by_hand
from grefine.folder.task import Task, gate_key, painters_of, pipeline_name, weights_fingerprint
from grefine.folder.worklist import list_work
from grefine.indicators.providers import Provider, open_sources
from grefine.io.picture import printable
from grefine.io.places import is_address
from grefine.io.prompt_table import PromptTable, read_prompt_table
from grefine.io.prompts import ORDER, PromptSources
from grefine.opening import Opening, missing_judges, open_pipeline
from grefine.refine.restore import RESTORERS
from grefine.refine.settings import read_settings
from grefine.scorers.prefilter import ScoreGate, parse_gate, read_gate

Source = str | Path


@dataclass(frozen=True)
class Ready:
    """A run that can begin."""

    pipe: Any
    task: Task
    out: Path
    opening: Opening
    """How the pipeline was opened, so that others can open it alike."""
    table: PromptTable | None = None
    shelf: LoraShelf | None = None
    gate: ScoreGate | None = None
    unjudged: str = ""
    """Which axis no judge covers, in words."""

    def refine(self, readings: Sequence[Reading]) -> list[Outcome]:
        """Refine the readings of one batch."""
        return refine_batch(self.pipe, readings, self.task, self.shelf, self.gate)

    def notes(self) -> Iterator[str]:
        """Say what is to be known before the run."""
        if self.unjudged:
            yield self.unjudged
        drawn = (self.task.quality_map, self.task.alignment_map)
        for name in (name for one in drawn if isinstance(one, Provider) for name in one.unmeasured):
            text = f"'{name}' was not measured on good pictures, so its map is believed from half on"
            yield f"{text}: `grefine calibrate --help` says how to measure it."
        if self.table is not None:
            yield self.table.note


def make_ready(sources: list[Source], out: Source, options: FolderOptions, asked: Mapping[str, Any]) -> Ready:
    """Check and open what a run is told; `asked` are arguments of `refine_folder` by name, those left out have none.

    Whatever can be told at once is told before anything heavy is loaded.
    """
    ask = asked.get
    settings, out = read_settings(ask("config")), Path(out)
    table = None
    if ask("prompts") is not None:
        table = read_prompt_table(asked["prompts"], ask("name_column"), ask("prompt_column"))
    elif ask("prompt_column"):
        options = replace(options, prompt_column=asked["prompt_column"])
    shelf = LoraShelf(asked["lora_dir"]) if ask("lora_dir") is not None else None
    gate, device, terms = ask("gate"), ask("device"), bool(ask("allow_noncommercial"))
    if isinstance(gate, str):
        parse_gate(gate)
    there = (str(source).startswith("@") or is_address(source) or os.path.lexists(source) for source in sources)
    if sources and not any(there):
        raise ConfigError(f"'{printable(sources[0])}' does not exist: give images, folders, or an @list of paths.")
    if sources and next(list_work(sources, out, options), None) is None:
        where = ", ".join(f"'{printable(source)}'" for source in sources[:3])
        raise ConfigError(f"No images in {where}: files that end in .png, .jpg, .webp, ... or match the pattern.")
    by_hand = open_by_hand(ask("plans"), ask("masks"), bool(ask("add_masks")))
    drawn = open_sources(ask("quality_map"), ask("alignment_map"), device or "cpu", terms)
    restorer = ask("restorer")
    if restorer is not None:
        plain = str(restorer) if str(restorer) in RESTORERS else None
        settings, restorer = replace(settings, restorer=plain), None if plain else restorer
    settings = replace(settings, guidance=dict(asked["guidance"])) if ask("guidance") else settings
    painters = (str(ask("painter") or ""), ask("painter_class") or "", str(restorer or ""))
    loading = (ask("dtype") or "auto", ask("offload") or "none", tuple(ask("judges") or ()))
    opening = Opening(device, *loading, terms, *painters)
    if ask("cluster"):
        join(asked["cluster"])
    pipe = open_pipeline(asked["pipeline"], opening)
    unjudged = missing_judges(pipe, settings) if settings.guard else ""
    if isinstance(gate, str):
        gate = read_gate(gate, asked["gate_weights"], pipe, device or "cpu", terms)
    task = Task(
        pipeline_name(pipe),
        weights_fingerprint(pipe),
        settings,
        options,
        PromptSources(table, ask("prompt"), ask("prompt_order") or ORDER, options.follow_links),
        shelf.folder if shelf else None,
        gate_key(gate),
        tuple(opening.key()),
        *drawn,
        painters_of(pipe),
        *by_hand,
    )
    return Ready(pipe, task, out, opening, table, shelf, gate, unjudged)

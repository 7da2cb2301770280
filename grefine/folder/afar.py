"""The unit of work on the machines of a cluster: actors that hold a pipeline, write results and give rows back."""

import socket
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from grefine.errors import ConfigError
from grefine.folder.batch import run_batch
from grefine.folder.ledger import differing
from grefine.folder.loras import LoraShelf
from grefine.folder.mirror import Mirror, mirror_of
from grefine.folder.ready import Ready
from grefine.folder.task import Task, weights_fingerprint
from grefine.folder.worklist import WorkItem
from grefine.indicators.providers import open_sources
from grefine.io.journal import Row
from grefine.opening import Opening, open_pipeline
from grefine.scorers.prefilter import read_gate

_ASKED = ("pipeline", "gate", "gate_weights", "quality_map", "alignment_map")


def see_named(asked: Mapping[str, Any], who: str) -> None:
    """See that other processes can load what this one was given."""
    if not isinstance(asked["pipeline"], (str, Path)) or not isinstance(asked["gate"], (str, type(None))):
        raise ConfigError(f"{who} load the pipeline and the gate themselves: give both by name.")


def given_afar(asked: Mapping[str, Any], ready: Ready, header: Row) -> dict[str, Any]:
    """Return what a `RefineWorker` is made of, so that it works as this process would; `asked` is what the run was."""
    see_named(asked, "Actors")
    mirror = mirror_of(ready.out)
    return {
        "asked": {name: asked[name] for name in _ASKED} | {"pipeline": str(asked["pipeline"])},
        "header": header,
        "task": replace(ready.task, quality_map=None, alignment_map=None),
        "opening": replace(ready.opening, device=asked["cluster"].device),
        "calibration": ready.pipe.config.get("calibration"),
        "address": mirror.address if mirror else "",
    }


class RefineWorker:
    """Lives in an actor: opens the pipeline once, then does batches."""

    def __init__(
        self, asked: Mapping[str, Any], header: Row, task: Task, opening: Opening, calibration: Any, address: str
    ) -> None:
        place = (opening.device or "cpu", opening.allow_noncommercial)
        drawn = open_sources(asked["quality_map"], asked["alignment_map"], *place)
        self.pipe = open_pipeline(asked["pipeline"], opening)
        self.task = replace(task, quality_map=drawn[0], alignment_map=drawn[1])
        mine = replace(self.task, weights=weights_fingerprint(self.pipe)).header("") | {"prompts": header["prompts"]}
        if changed := differing([header], mine):
            raise ConfigError(f"The worker on '{socket.gethostname()}' is not as this machine: {changed} differ.")
        self.pipe.register_to_config(calibration=calibration)
        self.pipe.set_progress_bar_config(disable=True)
        self.gate = read_gate(asked["gate"], asked["gate_weights"], self.pipe, *place) if asked["gate"] else None
        self.shelf = LoraShelf(task.lora_dir) if task.lora_dir else None
        self.local = tempfile.TemporaryDirectory(prefix="grefine-") if address else None
        self.mirror = Mirror(address, Path(self.local.name)) if self.local else None

    def __call__(self, items: list[WorkItem]) -> list[Row]:
        if self.mirror is None:
            return run_batch(self.pipe, items, self.task, self.shelf, self.gate)
        items = [replace(item, out=self.mirror.local) for item in items]
        rows = run_batch(self.pipe, items, self.task, self.shelf, self.gate)
        self.mirror.send(rows)
        return rows

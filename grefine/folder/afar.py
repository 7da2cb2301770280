"""The unit of work on the machines of a cluster: actors that hold a pipeline, write results and give rows back."""

import socket
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from grefine.cluster import Cluster, work_on
from grefine.errors import ConfigError
from grefine.folder.batch import Row, run_batch
from grefine.folder.ledger import differing
from grefine.folder.loras import LoraShelf
from grefine.folder.mirror import Mirror, mirror_of
from grefine.folder.task import Task, weights_fingerprint
from grefine.folder.worklist import WorkItem
from grefine.indicators.providers import open_sources
from grefine.opening import Opening, open_pipeline
from grefine.refine.restore import RESTORERS
from grefine.scorers.prefilter import read_gate


@dataclass(frozen=True)
class Afar:
    """What every actor needs to do a batch as this process would."""

    cluster: Cluster
    given: Mapping[str, Any]

    def rows(self, batches: Sequence[bytes]) -> Iterator[list[Row]]:
        """Yield the rows of packed batches as they are done."""
        yield from work_on(self.cluster, RefineWorker, dict(self.given), batches)


def afar(cluster: Cluster, asked: Mapping[str, Any], task: Task, header: Row, calibration: Any, out: Path) -> Afar:
    """Gather what the actors need. `asked` are the arguments of the run."""
    if not isinstance(asked["pipeline"], (str, Path)) or not isinstance(asked["gate"], (str, type(None))):
        raise ConfigError("Actors load the pipeline and the gate themselves: give both by name.")
    mirror = mirror_of(out)
    names = ("gate", "gate_weights", "allow_noncommercial", "judges", "quality_map", "alignment_map", "offload")
    names += ("painter", "painter_class", "restorer")
    given = {name: asked[name] for name in names} | {"pipeline": str(asked["pipeline"]), "dtype": asked["dtype"]}
    given |= {"task": replace(task, quality_map=None, alignment_map=None), "header": header}
    given |= {"calibration": calibration, "device": cluster.device, "address": mirror.address if mirror else ""}
    return Afar(cluster, given)


class RefineWorker:
    """Lives in an actor: opens the pipeline once, then does batches."""

    def __init__(
        self,
        task: Task,
        header: Row,
        pipeline: str,
        device: str,
        dtype: str,
        offload: str,
        judges: Sequence[str],
        gate: str | None,
        gate_weights: Sequence[str],
        allow_noncommercial: bool,
        quality_map: str | None,
        alignment_map: str | None,
        calibration: Any,
        address: str,
        painter: str | None = None,
        painter_class: str | None = None,
        restorer: str | None = None,
    ) -> None:
        drawn = open_sources(quality_map, alignment_map, device, allow_noncommercial)
        by = (str(painter or ""), painter_class or "", "" if restorer in RESTORERS else str(restorer or ""))
        self.pipe = open_pipeline(pipeline, Opening(device, dtype, offload, tuple(judges), allow_noncommercial, *by))
        self.task = replace(task, quality_map=drawn[0], alignment_map=drawn[1])
        mine = replace(self.task, weights=weights_fingerprint(self.pipe)).header("") | {"prompts": header["prompts"]}
        if changed := differing([header], mine):
            raise ConfigError(f"The worker on '{socket.gethostname()}' is not as this machine: {changed} differ.")
        self.pipe.register_to_config(calibration=calibration)
        self.pipe.set_progress_bar_config(disable=True)
        self.gate = read_gate(gate, gate_weights, self.pipe, device, allow_noncommercial) if gate else None
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

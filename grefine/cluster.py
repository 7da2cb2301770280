"""Work on a cluster of Ray: a list of pieces, actors that each hold what the work needs, results as they come.

Ray Data deals, holds back and does again what a dead actor had; it never sees an error of the work, because one would
end its job: what a piece of work has to say, failures too, comes back as its result.
"""

import logging
import os
import pickle
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from grefine.errors import ConfigError, GRefineError

_MOST_BLOCKS = 5000
"""Ray keeps a little of every block: where there are more pieces of work, some share one."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """Which cluster, and what of it."""

    address: str | None = None
    """As `ray.init` takes it; None for a cluster of this machine, started and ended with the run."""
    gpus_per_worker: float = 1.0
    """0 to work on CPUs."""
    actors: int = 0
    """0 for one per share of the GPUs, or without GPUs one per machine."""

    @property
    def device(self) -> str:
        """Where an actor's weights are."""
        return "cuda" if self.gpus_per_worker else "cpu"


def join(cluster: Cluster) -> int:
    """Join or start the cluster; return how many actors there will be."""
    try:
        import ray  # pyright: ignore[reportMissingImports]
        import ray.data  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ConfigError("The engine ray needs Ray: install 'grefine[ray]'.") from error
    if not ray.is_initialized():
        try:
            options: dict[str, Any] = {"include_dashboard": False} if cluster.address is None else {}
            ray.init(cluster.address, log_to_driver=False, logging_level=logging.ERROR, **options)
        except Exception as error:
            where = f"at '{cluster.address}' " if cluster.address else ""
            raise ConfigError(f"No Ray cluster {where}can be joined ({type(error).__name__}).") from error
    gpus, per = ray.cluster_resources().get("GPU", 0), cluster.gpus_per_worker
    if per and gpus < per:
        raise ConfigError(
            f"The cluster has {gpus:g} GPUs and a worker asks for {per:g}: add some, or give --gpus-per-worker 0."
        )
    most = int(gpus // per) if per else int(ray.cluster_resources().get("CPU", 1))
    if cluster.actors > most:
        raise ConfigError(f"The cluster has room for {most} actors, not for {cluster.actors}: give --actors {most}.")
    return cluster.actors or (most if per else min(most, len(ray.nodes())))


class _Actor:
    """Holds what the work needs, made once; a fault of its making is told with the first piece of work."""

    def __init__(self, make: Callable[..., Callable[[Any], Any]], given: dict[str, Any], cwd: str) -> None:
        self.refused = ""
        with suppress(OSError):  # where everything is at addresses, no folder need be there
            os.chdir(cwd)
        try:
            self.work = make(**given)
        except GRefineError as error:
            self.refused = str(error)

    def __call__(self, batch: dict[str, Sequence[bytes]]) -> dict[str, list[bytes]]:
        return {"done": [pickle.dumps(self._do(piece)) for piece in batch["piece"]]}

    def _do(self, piece: bytes) -> tuple[str, Any]:
        if self.refused:
            return self.refused, None
        try:
            return "", self.work(unpacked(piece))
        except GRefineError as error:
            return str(error), None
        except Exception as error:  # noqa: BLE001 - Ray would end the job, and every other actor's work with it
            return f"A worker failed: {type(error).__name__}: {error}.", None


def packed(piece: object) -> bytes:
    """Return a piece of work, small: a list of millions is held."""
    return zlib.compress(pickle.dumps(piece), 1)


def unpacked(piece: bytes) -> Any:
    """Return what was packed."""
    return pickle.loads(zlib.decompress(piece))


def work_on(
    cluster: Cluster, make: Callable[..., Callable[[Any], Any]], given: dict[str, Any], pieces: Iterable[bytes]
) -> Iterator[Any]:
    """Yield what the actors, each made once by `make(**given)`, make of the pieces, in their order."""
    count = join(cluster)
    import ray  # pyright: ignore[reportMissingImports]
    import ray.data  # pyright: ignore[reportMissingImports]

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # Journal, table and page in the order of the list, as without a cluster.
    context.execution_options.preserve_order = True
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    items = [{"piece": piece} for piece in pieces]
    if not items:
        return
    found = ray.data.from_items(items, override_num_blocks=min(len(items), _MOST_BLOCKS)).map_batches(
        _Actor,
        fn_constructor_args=(make, given, os.getcwd()),
        batch_size=None,
        compute=ray.data.ActorPoolStrategy(size=min(count, len(items)), max_tasks_in_flight_per_actor=2),
        num_cpus=1,
        num_gpus=cluster.gpus_per_worker,
    )
    try:
        for row in found.iter_rows():
            refused, result = pickle.loads(row["done"])
            if refused:
                raise ConfigError(refused)
            yield result
    except ray.exceptions.RayError as error:
        raise ConfigError(f"The cluster ended the work ({type(error).__name__}): start again to go on.") from error


def leave() -> None:
    """End a cluster that was started for the work, or leave one that was joined."""
    with suppress(ImportError):
        import ray  # pyright: ignore[reportMissingImports]

        ray.shutdown()


_active: list[Cluster] = []


def active() -> Cluster | None:
    """Return the cluster on which judges work now; None for this process."""
    return _active[-1] if _active else None


@contextmanager
def judging_on(engine: str | None, cluster: Cluster) -> Iterator[None]:
    """Let judges work on a cluster for a while, if the engine is `ray`."""
    if engine not in (None, "ray"):
        raise ConfigError(f"The engine of judges must be 'ray', not '{engine}'.")
    if engine is None:
        yield
        return
    join(cluster)
    _active.append(cluster)
    try:
        yield
    finally:
        _active.pop()
        leave()

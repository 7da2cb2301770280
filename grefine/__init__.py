"""grefine: find where a generated image is bad and what of its prompt is missing, repaint only there.

The names below are the public API. They load on first use, so that `import grefine` stays light.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "GRefinePipeline": "grefine.pipeline",
    "GRefineOutput": "grefine.pipeline",
    "PQMap": "grefine.indicators.pq_map",
    "AQMap": "grefine.indicators.aq_map",
    "parse": "grefine.text.parse",
    "parse_prompt": "grefine.text.parse",
    "load_scorer": "grefine.scorers.resolve",
    "evaluate_folders": "grefine.evaluate.run",
    "refine_folder": "grefine.folder.runner",
    "MDIQALoss": "grefine.models.mdiqa",
    "RefineConfig": "grefine.refine.settings",
    "RefineResult": "grefine.types",
    "FolderOptions": "grefine.folder.options",
    "RunSummary": "grefine.folder.summary",
    "MetricSpec": "grefine.types",
    "Scores": "grefine.types",
    "Inspector": "grefine.refine.inspector",
    "choose": "grefine.refine.guard",
    "GRefineError": "grefine.errors",
}

__all__ = [
    "AQMap",
    "FolderOptions",
    "GRefineError",
    "GRefineOutput",
    "GRefinePipeline",
    "Inspector",
    "MDIQALoss",
    "MetricSpec",
    "PQMap",
    "RefineConfig",
    "RefineResult",
    "RunSummary",
    "Scores",
    "choose",
    "evaluate_folders",
    "load_scorer",
    "parse",
    "parse_prompt",
    "refine_folder",
    "__version__",
]

if TYPE_CHECKING:
    from grefine.errors import GRefineError
    from grefine.evaluate.run import evaluate_folders
    from grefine.folder.options import FolderOptions
    from grefine.folder.runner import refine_folder
    from grefine.folder.summary import RunSummary
    from grefine.indicators.aq_map import AQMap
    from grefine.indicators.pq_map import PQMap
    from grefine.models.mdiqa import MDIQALoss
    from grefine.pipeline import GRefineOutput, GRefinePipeline
    from grefine.refine.guard import choose
    from grefine.refine.inspector import Inspector
    from grefine.refine.settings import RefineConfig
    from grefine.scorers.resolve import load_scorer
    from grefine.text.parse import parse, parse_prompt
    from grefine.types import MetricSpec, RefineResult, Scores


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'grefine' has no attribute {name!r}")
    try:
        return getattr(import_module(_HOMES[name]), name)
    except ModuleNotFoundError as error:
        from grefine.errors import PackageMissing

        raise PackageMissing.of(error) from error


def __dir__() -> list[str]:
    return sorted(__all__)

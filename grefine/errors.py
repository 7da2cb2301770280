"""What goes wrong, in words: what was given, what is accepted, the next step."""

import difflib
from collections.abc import Iterable, Iterator


class GRefineError(Exception):
    """Any failure that has one clear sentence for the person who meets it."""


class ConfigError(GRefineError, ValueError):
    """A setting or argument that cannot be used."""


class ImageError(GRefineError, ValueError):
    """An image that cannot be read, decoded or handled."""


class PromptError(GRefineError, ValueError):
    """A prompt that is missing, or prompts that do not match their images."""


class PlanError(GRefineError, ValueError):
    """A repair plan or mask file that cannot be used for its picture."""


class WeightsMissing(GRefineError, FileNotFoundError):
    """Weights that are not on this machine, with the command that gets them."""


class WeightsCorrupt(GRefineError, ValueError):
    """Weights that are present but are not what they should be."""


class MetricUnavailable(GRefineError, RuntimeError):
    """A metric that is known but cannot run here, with how to get it."""


class PackageMissing(GRefineError, ImportError):
    """A package that the light install leaves out."""

    @classmethod
    def of(cls, error: ModuleNotFoundError) -> "PackageMissing":
        """Say which one, and what installs it."""
        package = (error.name or "").partition(".")[0]
        extra = "train" if package in ("h5py", "openpyxl") else "full"
        return cls(
            f"This needs the package '{package}', which is not installed: "
            f"`pip install 'grefine[{extra}]'` brings everything."
        )


class WorldMismatch(GRefineError, ValueError):
    """An image that a pipeline does not know how to judge."""


def in_words(error: Exception) -> str:
    """Return an error's first line, behind its kind where the error is not ours."""
    first = (str(error).strip().splitlines() or [""])[0]
    return first if isinstance(error, GRefineError) else f"{type(error).__name__}: {first}".rstrip(": ")


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and whatever stands behind it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def nearest(name: str, accepted: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` for the closest accepted name, or an empty string."""
    close = difflib.get_close_matches(name, list(accepted), n=1, cutoff=0.55)
    return f"; did you mean '{close[0]}'?" if close else ""

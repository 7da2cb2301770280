"""The prompt that a generator left in its file, whichever generator it was."""

from collections.abc import Iterator

from PIL import ExifTags

from grefine.io.embedded import exif_texts, user_comment
from grefine.io.generators.comfyui import read_comfyui
from grefine.io.generators.found import FoundPrompt, first_answer, text_of
from grefine.io.generators.infotext import read_parameters
from grefine.io.generators.invokeai import read_invokeai
from grefine.io.generators.novelai import read_novelai, read_stealth
from grefine.io.picture import LoadedImage


def find_prompt(image: LoadedImage) -> FoundPrompt | None:
    """Return what the file says of its prompt: an answer, a reason why it cannot be told, or None when it is silent.

    The first form that answers wins; a form that is present but unclear is reported only when no other answers.
    """
    return first_answer(_every_form(image))


def _every_form(image: LoadedImage) -> Iterator[FoundPrompt | None]:
    embedded = image.embedded
    parameters = text_of(embedded, "parameters")
    if parameters is not None:
        yield read_parameters(parameters, text_of(embedded, "fooocus_scheme"), strict=False)
    comment = user_comment(embedded.exif)
    if comment:
        yield read_parameters(comment, None, strict=True)
    name = image.path.name if image.path is not None else ""
    exif = exif_texts(embedded.exif) if embedded.exif else {}
    run = text_of(embedded, "prompt") or _after(exif, "prompt:")
    drawn = text_of(embedded, "workflow") or _after(exif, "workflow:")
    if run or drawn:
        yield read_comfyui(run, drawn, name)
    yield read_invokeai(embedded)
    yield read_novelai(embedded)
    yield read_stealth(image.alpha)


def _after(texts: dict[int, str], mark: str) -> str | None:
    """ComfyUI has no named texts in WebP: it writes `name:JSON` into EXIF fields, from Model downwards."""
    for tag in range(ExifTags.Base.Model, ExifTags.Base.Model - 12, -1):
        value = texts.get(tag, "")
        if value.lower().startswith(mark):
            return value[len(mark) :]
    return None

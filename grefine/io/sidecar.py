"""The prompt that lies beside an image: `name.txt`, `name.png.txt`, `name.json`."""

from pathlib import Path

from grefine.errors import ImageError
from grefine.io.generators.found import FoundPrompt, answer, load_json
from grefine.io.generators.infotext import read_infotext
from grefine.io.images import read_bytes

_KEYS = ("prompt", "positive_prompt", "caption", "text", "description")
_MOST_BYTES = 8 * 2**20


def read_sidecar(image: Path, follow_links: bool = False) -> FoundPrompt | None:
    """Return the prompt beside an image; an unsure answer for a file that is there but tells none.

    A symbolic link that leads out of the image's folder could put any file of this machine into a prompt.
    """
    unclear: FoundPrompt | None = None
    for path in (image.with_suffix(".txt"), Path(f"{image}.txt"), image.with_suffix(".json"), Path(f"{image}.json")):
        origin = f"sidecar {path.suffix}"
        try:
            if path == image or not path.is_file():
                continue
            if not follow_links and path.is_symlink() and not path.resolve().is_relative_to(path.parent.resolve()):
                unclear = unclear or FoundPrompt("", origin, unsure="it is a symbolic link out of the image's folder")
                continue
        except (OSError, RuntimeError):  # a name that is too long for one more ending, a circle of links
            continue
        try:
            text = _decode(read_bytes(path, _MOST_BYTES))
        except ImageError as error:
            if path.stat().st_size:
                unclear = unclear or FoundPrompt("", origin, unsure=str(error).rstrip("."))
            continue
        found = _from_json(text, origin) if path.suffix == ".json" else _from_text(text, origin)
        if found is not None and not found.unsure:
            return found
        unclear = unclear or found
    return unclear


def _from_text(text: str, origin: str) -> FoundPrompt | None:
    """A whole infotext, as Automatic1111 saves beside its files, or the bare prompt."""
    found = read_infotext(text)
    return found and FoundPrompt(found.prompt, origin, found.negative, found.unsure)


def _from_json(text: str, origin: str) -> FoundPrompt | None:
    data = load_json(text)
    if isinstance(data, str):
        return answer(data, origin)
    if isinstance(data, dict):
        for key in _KEYS:
            if isinstance(data.get(key), str) and data[key].strip():
                return answer(data[key], origin, data.get("negative_prompt"))
        if isinstance(data.get("parameters"), str):
            return _from_text(data["parameters"], origin)
    return FoundPrompt("", origin, unsure=f"the JSON beside it has none of {', '.join(_KEYS)}")


def _decode(data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")

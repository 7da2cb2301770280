"""Judges in a process of their own, for what cannot be installed beside grefine: JSON lines over pipes."""

import atexit
import hashlib
import json
import math
import os
import re
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from queue import Empty, Queue
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any

from grefine.config import build, load_config
from grefine.errors import ConfigError, ImageError, MetricUnavailable
from grefine.scorers.protocol import Images, PlainJudge, Prompts, check_images, check_prompts
from grefine.types import MetricSpec, Scores

TOLD = ("name", "direction", "range", "needs_prompt", "axis", "licence", "version", "description", "values",
        "noncommercial")  # fmt: skip
"""What a child may say of itself: fields of `MetricSpec`."""


@dataclass(frozen=True, slots=True)
class ProcessConfig:
    """How a judge's process is started, as the YAML behind `process:` states it."""

    command: tuple[str, ...]
    """The program and its arguments; paths that exist beside the YAML are taken from there."""
    timeout: float = 300.0
    """Seconds for the start, and for one request of up to sixteen pictures."""


class ProcessJudge(PlainJudge):
    """A scorer whose numbers come from a process; they are checked like those of anyone's function."""

    def __init__(self, child: "Child", device: str) -> None:
        self.spec, self.child, self.device = child.SPEC, child, device
        self.values = tuple(self.spec.values)
        self.function, self.reads_prompts = self._ask, True

    def _ask(self, images: Images, prompts: Prompts = None) -> Sequence[Any]:
        """Write the pictures where the process can read them, and ask it."""
        name = self.spec.name
        pictures = check_images(images, name)
        texts = check_prompts(prompts, len(pictures), name, required=True) if self.spec.needs_prompt else prompts
        with TemporaryDirectory(prefix="grefine-judge-") as place:
            paths = [os.path.join(place, f"{index}.png") for index in range(len(pictures))]
            for path, picture in zip(paths, pictures, strict=True):
                picture.save(path, compress_level=1)
            asked = {"images": paths, "prompts": None if texts is None else list(texts), "device": self.device}
            return self.child.ask(asked)

    def _read(self, given: Any) -> Scores:
        scores = super()._read(given)
        strange = [value for value in scores.values if value.partition(".")[0] != self.spec.name]
        if strange or (self.values and set(scores.values) != set(self.values)):
            wanted = ", ".join(self.values) or f"{self.spec.name} or {self.spec.name}.PART"
            raise ConfigError(f"'{self.spec.name}' names its values {', '.join(scores.values)}, not {wanted}.")
        return scores


class Child:
    """The process, as the file of a judge: started once more when it dies at a request, and ended with ours."""

    def __init__(self, config: ProcessConfig) -> None:
        self.command, self.timeout = config.command, config.timeout
        self.name = f"The judge's process '{' '.join(config.command)}'"
        self.process: subprocess.Popen[str] | None = None
        self.lock, self.ids, self.failed = threading.Lock(), count(1), 0
        atexit.register(self.stop)
        self.SPEC = self.start()

    def load(self, path: Any, device: str) -> ProcessJudge:
        """Return the scorer."""
        return ProcessJudge(self, device)

    def start(self) -> MetricSpec:
        """Start it and return what it says of itself."""
        self.stop()
        self.lines: Queue[str | None] = Queue()
        # It lives as long as the process.
        self.errors = TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        # Another Python must not be led to our packages.
        surroundings = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
        try:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.errors,
                encoding="utf-8",
                errors="replace",
                env=surroundings,
            )
        except OSError as error:
            raise MetricUnavailable(f"{self.name} cannot be started: {error.strerror}; check its paths.") from error

        def listen(stream: Any, lines: Queue[str | None]) -> None:
            for line in stream:
                lines.put(line)
            lines.put(None)

        self.input: Any = self.process.stdin
        threading.Thread(target=listen, args=(self.process.stdout, self.lines), daemon=True).start()
        try:
            return self._spec(self._receive("judge"))
        except _Died:
            raise MetricUnavailable(f"{self.name} ended before it said what it is{self._last_words()}") from None

    def ask(self, request: Mapping[str, Any]) -> Sequence[Any]:
        """Return its scores of a request; a process that died is started once more."""
        with self.lock:
            if self.failed > 1:
                raise MetricUnavailable(f"{self.name} failed twice in a row: it is not asked again.")
            self.failed += 1
            answer = self._answer(dict(request))
            self.failed = 0
        if "error" in answer:
            raise ImageError(f"{self.name} refuses: {_short(str(answer['error']))}")
        scores = answer["scores"]
        if not isinstance(scores, list):
            raise ConfigError(f"{self.name} must answer with a list of scores, not {scores!r}.")
        return scores

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        for again in (False, True):
            if self.process is None or self.process.poll() is not None:
                self.start()
            number = next(self.ids)
            try:
                self.input.write(json.dumps({"id": number} | request) + "\n")
                self.input.flush()
                return self._receive("scores", number)
            except (_Died, OSError):  # its output has ended, or it has closed its end, though it may not have left yet
                words = self._last_words()
                self.stop()
                if again:
                    raise MetricUnavailable(f"{self.name} died twice at one request{words}") from None
        raise AssertionError  # the loop returns or raises

    def stop(self) -> None:
        """End the process."""
        process, self.process = self.process, None
        if process is not None:
            process.kill()
            process.wait()

    def _receive(self, key: str, number: int | None = None) -> dict[str, Any]:
        """Return its next line with `key` (or an error) for a request; what its libraries print is passed over."""
        until = time.monotonic() + self.timeout
        with suppress(Empty):
            while (line := self.lines.get(timeout=max(0.0, until - time.monotonic()))) is not None:
                with suppress(ValueError):
                    found = json.loads(line)
                    if isinstance(found, dict) and (key in found or "error" in found) and found.get("id") == number:
                        return found
            raise _Died
        self.stop()
        raise MetricUnavailable(
            f"{self.name} did not answer within {self.timeout:g} seconds: raise `timeout` in its YAML, or look at it."
        )

    def _spec(self, hello: Mapping[str, Any]) -> MetricSpec:
        said = hello.get("judge")
        if not isinstance(said, dict) or not re.fullmatch(r"[a-z][a-z0-9_]*", str(said.get("name", ""))):
            raise ConfigError(
                f'{self.name} must first say {{"judge": {{"name": ...}}}} with a name of small letters, digits and _, '
                f"not {_short(json.dumps(hello))}"
            )
        low, high = said.pop("range", None) or (None, None)
        said["range"] = (-math.inf if low is None else low, math.inf if high is None else high)
        spec = build(MetricSpec, said, where=self.name)
        strange = set(said) - set(TOLD)
        if strange:
            raise ConfigError(f"{self.name} says '{min(strange)}' of itself; it may say {', '.join(TOLD)}.")
        # The scripts are part of the version, so that scores of another state of them are not taken for its own.
        digest = hashlib.sha256("\0".join(self.command).encode())
        for path in map(Path, self.command[1:]):
            if path.is_file():
                digest.update(path.read_bytes())
        return replace(spec, version=f"{spec.version}+{digest.hexdigest()[:8]}")

    def _last_words(self) -> str:
        self.errors.seek(0)
        lines = [line for line in self.errors.read().splitlines() if line.strip()]
        return f": {_short(lines[-1])}" if lines else ", without a word on its standard error."


class _Died(Exception):
    """The process ended."""


def open_process(file: str) -> Child:
    """Return the judge behind `process:FILE.yaml`, started."""
    if not file.endswith((".yaml", ".yml")):
        raise ConfigError(f"A judge in a process is named process:FILE.yaml, not 'process:{file}'.")
    config, folder = load_config(file, ProcessConfig), Path(file).parent
    beside = tuple(str(folder / part) if (folder / part).is_file() else part for part in config.command)
    return Child(replace(config, command=beside))


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 200 else f"{line[:200]} ..."

"""How a run is shown while it goes: one live line on a terminal, plain lines elsewhere, JSON events for programs."""

import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TextIO

from grefine.folder.summary import STATES
from grefine.io.picture import printable

Event = dict[str, Any]
Reporter = Callable[[Event], None]
_EVERY = 10.0
"""Seconds between two plain lines."""


def silent(event: Event) -> None:
    """Show nothing."""


def tell_json(event: Event) -> None:
    """Print one JSON object per line on stdout."""
    print(json.dumps(event), flush=True)  # noqa: T201 - the events are the result


def notes_to(report: Reporter) -> Callable[[str], None]:
    """Return what tells a reporter a sentence."""
    return lambda text: report({"event": "note", "text": text})


def choose_reporter(as_json: bool = False) -> Reporter:
    """Return the reporter that suits where the output goes."""
    return tell_json if as_json else LiveReporter() if sys.stderr.isatty() else PlainReporter()


class PlainReporter:
    """Failures at once, progress every few seconds."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream, self.last = stream or sys.stderr, time.monotonic()

    def __call__(self, event: Event) -> None:
        if text := _text(event):
            print(text, file=self.stream, flush=True)  # noqa: T201 - this is what it is for
        elif event["event"] == "progress" and time.monotonic() - self.last >= _EVERY:
            self.last = time.monotonic()
            print(progress_line(event), file=self.stream, flush=True)  # noqa: T201 - the same


class LiveReporter:
    """One line that is redrawn in place, with failures above it."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live
        from rich.text import Text

        self.text = Text
        self.console = Console(stderr=True)
        self.live = Live(Text("..."), console=self.console, refresh_per_second=4, transient=True)

    def __call__(self, event: Event) -> None:
        if event["event"] == "start":
            self.live.start()
        elif event["event"] in ("end", "aborted"):
            self.live.stop()
        elif event["event"] == "progress":
            self.live.update(self.text(progress_line(event)))
        elif text := _text(event):
            self.console.print(self.text(text))


def progress_line(event: Event) -> str:
    """Return done, untouched, refined, kept, beyond repair, failed, images per second and time left, on one line."""
    counts: Counter[str] = Counter(event["counts"])
    of = f"/{event['total']:,}" if event.get("total") is not None else ""
    parts = [f"{event['done']:,}{of}"]
    parts += [f"{event['resumed']:,} from before"] if event.get("resumed") else []
    parts += [f"{counts[state]:,} {word}" for state, word in STATES.items() if counts[state] and state != "skipped"]
    parts.append(f"{event['rate']:.2f} images/s")
    if event.get("left_seconds") is not None:
        parts.append(f"{timedelta(seconds=round(event['left_seconds']))} left")
    return "  ".join(parts)


def _text(event: Event) -> str:
    """Return what is said at once: a note, or the one line that a bad file gets."""
    if event["event"] == "note":
        return event["text"]
    if event["event"] != "image" or event["state"] != "failed" or event.get("foreign"):
        return ""  # foreign pictures are told once, at the end
    name, reason = printable(event["file"]), printable(event["reason"])
    times = event.get("failed_before", 0)
    reason += f" (It failed {times} time{'s' if times > 1 else ''} before.)" if times else ""
    # Sentences about a file name it already.
    return f"failed: {reason}" if name.rsplit("/", 1)[-1] in reason else f"failed: '{name}': {reason}"

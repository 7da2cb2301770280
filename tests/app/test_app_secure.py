"""Whom the window answers, and what it never does: each test is the attack, against the served page."""

from __future__ import annotations

import json
import shutil
import socket
import sys
import threading
import time
import warnings
from importlib.util import find_spec
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "folder"))
from small_world import config, make_folder, random_pipeline, scene

from grefine.app.desk import open_desk
from grefine.app.serve import serve
from grefine.errors import ConfigError

if find_spec("gradio") is None:
    REASON = "the window was NOT tested: gradio is missing (grefine[app] brings it)"
    warnings.warn(REASON, stacklevel=1)
    pytest.skip(REASON, allow_module_level=True)

import httpx


class Slow:
    """A pipeline that says how many calls are in it at once."""

    def __init__(self, pipe):
        self.pipe, self.inside, self.most, self.calls = pipe, 0, 0, 0

    def __getattr__(self, name):
        return getattr(self.pipe, name)

    def __call__(self, **given):
        self.inside += 1
        self.most, self.calls = max(self.most, self.inside), self.calls + 1
        time.sleep(0.5)
        try:
            return self.pipe(**given)
        finally:
            self.inside -= 1


@pytest.fixture(scope="module")
def window(tmp_path_factory):
    root = tmp_path_factory.mktemp("secure")
    source = make_folder(root / "in", 2)
    scene(9).save(root / "secret.png")
    (source / "link.png").symlink_to(root / "secret.png")
    with pytest.MonkeyPatch.context() as patch:
        # What a careless shell may have set.
        patch.setenv("GRADIO_SHARE", "True")
        patch.setenv("GRADIO_SERVER_NAME", "0.0.0.0")
        desk = open_desk(source, Slow(random_pipeline()), root / "out", root / "plans", config=config())
        window = serve(desk, port=0, wait=False)
    window.root = root
    yield window
    window.close()


def ask(window, handler, data, session):
    """Call a handler as a browser would, and return what the queue says at the end."""
    number = next(
        n for n, fn in window.fns.items() if fn.fn is not None and fn.targets and fn.targets[0] == handler
    )
    body = {"data": data, "fn_index": number, "session_hash": session, "trigger_id": None, "event_data": None}
    url = f"{window.local_url}gradio_api/queue"
    answer = httpx.post(f"{url}/join", json=body, timeout=60)
    if answer.status_code != 200:
        return {"refused": answer.status_code, "text": answer.text}
    with httpx.stream("GET", f"{url}/data", params={"session_hash": session}, timeout=60) as stream:
        for line in stream.iter_lines():
            told = json.loads(line.removeprefix("data:")) if line.startswith("data:") else {}
            if told.get("msg") in ("process_completed", "unexpected_error"):
                return told
    raise AssertionError("the queue ended without an answer")


def part(window, name):
    return next(block._id for block in window.blocks.values() if getattr(block, "elem_id", None) == name)


def test_only_this_machine_can_connect_and_it_is_never_shared(window):
    port = int(window.local_url.rstrip("/").rpartition(":")[2])
    assert httpx.get(window.local_url).status_code == 200
    with socket.socket() as other, pytest.raises(OSError, match="refused"):
        socket.socket.connect(other, ("127.0.0.2", port))  # an address of every interface would answer
    assert window.share is False
    assert window.share_url is None

"""Whom the window answers, and what it never does: each test is the attack, against the served page."""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
import warnings
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parents[1] / "folder"))
from small_world import config, make_folder, random_pipeline, scene

from grefine.app.desk import open_desk
from grefine.app.page import region_rows
from grefine.app.serve import serve
from grefine.errors import ConfigError

if find_spec("gradio") is None:
    REASON = "the window was NOT tested: gradio is missing (grefine[app] brings it)"
    warnings.warn(REASON, stacklevel=1)
    pytest.skip(REASON, allow_module_level=True)

import httpx

FILES = ["0000.png", "0000.png.plan.json", "0000.png.mask.png"]


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


def ask(window, event, data, session, name=None):
    """Call a handler as the page does, by the part of the page and its event, and return the queue's last word."""
    names = {block._id: getattr(block, "elem_id", None) for block in window.blocks.values()}
    targets = {number: (names.get(fn.targets[0][0]), fn.targets[0][1]) for number, fn in window.fns.items()}
    number = next(number for number, target in targets.items() if target == (name, event))
    body = {"data": data, "fn_index": number, "session_hash": session}
    url = f"{window.local_url}gradio_api/queue"
    answer = httpx.post(f"{url}/join", json=body, timeout=60)
    if answer.status_code != 200:
        return {"refused": answer.status_code}
    with httpx.stream("GET", f"{url}/data", params={"session_hash": session}, timeout=60) as stream:
        for line in stream.iter_lines():
            told = json.loads(line.removeprefix("data:")) if line.startswith("data:") else {}
            if told.get("msg") in ("process_completed", "unexpected_error"):
                return told
    raise AssertionError("the queue ended without an answer")


def fails(told):
    """Whether a call was refused: by Gradio, or by a sentence that leaves all but the list as it was."""
    if "refused" in told or told["msg"] == "unexpected_error" or told.get("success") is False:
        return True
    parts = told["output"]["data"][1:]
    return all(isinstance(part, dict) and set(part) <= {"__type__", "props"} for part in parts)


def test_only_this_machine_can_connect_and_it_is_never_shared(window):
    port = int(window.local_url.rstrip("/").rpartition(":")[2])
    assert httpx.get(window.local_url).status_code == 200
    for address, answers in (("127.0.0.1", True), ("127.0.0.2", False)):  # all interfaces would answer at both
        with socket.socket() as other:
            assert (other.connect_ex((address, port)) == 0) is answers
    assert window.share is False
    assert window.share_url is None


@pytest.mark.parametrize("host", ["evil.example", "evil.example:7860", "127.0.0.1.evil.example", "192.168.0.9", ""])
def test_a_foreign_host_header_is_refused_everywhere(window, host):
    for path in ("", "config", "gradio_api/info", "gradio_api/queue/data?session_hash=x", "theme.css"):
        assert httpx.get(f"{window.local_url}{path}", headers={"Host": host}).status_code == 400
    assert httpx.post(f"{window.local_url}gradio_api/upload", headers={"Host": host}).status_code == 400


def test_a_page_elsewhere_may_not_read_what_it_answers(window):
    answer = httpx.get(f"{window.local_url}config", headers={"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in answer.headers


def test_no_file_outside_of_what_was_dropped_or_shown_is_served(window):
    root = window.root
    for path in ("/etc/passwd", root / "secret.png", root / "in" / "0000.png", "in/../secret.png", __file__):
        answer = httpx.get(f"{window.local_url}gradio_api/file={path}")
        assert answer.status_code in (403, 404), path


@pytest.mark.parametrize("name", ["../secret.png", "link.png", "/etc/passwd"])
def test_no_name_opens_a_picture_outside_of_the_folder(window, name):
    assert not fails(ask(window, "load", [None, []], name))
    assert fails(ask(window, "input", [name, []], name, "listed"))
    assert not fails(ask(window, "input", ["0000.png", []], name, "listed"))


def test_no_path_that_was_not_uploaded_is_taken_for_a_dropped_picture_or_a_stroke(window):
    secret = {"path": str(window.root / "secret.png"), "meta": {"_type": "gradio.FileData"}}
    assert fails(ask(window, "upload", [secret, []], "paths", "dropped"))
    assert not fails(ask(window, "load", [None, []], "paths"))
    strokes = {"background": secret, "layers": [secret], "composite": None}
    assert fails(ask(window, "then", [{"data": [], "headers": [], "metadata": None}, strokes, []], "paths"))


def test_uploads_are_bounded(window):
    url = f"{window.local_url}gradio_api/upload"
    small = httpx.post(url, files={"files": ("a.png", b"x" * 1000)})
    assert small.status_code == 200
    large = httpx.post(url, files={"files": ("a.png", bytes(65 * 2**20))}, timeout=60)
    assert large.status_code == 413


def test_a_dropped_picture_with_too_many_pixels_is_refused(window, tmp_path):
    from PIL import Image

    Image.new("1", (30_000, 30_000)).save(tmp_path / "bomb.png")
    files = {"files": ("bomb.png", (tmp_path / "bomb.png").read_bytes())}
    sent = httpx.post(f"{window.local_url}gradio_api/upload", files=files)
    given = {"path": sent.json()[0], "meta": {"_type": "gradio.FileData"}}
    told = ask(window, "upload", [given, []], "bomb", "dropped")
    assert fails(told)
    assert not window.sittings.of("bomb").dropped


def test_two_people_wait_for_one_another(window):
    slow = window.sittings.desk.pipe
    slow.most = slow.calls = 0
    people = [(window, "load", [None, []], f"person{number}") for number in range(3)]
    threads = [threading.Thread(target=ask, args=one) for one in people]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (slow.calls, slow.most) == (3, 1)


def test_who_leaves_stops_and_is_forgotten(window):
    sitting = window.sittings.of("gone")
    window.sittings.leave("gone")
    assert sitting.stop.is_set()
    assert "gone" not in window.sittings.open
    window.sittings.leave("gone")


def test_a_port_that_is_taken_is_one_sentence(window):
    port = int(window.local_url.rstrip("/").rpartition(":")[2])
    with pytest.raises(ConfigError, match=f"port {port}.*--port"):
        serve(window.sittings.desk, port, wait=False)


def test_a_space_gives_everyone_results_of_their_own_and_takes_them_away(window):
    from grefine.app.window import LOOKS, make_window

    space = make_window(window.sittings.desk, private=True)
    space.launch(prevent_thread_lock=True, server_name="127.0.0.1", share=False, quiet=True, **LOOKS)
    try:
        for session in ("ann", "ben"):
            assert not fails(ask(space, "load", [None, []], session))
        ann, ben = space.sittings.of("ann"), space.sittings.of("ben")
        rows = {"data": region_rows(ann.plan), "headers": ["", "on", "words", "strength", "why"], "metadata": None}
        assert not fails(ask(space, "then", [rows, None, []], "ann"))
        told = ask(space, "click", ["0000.png"], "ann", "keep")
        assert [file["orig_name"] for file in told["output"]["data"][2]["value"]] == FILES
        assert (ann.desk.out / "0000.png").is_file()
        assert not ben.desk.out.exists()
        assert not window.sittings.desk.out.exists()
        space.sittings.leave("ann")
        assert not ann.desk.out.parent.exists()
        assert ben.desk.out.parent.exists()
        space.sittings.leave("ben")
    finally:
        space.close()


def test_the_files_of_the_space_are_what_hugging_face_reads():
    folder = Path(__file__).parents[2] / "examples" / "space"
    front = yaml.safe_load((folder / "README.md").read_text().split("---")[1])
    assert (front["sdk"], front["app_file"]) == ("gradio", "app.py")
    assert front["sdk_version"].startswith("6.")
    assert (folder / "requirements.txt").read_text() == "grefine[app]\n"
    assert len((folder / "app.py").read_text().splitlines()) == 3

"""Fetching up to the network: from a server on this machine, from the cache, and without either."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
from pathlib import Path

import pytest

from grefine import fetching
from grefine.errors import ConfigError, WeightsCorrupt, WeightsMissing

CONTENT = b"weights" * 1000
SHA = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GREFINE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("GREFINE_RECIPES", str(tmp_path))
    return tmp_path / "cache"


@pytest.fixture
def server():
    """Serve CONTENT under any name, and count how often it is asked for."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(404 if "absent" in self.path else 200)
            if "cut" in self.path:
                self.send_header("Content-Length", "9000")
            self.end_headers()
            self.wfile.write(CONTENT)

        def log_message(self, *args):
            pass

    httpd = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{httpd.server_port}", asked
    httpd.shutdown()


def recipe(folder: Path, url: str, sha: str | None = SHA, **extra) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "own.yaml"
    entry = {"url": url, "path": "w.bin"} | ({"sha256": sha} if sha else {})
    file.write_text(json.dumps({"description": "d", "licence": "MIT", "source": "s", "files": [entry]} | extra))
    return file.stem


def test_download_then_cache_hit(tmp_path, server, cache):
    url, asked = server
    name = recipe(tmp_path, f"{url}/w.bin")
    done = fetching.fetch(name)
    assert done == [cache / "own" / "w.bin"]
    assert done[0].read_bytes() == CONTENT
    assert json.loads((cache / "lock.json").read_text())["own"]["w.bin"]["sha256"] == SHA
    lines = []
    assert fetching.fetch(name, report=lines.append) == done
    assert len(asked) == 1
    assert "present, hash as recorded" in lines[0]


def test_wrong_hash_on_arrival_keeps_nothing(tmp_path, server, cache):
    name = recipe(tmp_path, f"{server[0]}/w.bin", "0" * 64)
    with pytest.raises(WeightsCorrupt, match=f"sha256 {SHA}, expected 0000"):
        fetching.fetch(name)
    assert [p.name for p in cache.rglob("*") if p.is_file()] == []


def test_a_changed_file_is_noticed(tmp_path, server, cache):
    name = recipe(tmp_path, f"{server[0]}/w.bin", None)
    target = fetching.fetch(name)[0]
    target.write_bytes(b"other" * 1000)
    with pytest.raises(WeightsCorrupt, match="delete it and run `grefine fetch own`"):
        fetching.fetch(name)


def test_a_first_download_is_pinned(tmp_path, server, cache):
    """Without a known hash the first download decides, and a later different one is refused."""
    name = recipe(tmp_path, f"{server[0]}/w.bin", None)
    fetching.fetch(name)[0].unlink()
    lock = cache / "lock.json"
    lock.write_text(lock.read_text().replace(SHA, "1" * 64))
    with pytest.raises(WeightsCorrupt, match="expected 1111"):
        fetching.fetch(name)


def test_a_copy_placed_by_hand_is_taken_and_recorded(tmp_path, cache):
    name = recipe(tmp_path, "http://127.0.0.1:1/w.bin")
    (cache / "own").mkdir(parents=True)
    (cache / "own" / "w.bin").write_bytes(CONTENT)
    assert fetching.fetch(name)[0].read_bytes() == CONTENT
    assert json.loads((cache / "lock.json").read_text())["own"]["w.bin"]["from"] == "placed by hand"


@pytest.mark.parametrize("path", ["http://127.0.0.1:1/w.bin", "https://nowhere.invalid/w.bin"])
def test_offline_names_the_file_and_its_place(tmp_path, cache, path):
    with pytest.raises(WeightsMissing) as error:
        fetching.fetch(recipe(tmp_path, path))
    for part in ("'w.bin' of own", "grefine fetch own", path, str(cache / "own" / "w.bin")):
        assert part in str(error.value)


def test_a_refusing_server_is_a_sentence(tmp_path, server):
    with pytest.raises(WeightsMissing, match="could not be fetched"):
        fetching.fetch(recipe(tmp_path, f"{server[0]}/absent"))


def test_terms_need_a_yes(tmp_path, server):
    name = recipe(tmp_path, f"{server[0]}/w.bin", licence="non-commercial", ask=True)
    with pytest.raises(ConfigError, match="non-commercial.*--accept-terms"):
        fetching.fetch(name)
    assert fetching.fetch(name, accept_terms=True)


def test_hub_offline_is_a_sentence(tmp_path, cache):
    name = recipe(tmp_path, "x", files=[], hub=[{"repo": "owner/name", "files": ["model.safetensors"]}])
    with pytest.raises(WeightsMissing, match=r"'model.safetensors' of own.*huggingface.co/owner/name"):
        fetching.fetch(name)


def test_a_folder_that_holds_something_is_no_complete_fetch(tmp_path, cache):
    """What the hub's client takes for enough when it cannot reach anything."""
    hub = [{"repo": "owner/name", "files": ["config.json", "model.safetensors", "tokenizer/*"], "into": "base"}]
    name = recipe(tmp_path, "x", files=[], hub=hub)
    (cache / "own" / "base").mkdir(parents=True)
    (cache / "own" / "base" / "config.json").write_text("{}")
    for _ in range(2):  # nothing is recorded that would make the second start content
        with pytest.raises(WeightsMissing, match=r"'base/model.safetensors' of own.*forbids the network.*owner/name"):
            fetching.fetch(name)
    (cache / "own" / "base" / "model.safetensors").write_bytes(CONTENT)
    with pytest.raises(WeightsMissing, match=r"'base/tokenizer/\*' of own"):
        fetching.fetch(name)


@pytest.mark.parametrize(
    "change",
    [
        {"files": [{"url": "http://127.0.0.1:1/x", "path": "../x"}]},
        {"files": [{"url": "http://127.0.0.1:1/x", "path": "/etc/x"}]},
        {"files": [{"url": "http://127.0.0.1:1/x", "path": "C:\\x"}]},
        {"files": [{"url": "file:///etc/passwd", "path": "x"}]},
        {"files": [], "hub": [{"repo": "o/n", "files": ["x"], "into": "../.."}]},
        {"files": [], "hub": [{"repo": "o/n", "files": ["x"], "into": "/tmp"}]},
        {"files": [], "hub": [{"repo": "o/n", "files": ["a/../../x"]}]},
    ],
)
def test_a_strangers_recipe_stays_in_its_folder(tmp_path, cache, change):
    with pytest.raises(ConfigError, match=r"own\.yaml"):
        fetching.fetch(recipe(tmp_path, "x", **change))
    assert not cache.exists()


def test_a_transfer_that_was_cut_is_not_kept(tmp_path, server, cache):
    name = recipe(tmp_path, f"{server[0]}/cut.bin", None)
    with pytest.raises(WeightsMissing, match="cut it off after 7000 of 9000 bytes"):
        fetching.fetch(name)
    assert [p for p in cache.rglob("*") if p.is_file()] == []


def test_bundled_recipes_are_complete():
    prompts = fetching.fetch_recipe("pq-prompts")
    assert len(prompts.files) == 4
    assert all(
        len(f.sha256 or "") == 64 and "65a82f17e4e660576bba796ca8ea9516f2d5381f" in f.url for f in prompts.files
    )
    assert {"clip", "pq-prompts"} <= set(fetching.fetch_names())
    with pytest.raises(WeightsMissing, match="PQ-overall.pth"):
        fetching.fetched("pq-prompts", "PQ-overall.pth")
    with pytest.raises(ConfigError, match="did you mean 'pq-prompts'"):
        fetching.fetch("pq-prompt")


def test_a_broken_lock_is_named(tmp_path, server, cache):
    name = recipe(tmp_path, f"{server[0]}/w.bin")
    fetching.fetch(name)
    (cache / "lock.json").write_text("{")
    with pytest.raises(WeightsCorrupt, match="lock file"):
        fetching.fetch(name)

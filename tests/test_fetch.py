"""Fetching up to the network: from a server on this machine, from the cache, and without either."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
from pathlib import Path

import pytest

from grefine import resources
from grefine.errors import ConfigError, WeightsCorrupt, WeightsMissing

CONTENT = b"weights" * 1000
SHA = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GREFINE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def server():
    """Serve CONTENT under any name, and count how often it is asked for."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(404 if "absent" in self.path else 200)
            self.end_headers()
            self.wfile.write(CONTENT)

        def log_message(self, *args):
            pass

    httpd = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{httpd.server_port}", asked
    httpd.shutdown()


def recipe(folder: Path, url: str, sha: str | None = SHA, **extra) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "own.yaml"
    entry = {"url": url, "path": "w.bin"} | ({"sha256": sha} if sha else {})
    file.write_text(json.dumps({"description": "d", "licence": "MIT", "source": "s", "files": [entry]} | extra))
    return file


def test_download_then_cache_hit(tmp_path, server, cache):
    url, asked = server
    file = recipe(tmp_path, f"{url}/w.bin")
    done = resources.fetch(file)
    assert done == [cache / "own" / "w.bin"]
    assert done[0].read_bytes() == CONTENT
    assert json.loads((cache / "lock.json").read_text())["own"]["w.bin"]["sha256"] == SHA
    lines = []
    assert resources.fetch(file, report=lines.append) == done
    assert len(asked) == 1
    assert "present, hash as recorded" in lines[0]


def test_wrong_hash_on_arrival_keeps_nothing(tmp_path, server, cache):
    file = recipe(tmp_path, f"{server[0]}/w.bin", "0" * 64)
    with pytest.raises(WeightsCorrupt, match=f"sha256 {SHA}, expected 0000"):
        resources.fetch(file)
    assert [p.name for p in cache.rglob("*") if p.is_file()] == []


def test_a_changed_file_is_noticed(tmp_path, server, cache):
    file = recipe(tmp_path, f"{server[0]}/w.bin", None)
    target = resources.fetch(file)[0]
    target.write_bytes(b"other" * 1000)
    with pytest.raises(WeightsCorrupt, match="delete it and run `grefine fetch own`"):
        resources.fetch(file)


def test_a_first_download_is_pinned(tmp_path, server, cache):
    """Without a known hash the first download decides, and a later different one is refused."""
    file = recipe(tmp_path, f"{server[0]}/w.bin", None)
    resources.fetch(file)[0].unlink()
    lock = cache / "lock.json"
    lock.write_text(lock.read_text().replace(SHA, "1" * 64))
    with pytest.raises(WeightsCorrupt, match="expected 1111"):
        resources.fetch(file)


def test_a_copy_placed_by_hand_is_taken_and_recorded(tmp_path, cache):
    file = recipe(tmp_path, "http://127.0.0.1:1/w.bin")
    (cache / "own").mkdir(parents=True)
    (cache / "own" / "w.bin").write_bytes(CONTENT)
    assert resources.fetch(file)[0].read_bytes() == CONTENT
    assert json.loads((cache / "lock.json").read_text())["own"]["w.bin"]["from"] == "placed by hand"


@pytest.mark.parametrize("path", ["http://127.0.0.1:1/w.bin", "https://nowhere.invalid/w.bin"])
def test_offline_names_the_file_and_its_place(tmp_path, cache, path):
    with pytest.raises(WeightsMissing) as error:
        resources.fetch(recipe(tmp_path, path))
    for part in ("'w.bin' of own", "grefine fetch own", path, str(cache / "own" / "w.bin")):
        assert part in str(error.value)


def test_a_refusing_server_is_a_sentence(tmp_path, server):
    with pytest.raises(WeightsMissing, match="could not be fetched"):
        resources.fetch(recipe(tmp_path, f"{server[0]}/absent"))


def test_terms_need_a_yes(tmp_path, server):
    file = recipe(tmp_path, f"{server[0]}/w.bin", licence="non-commercial", ask=True)
    with pytest.raises(ConfigError, match="non-commercial.*--accept-terms"):
        resources.fetch(file)
    assert resources.fetch(file, accept_terms=True)


def test_hub_offline_is_a_sentence(tmp_path, cache):
    file = recipe(tmp_path, "x", files=[], hub=[{"repo": "owner/name", "files": ["model.safetensors"]}])
    with pytest.raises(WeightsMissing, match=r"'model.safetensors' of own.*huggingface.co/owner/name"):
        resources.fetch(file)


def test_bundled_recipes_are_complete():
    prompts = resources.fetch_recipe("pq-prompts")
    assert len(prompts.files) == 4
    assert all(
        len(f.sha256 or "") == 64 and "65a82f17e4e660576bba796ca8ea9516f2d5381f" in f.url for f in prompts.files
    )
    assert {"clip", "pq-prompts"} <= set(resources.fetch_names())
    with pytest.raises(WeightsMissing, match="PQ-overall.pth"):
        resources.fetched("pq-prompts", "PQ-overall.pth")
    with pytest.raises(ConfigError, match="did you mean 'pq-prompts'"):
        resources.fetch("pq-prompt")


def test_a_broken_lock_is_named(tmp_path, server, cache):
    file = recipe(tmp_path, f"{server[0]}/w.bin")
    resources.fetch(file)
    (cache / "lock.json").write_text("{")
    with pytest.raises(WeightsCorrupt, match="lock file"):
        resources.fetch(file)

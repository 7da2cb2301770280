"""`grefine fetch` against a hub on this machine: complete, killed in the middle, and lied to."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hub import PLACES, VAE, Hub, write_recipes, write_repositories
from PIL import Image

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    return write_repositories(tmp_path_factory.mktemp("hub"))


class Machine:
    """A machine with nothing on it and a network that ends at the hub."""

    def __init__(self, home: Path, hub: Hub) -> None:
        self.hub, self.cache, self.home = hub, home / "cache", home
        recipes = write_recipes(home / "recipes", hub.root, hub.address)
        (recipes / "vae.yaml").write_text(
            json.dumps({"description": "d", "licence": "MIT", "source": "s", "hub": [{"repo": VAE, "files": ["*"]}]})
        )
        self.environment = os.environ | {
            "HF_ENDPOINT": hub.address,
            "HF_HUB_OFFLINE": "0",
            "HF_HOME": str(home / "hub"),
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "GREFINE_CACHE": str(self.cache),
            "GREFINE_RECIPES": str(recipes),
        }

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "grefine", "fetch", *arguments],
            env=self.environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def fetch(self, *arguments: str, **environment: str) -> tuple[int, str]:
        process = self.start(*arguments, **environment)
        out, said = process.communicate(timeout=300)
        return process.returncode, out + said

    def files(self) -> set[str]:
        found = {p.relative_to(self.cache).as_posix() for p in self.cache.rglob("*") if p.is_file()}
        return {path for path in found if "/.cache/" not in path and path != "lock.json"}

    def lock(self) -> dict:
        return json.loads((self.cache / "lock.json").read_text())


@pytest.fixture
def machine(tmp_path, published):
    hub = Hub(published)
    yield Machine(tmp_path, hub)
    hub.close()


def one_sentence(said: str) -> str:
    assert "Traceback" not in said
    errors = [line for line in said.splitlines() if line.startswith("grefine: ")]
    assert len(errors) == 1, said
    return errors[0]


def test_one_command_brings_everything_and_nothing_else(machine, published):
    code, said = machine.fetch("sdxl")
    assert code == 0, said
    wanted = {}
    for repository, place in PLACES.items():
        files = [file for file in (published / repository).rglob("*") if file.is_file()]
        wanted |= {f"{place}/{file.relative_to(published / repository).as_posix()}": file for file in files}
    unasked = {path for path in wanted if path.endswith(("README.md", "med_config.json"))}
    unasked |= {f"imagereward/tokenizer/{name}" for name in ("special_tokens_map.json",)}
    assert machine.files() == wanted.keys() - unasked
    for path in machine.files():
        assert (machine.cache / path).read_bytes() == wanted[path].read_bytes()
    entry = machine.lock()["sdxl"]["vae/config.json"]
    assert entry["revision"] == machine.hub.commit(VAE)
    asked = len(machine.hub.asked)
    assert machine.fetch("sdxl")[0] == 0
    assert len(machine.hub.asked) == asked, "what is there is not asked for again"


def test_parts_can_be_left_out(machine):
    code, said = machine.fetch("sdxl", "--no-controlnet")
    assert code == 0, said
    assert not any(path.startswith("sdxl/controlnet/") for path in machine.files())
    assert any(path.startswith("clip/") for path in machine.files())
    assert any(path.startswith("imagereward/") for path in machine.files())
    code, said = machine.fetch("clip", "--no-controlnet")
    assert code == 2
    assert "no part 'controlnet'" in one_sentence(said)


def test_judges_can_be_left_out_and_the_first_line_of_a_run_says_so(machine):
    code, said = machine.fetch("sdxl", "--no-judges")
    assert code == 0, said
    assert not any(path.startswith(("imagereward/", "clip-b32/")) for path in machine.files())
    Image.effect_noise((64, 64), 60).convert("RGB").save(machine.home / "a.png")
    run = ["refine", machine.home / "a.png", "-o", machine.home / "out", "--prompt", "a ball", "--pipeline", "sdxl"]
    refine = [sys.executable, "-m", "grefine", *run]
    done = subprocess.run(refine, env=machine.environment, capture_output=True, text=True)
    assert done.returncode == 2, "one picture is too few to measure thresholds on"
    first, *_, last = [line for line in done.stderr.splitlines() if line.strip()]
    assert "No judge of quality and the prompt beside the maps" in first
    assert last.startswith("grefine: ")
    assert "grefine calibrate" in last
    assert "--force" in last


def test_killed_in_the_middle_it_goes_on(machine):
    machine.hub.faults["unet/diffusion_pytorch_model.fp16.safetensors"] = "slow"
    process = machine.start("sdxl")
    wait_for(lambda: any("GET" in line and "unet/diffusion" in line for line in machine.hub.asked))
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    before = machine.files()
    assert "sdxl/base/unet/config.json" in before
    assert "sdxl/base/unet/diffusion_pytorch_model.fp16.safetensors" not in before
    code, said = machine.fetch("sdxl", HF_HUB_OFFLINE="1")
    assert code == 2
    assert "'base/unet/diffusion_pytorch_model.fp16.safetensors' of sdxl" in one_sentence(said)
    machine.hub.faults.clear()
    machine.hub.asked.clear()
    code, said = machine.fetch("sdxl")
    assert code == 0, said
    again = [line for line in machine.hub.asked if line.endswith("text_encoder/model.fp16.safetensors")]
    assert again == [], "what had arrived is not fetched twice"
    assert not list(machine.cache.rglob("*.incomplete"))


def wait_for(what, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("where", "fault", "words"),
    [
        (WEIGHTS, "lie", ["arrived as another file", "is not kept"]),
        ("vae-fp16-fix/resolve", "cut", ["of vae", "could not be fetched"]),
        ("api/models", "escape", ["leads out of its folder"]),
        (f"resolve/{'{commit}'}/{WEIGHTS}", "loop", ["could not be fetched"]),
        ("api/models", "gated", ["accept the terms", "hf auth login", VAE]),
        ("api/models", "gone", ["does not exist"]),
    ],
)
def test_a_hostile_server_gets_one_sentence(machine, where, fault, words):
    machine.hub.faults[where.format(commit=machine.hub.commit(VAE))] = fault
    code, said = machine.fetch("vae")
    assert code == 2
    sentence = one_sentence(said)
    for word in words:
        assert word in sentence, sentence
    assert f"vae/{WEIGHTS}" not in machine.files()
    assert not list(machine.home.rglob("escaped.txt"))
    locked = machine.lock()["vae"] if (machine.cache / "lock.json").is_file() else {}
    assert not locked.get(WEIGHTS, {}).get("checked"), "nothing is recorded as complete"
    machine.hub.faults.clear()
    code, said = machine.fetch("vae")
    assert code == 0, said
    assert f"vae/{WEIGHTS}" in machine.files()


def full_disk(kilobytes: int) -> list[str]:
    """Begin a command whose cache folder is a disk of its own, of that size; what lies on it is printed at the end."""
    script = (
        f'mkdir -p "$GREFINE_CACHE" && mount -t tmpfs -o size={kilobytes}k none "$GREFINE_CACHE" || exit 77\n'
        '"$@"; code=$?; find "$GREFINE_CACHE" -type f | sed "s/^/there: /"; cat "$GREFINE_CACHE/lock.json"; exit $code'
    )
    return ["unshare", "-rm", "sh", "-c", script, "sh"]


@pytest.mark.parametrize("kilobytes", [4, 24, 200])
def test_a_full_disk_is_one_sentence_and_nothing_is_half_recorded(machine, kilobytes):
    """The first file, the record of it or the weights do not fit."""
    command = [sys.executable, "-m", "grefine", "fetch", "vae"]
    try:
        done = subprocess.run(
            [*full_disk(kilobytes), *command], env=machine.environment, capture_output=True, text=True
        )
    except FileNotFoundError:
        pytest.skip("no unshare here")
    if done.returncode in (1, 77):
        pytest.skip(f"no disks of one's own here: {done.stderr}")
    assert done.returncode == 2, done.stderr
    sentence = one_sentence(done.stderr)
    assert "takes no more" in sentence
    assert "free space" in sentence
    assert "GREFINE_CACHE" in sentence
    there = [line for line in done.stdout.splitlines() if line.startswith("there: ")]
    assert not [line for line in there if line.endswith((f"vae/{WEIGHTS}", ".part"))], there
    locked = done.stdout[done.stdout.find("{") :] if "{" in done.stdout else "{}"
    assert not json.loads(locked).get("vae", {}).get(WEIGHTS, {}).get("checked")


def test_a_limit_on_files_says_the_same_and_the_next_start_goes_on(machine):
    limited = [f"ulimit -f 100; exec {sys.executable} -m grefine fetch vae"]
    done = subprocess.run(["sh", "-c", *limited], env=machine.environment, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert "takes no more" in one_sentence(done.stderr)
    assert f"vae/{WEIGHTS}" not in machine.files()
    code, said = machine.fetch("vae")
    assert code == 0, said
    assert machine.lock()["vae"][WEIGHTS]["checked"]


@pytest.mark.parametrize("fault", ["redirect", "drop"])
def test_what_is_no_fault_is_followed(machine, fault):
    machine.hub.faults[WEIGHTS] = fault
    code, said = machine.fetch("vae")
    assert code == 0, said


def test_no_server_at_all(machine):
    machine.hub.close()
    code, said = machine.fetch("vae")
    assert code == 2
    assert "could not be fetched" in one_sentence(said)


def test_what_changed_at_its_source_is_not_taken(machine, published, tmp_path):
    assert machine.fetch("vae")[0] == 0
    (machine.cache / "vae" / WEIGHTS).unlink()
    other = shutil.copytree(published / VAE, tmp_path / "other" / VAE)
    content = bytearray((other / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (other / WEIGHTS).write_bytes(content)
    machine.hub.root = tmp_path / "other"
    code, said = machine.fetch("vae")
    assert code == 2
    assert "changed at its source" in one_sentence(said)


def test_the_hubs_own_cache_counts(machine):
    download = "from huggingface_hub import snapshot_download as s; import sys; s(sys.argv[1])"
    subprocess.run([sys.executable, "-c", download, VAE], env=machine.environment, check=True, capture_output=True)
    machine.hub.close()
    code, said = machine.fetch("vae", HF_HUB_OFFLINE="1")
    assert code == 0, said
    assert "from the hub's own cache" in said
    assert machine.lock()["vae"][WEIGHTS]["revision"] == machine.hub.commit(VAE)


def test_half_of_it_in_the_hubs_own_cache_does_not_count(machine):
    download = "from huggingface_hub import hf_hub_download as d; import sys; d(sys.argv[1], 'config.json')"
    subprocess.run([sys.executable, "-c", download, VAE], env=machine.environment, check=True, capture_output=True)
    recipe = json.loads((machine.home / "recipes" / "vae.yaml").read_text())
    recipe["hub"][0]["files"] = ["config.json", WEIGHTS]
    (machine.home / "recipes" / "vae.yaml").write_text(json.dumps(recipe))
    code, said = machine.fetch("vae", HF_HUB_OFFLINE="1")
    assert code == 2
    assert f"'{WEIGHTS}' of vae" in one_sentence(said) or "'config.json' of vae" in one_sentence(said)

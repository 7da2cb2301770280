"""The wheel carries everything: built, unpacked elsewhere, and run offline without the source tree."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
EXAMPLE = ROOT / "examples" / "images" / "05_blur.png"


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A folder with the wheel's content and nothing of the source tree."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def run(installed: Path, cwd: Path, *words: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(installed), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, *words], cwd=cwd, env=environment, capture_output=True, text=True)


def test_wheel_holds_data_and_licences(installed):
    bundled = installed / "grefine" / "_bundled"
    assert (bundled / "pipelines" / "tiny" / "model_index.json").is_file()
    assert (bundled / "pipelines" / "tiny" / "unet" / "diffusion_pytorch_model.safetensors").is_file()
    assert (bundled / "configs" / "refine" / "default.yaml").is_file()
    (info,) = installed.glob("grefine-*.dist-info")
    assert "License-Expression: Apache-2.0 AND CC-BY-SA-4.0" in (info / "METADATA").read_text()
    assert {"LICENSE", "NOTICE"} <= {p.name for p in (info / "licenses").rglob("*") if p.is_file()}


def test_wheel_refines_from_another_folder(installed, tmp_path):
    where = run(installed, tmp_path, "-c", "import grefine; print(grefine.__file__)")
    assert where.stdout.strip().startswith(str(installed))
    done = run(
        installed,
        tmp_path,
        "-m",
        "grefine",
        "refine",
        str(EXAMPLE),
        "-o",
        "out",
        "--pipeline",
        "tiny",
        "--device",
        "cpu",
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / EXAMPLE.name).is_file()


def test_wheel_shows_itself(installed, tmp_path):
    done = run(installed, tmp_path, "-m", "grefine", "demo", "-o", "out")
    assert done.returncode == 0, done.stderr
    assert str((tmp_path / "out" / "report.html").resolve()) in done.stdout
    assert (tmp_path / "out" / "12_missing.png").is_file()
    done = run(installed, tmp_path, "-m", "grefine", "settings", "delta")
    assert done.stdout.startswith("delta = "), done.stderr

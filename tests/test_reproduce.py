"""Every command of docs/reproduce.md runs at toy size, and is of what it says: pipeline, settings, pictures."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import runpy
import shlex
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

for _room in ("", "training", "evaluate"):
    sys.path.insert(0, str(Path(__file__).parent / _room))

from test_docs_commands import commands_in  # noqa: E402
from test_evaluate_compare import tiny_models  # noqa: E402
from test_rated_training import FIVE_LEVEL, table, tiny  # noqa: E402, F401 - a fixture

from grefine.cli.main import app  # noqa: E402
from grefine.models.five_level import FiveLevelCLIP  # noqa: E402
from grefine.resources import config_file  # noqa: E402
from grefine.training.maps.opinions import RatedTable  # noqa: E402

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "reproduce.md"
SECTIONS = PAGE.read_text().split("\n## ")[1:]
PICTURES = ("02_clean", "05_blur", "07_warp", "09_colour")
METHODS = ("a", "b", "c", "d")
NOT_RUN = {"pytest": "a test by itself", "python -m benchmarks.scorers": "prints MACs of full-sized networks"}
NOT_RUN |= {
    "python benchmarks/mdiqa_loss.py": "minutes; its numbers are on the page",
    "python -m benchmarks.colour_spaces": "minutes; its numbers are on the page",
    "python benchmarks/ranking.py coverage": "a minute; tests/ranking/test_simulation.py does it smaller",
    "grefine convert": "published files",
    "grefine fetch": "net",
}
NOT_RUN |= {"grefine metrics": "tests/scorers", "python -m lab bench": "tests/lab"}
NOT_RUN |= {f"grefine train rectifier --config rectifier_{name}": "pyiqa's weights" for name in ("dbcnn", "hyperiqa")}


def grey(path, level):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(level).normal(60 + 6 * level, 20, (48, 50, 3)).clip(0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(path)


def rows_to(path, heading, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(([heading] if heading else []) + rows)


def rated_sets(root):
    """Write every published set that the page names in its own form, 24 pictures each."""
    from openpyxl import Workbook
    from scipy.io import savemat

    n = range(24)

    def pictures(place, name):
        for i in n:
            grey(root / place / name(i), i)
        return [name(i) for i in n]

    def book(path, rows):
        made = Workbook()
        for row in rows:
            made.active.append(row)
        path.parent.mkdir(parents=True, exist_ok=True)
        made.save(path)

    names = pictures("agiqa-3k/images", lambda i: f"{i}.jpg")
    rows_to(root / "agiqa-3k/data.csv", ["name", "prompt", "mos_quality", "mos_align"],
            [[x, f"a red ball {i // 2}", 1 + i / 6, 5 - i / 6] for i, x in enumerate(names)])  # fmt: skip
    names = pictures("agiqa-1k/file", lambda i: f"deepai_{i % 12}_{i // 12}_0_1.jpg")
    rows_to(root / "agiqa-1k/AIGC_all.csv", ["Image", "Score"], [[x, 1 + i / 6] for i, x in enumerate(names)])
    for part, low, high in (("train", 0, 16), ("val", 16, 18), ("test", 18, 24)):
        told = 3 if part == "train" else 2
        rows = [[f"SDXL_{i:04}.png", f"a red ball {i // 2}", 1 + i / 6] for i in n[low:high]]
        book(root / f"aigiqa-20k/info_{part}.xlsx", [row[:told] for row in (["name", "prompt", "mos"], *rows)])
        for i in n[low:high]:
            grey(root / f"aigiqa-20k/{part}/SDXL_{i:04}.png", i)
    rows_to(root / "aigiqa-20k/info_merge.csv", ["name", "mos"], [[f"SDXL_{i:04}.png", 1 + i / 6] for i in n])
    pictures("aigciqa2023/Image/allimg", lambda i: f"{i}.png")
    for number in (1, 2, 3):
        (root / "aigciqa2023/DATA/MOS").mkdir(parents=True, exist_ok=True)
        savemat(root / f"aigciqa2023/DATA/MOS/mosz{number}.mat", {"MOSz": np.linspace(20, 80, 24)[:, None]})
    book(root / "aigciqa2023/AIGCIQA2023_Prompts.xlsx", [["prompt"], ["a cat"], ["a dog"], ["a fir"]])
    parts = ["training"] * 16 + ["validation"] * 2 + ["test"] * 6
    names = pictures("koniq-10k/512x384", lambda i: f"{i}.jpg")
    rows_to(root / "koniq-10k/koniq10k_distributions_sets.csv", ["image_name", "MOS", "set"],
            [[x, 20 + 3 * i, parts[i]] for i, x in enumerate(names)])  # fmt: skip
    names = pictures("spaq/TestImage", lambda i: f"{i}.jpg")
    heading = ["Image name", "MOS", "Brightness", "Colorfulness", "Contrast", "Noisiness", "Sharpness"]
    book(
        root / "spaq/Annotations/MOS and Image attribute scores.xlsx",
        [heading, *([x, *[20 + 3 * i] * 6] for i, x in enumerate(names))],
    )
    keys = ["quality", "aesthetic", "color", "composition", "content", "light"]
    for part, low, high in (("Train", 0, 18), ("Test", 18, 24)):
        names = pictures("para/imgs/s", lambda i: f"{i}.jpg")
        heading = ["imageName", "sessionId", *(f"{k}Score_mean" for k in keys)]
        rows_to(root / f"para/annotation/PARA-Giaa{part}.csv", heading,
                [[x, "s", *[1 + i / 6] * 6] for i, x in enumerate(names) if low <= i < high])  # fmt: skip
    names = pictures("kadid-10k/images", lambda i: f"I{i // 2:02}_{i % 2:02}.png")
    rows_to(
        root / "kadid-10k/dmos.csv",
        ["dist_img", "ref_img", "dmos"],
        [[x, x[:3], 1 + i / 6] for i, x in enumerate(names)],
    )
    names = pictures("tid2013/distorted_images", lambda i: f"I{i // 2:02}_{i % 2:02}.bmp")
    (root / "tid2013/mos_with_names.txt").write_text("".join(f"{1 + i / 4} {x}\n" for i, x in enumerate(names)))
    names = pictures("pipal/Train_Dist", lambda i: f"A{i // 2:04}_{i % 2:02}.bmp")
    rows_to(root / "pipal/Train_Label/A0000.txt", None, [[x, 1000 + 20 * i] for i, x in enumerate(names)])
    pictures("bid/ImageDatabase", lambda i: f"DatabaseImage{i + 1:04}.JPG")
    book(root / "bid/DatabaseGrades.xlsx", [["number", "grade"], *([i + 1, 1 + i / 6] for i in n)])
    for i, x in enumerate(pictures("uhd-iqa/all", lambda i: f"{i}.jpg")):
        shutil.copy(
            root / "uhd-iqa/all" / x,
            (root / "uhd-iqa" / parts[i] / x).parent.mkdir(exist_ok=True) or root / "uhd-iqa" / parts[i] / x,
        )
    rows_to(root / "uhd-iqa/uhd-iqa-metadata.csv", ["image_name", "quality_mos", "set"],
            [[f"{i}.jpg", 0.2 + i / 40, parts[i]] for i in n])  # fmt: skip
    names = pictures("live-c/Images", lambda i: f"{i}.bmp")
    (root / "live-c/Data").mkdir()
    cells = np.array([[x] for x in ["t.bmp"] * 7 + names], dtype=object)
    savemat(root / "live-c/Data/AllImages_release.mat", {"AllImages_release": cells})
    savemat(
        root / "live-c/Data/AllMOS_release.mat", {"AllMOS_release": np.array([[0.0] * 7 + [20.0 + 3 * i for i in n]])}
    )
    names = pictures("flive/database", lambda i: f"{i}.jpg")
    rows_to(root / "flive/labels_image.csv", ["name", "mos"], [[x, 20 + 3 * i] for i, x in enumerate(names)])


@pytest.fixture(scope="module")
def world(tmp_path_factory, table):  # noqa: F811 - the fixture
    """Everything that the page's capital words name, at toy size; return (folder, word → value)."""
    root = tmp_path_factory.mktemp("papers")
    rated_sets(root / "sets")
    prompts = {row["file"]: row["prompt"] for row in csv.DictReader((ROOT / "examples/images/prompts.csv").open())}
    (root / "data").mkdir()
    for name in PICTURES:
        shutil.copy(ROOT / f"examples/images/{name}.png", root / "data")
    rows_to(root / "prompts.csv", ["file", "prompt", "generator"],
            [[f"{x}.png", prompts[f"{x}.png"], f"g{i % 2}"] for i, x in enumerate(PICTURES)])  # fmt: skip
    rows_to(root / "opinions.csv", ["image", "mos"], [[f"{x}.png", 4 - i] for i, x in enumerate(PICTURES)])
    for number, method in enumerate(METHODS):
        for i in range(6):
            grey(root / "pool" / method / f"{i}.png", 4 * (4 - number) + i % 2)
    (root / "pool" / "ranking.json").write_text(json.dumps({"scores": {m: 1.5 - i for i, m in enumerate(METHODS)}}))
    pairs = [(x, y, i) for n_, x in enumerate(METHODS) for y in METHODS[n_ + 1 :] for i in range(6)]
    rows_to(
        root / "votes.csv",
        ["method_a", "method_b", "image", "votes_a", "votes_b", "group", "order"],
        [[x, y, str(i), 14 + i % 3, 9 - i % 3, "mad", (i + 2) % 6] for x, y, i in pairs],
    )
    FiveLevelCLIP(**{k: v for k, v in FIVE_LEVEL.items() if k != "windows"}).save_pretrained(root / "clip")
    words = {"DATA": root / "data", "PROMPTS.csv": root / "prompts.csv", "OPINIONS.csv": root / "opinions.csv"}
    words |= {"METHODS": root / "pool", "POOL": root / "pool", "VOTES.csv": root / "votes.csv", "CMP": root / "cmp"}
    words |= {"sdxl": "tiny", "paper13": "piqe", "qalign,pickscore": "piqe"}
    words |= {
        "reward=REWARD": "reward=random",
        "clip=CLIP.pt": f"clip={root / 'clip'}",
        "ranked:POOL": f"ranked:{root / 'pool'}",
    }
    words |= {f"{m}=DIR": f"{m}={ROOT / 'pipelines/tiny' / m}" for m in ("moe_agiqa", "mdiqa", "lar_iqa")}
    words |= {
        "vit_prior=RUNS/prior384/vit_prior": "vit_prior=random",
        "geometry={crop_size: 384}": "geometry={crop_size: 64}",
    }
    words |= {"vit=timm:vit_base_patch16_384.augreg_in21k_ft_in1k": "vit=random"}
    return root, {key: str(value) for key, value in words.items()}, table


def translated(command, world):
    """Return a command's words with everything that they name at toy size."""
    root, known, rated = world
    words, out = shlex.split(command), []
    judge = words[2] if words[:2] == ["grefine", "train"] and words[2] not in ("pq", "aq", "rectifier") else ""
    for i, word in enumerate(words):
        if judge and words[i - 1] == "--config":
            path = tiny(judge, word, root, rated)
            settings = yaml.safe_load(path.read_text())
            settings["split"] = yaml.safe_load(config_file(f"train/{judge}", words[i]).read_text())["split"]
            settings["geometry"] |= {"prior_depth": 3} if "prior_depth" in settings["geometry"] else {}
            path.write_text(yaml.safe_dump(settings))
            word = str(path)
        elif word in known:
            word = known[word]
        else:
            for place in ("RUNS/", "OUT/"):
                word = word.replace(place, f"{root}/{place}")
            for name in (path.name for path in (root / "sets").iterdir()):
                word = word.replace(f"{name}:FOLDER", f"{name}:{root}/sets/{name}")
            if word == "OUT" or word.endswith((".jsonl", ".json", ".csv", ".png")) and "/" not in word:
                word = str(root / word)
        out.append(word)
    return out + extra(words, root)


def extra(words, root):
    """Return what keeps a command small."""
    kind = " ".join(words[1:3])
    if kind.startswith("compare"):
        asked = words[words.index("--refiners") + 1].split(",")
        if not (root / "models").is_dir():
            (root / "models").mkdir()
            tiny_models(root / "models")
        models = [f"{name}={root / 'models' / name}" for name in asked if name not in ("", "grefine")]
        return [part for model in models for part in ("--model", model)] + [
            "--steps",
            "2",
            "--noise-images",
            "0",
            "--force",
        ]
    if kind.startswith("train rectifier"):
        return ["--set", "epochs=1", "--set", "judge={features: embedding}"]
    return ["--steps", "1", "--device", "cpu"] if kind.startswith("train") else []


def run(command, world):
    """Run one command of the page; return what it printed."""
    words = translated(command, world)
    target = words.pop(words.index(">") + 1) if ">" in words else None
    words = [word for word in words if word != ">"]
    if words[0] == "python":
        shown = io.StringIO()
        with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(shown):
            patch.setattr(sys, "argv", words[1:])
            runpy.run_path(str(ROOT / words[1]), run_name="__main__")
        return shown.getvalue()
    done = CliRunner().invoke(app, words[1:])
    assert done.exit_code == 0, f"{command}\n{' '.join(words)}\n{done.output}\n{done.exception!r}"
    if target:
        Path(target).write_text(done.stdout)
    return done.stdout


def check_compared(root, words, out):
    folder = Path(words[words.index("-o") + 1])
    found = json.loads((folder / "comparison.json").read_text())
    refiners = [name for name in words[words.index("--refiners") + 1].split(",") if name]
    methods = refiners or [words[i + 1].split("=")[0] for i, word in enumerate(words) if word == "--outputs"]
    assert set(found["means"]) == {"original", *methods}
    assert set(found["means"]["original"]) >= set(words[words.index("--metrics") + 1].split(","))
    if "grefine" in refiners:
        rows = [json.loads(x) for x in (folder / "outputs/grefine/.grefine/journal.jsonl").read_text().splitlines()]
        assert len(rows) == len(PICTURES)
        assert {row["decision"]["kept"] for row in rows} - {"original"}
        assert not any(row["decision"]["guarded"] for row in rows)
        assert any("guard is off" in row["reason"] for row in rows), rows[0]["reason"]
    if "--group" in words:
        page = (folder / "report.html").read_text()
        assert "g0" in page
        assert "g1" in page


def check_refined(root, words, out):
    folder = Path(words[words.index("-o") + 1])
    kept = {row["file"]: row for row in csv.DictReader((folder / "results.csv").open())}
    assert len(kept) == len(PICTURES)
    kinds = {kind for row in kept.values() for kind in row["kinds"].split()}
    banned = {"pq": {"noun", "attribute"}, "aq": {"perceptual"}}.get(folder.name, set())
    assert not kinds & banned, kinds
    states = {row["state"] for row in kept.values()}
    assert "refined" in states


def check_trained(root, words, out):
    """The settings that the command gives are those that were trained, on the sets that it names."""
    folder = Path(words[words.index("-o") + 1])
    newest = max(folder.glob("*/metrics.json"), key=lambda path: path.stat().st_mtime_ns)
    stored = json.loads(newest.read_text())
    after = {
        flag: [b for a, b in zip(words, words[1:], strict=False) if a == flag]
        for flag in ("--data", "--test", "--set", "--start")
    }
    named = {given.partition(":")[0] for given in after["--data"] + after["--test"]}
    assert {key.partition(".")[0] for key in stored["measured"]} == named
    for given in after["--test"]:
        assert stored["measured"][f"{given.partition(':')[0]}.mos"]["n"] == 24
    for change in after["--set"]:
        key, _, value = change.partition("=")
        wanted, got = yaml.safe_load(value), stored["recipe"][key]
        assert wanted.items() <= got.items() if isinstance(wanted, dict) else wanted == got, change
    for start in after["--start"]:
        assert stored["recipe"]["start"][start.partition("=")[0]] == start.partition("=")[2]
    if "split={kind: parts}" in words:
        assert stored["measured"]["uhd-iqa.mos"]["n"] == 6
        assert {"plcc", "srcc", "krcc", "rmse_raw", "mae_raw"} <= stored["measured"]["uhd-iqa.mos"].keys()


def check_rectified(root, words, out):
    stored = json.loads((Path(words[words.index("-o") + 1]) / "training.json").read_text())["config"]
    rated = "koniq-10k" in " ".join(words)
    assert [given.partition(":")[0] for given in stored["rated"]] == (["koniq-10k", "pipal"] if rated else [])
    assert stored["group"] == (1 if "group=1" in words else 64)


def check_ranked(root, words, out):
    if words[2] == "fit":
        found = json.loads(out)
        assert sorted(found["scores"], key=lambda m: -found["scores"][m]) == list(METHODS)
        assert [point["K"] for point in found["stability"]] == [1, 2, 3, 4, 5, 6], "images at random"
        assert [point["K"] for point in found["stability_in_order"]] == [1, 2, 3, 4, 5, 6], "images as MAD picked them"
        assert Path(words[words.index("--plot") + 1]).is_file()
    else:
        assert (
            "five_level" if "iv/five_level" in " ".join(words) else "ours" if "OUT/ours" in " ".join(words) else "piqe"
        ) in out
        assert ("frozen" in out) == ("OUT/ours" in " ".join(words))


def check_scored(root, words, out):
    rows = list(csv.DictReader(Path(words[words.index("-o") + 1]).read_text().splitlines()))
    assert {Path(row["path"]).stem for row in rows} == set(PICTURES)
    if "--color-space" in words or "--crop-size" in words:
        plain = {r["path"]: r["lar_iqa"] for r in csv.DictReader((root / "SCORES.csv").open())}
        assert all(row["lar_iqa"] != plain[row["path"]] for row in rows)


def check_mapped(root, words, out):
    rows = [json.loads(line) for line in out.splitlines()]
    assert len(rows) == len(PICTURES)
    assert all(0 <= row["p"] <= 1 and 0 <= row["a"] <= 1 for row in rows)


def check_agreed(root, words, out):
    assert f"| {len(PICTURES)} |" in out
    assert "| SRCC | 95 % | PLCC | PLCC fitted | KRCC | RMSE | MAE | RMSE fitted | MAE fitted |" in out


def check_held_out(root, words, out):
    """A set's own test part is measured; what taught the judge is not."""
    rows = [[cell.strip() for cell in line.split("|")[1:5]] for line in out.splitlines()[2:]]
    for judge in ("ours", "ours (frozen five_level)"):
        assert [judge, "koniq-10k", "6", "0"] in rows
        assert [judge, "kadid-10k", "24", "0"] in rows
    assert ["ours", "pipal", "0", "24"] in rows


def check_maps_trained(root, words, out):
    folder = Path(words[words.index("-o") + 1])
    assert next(folder.rglob("*.safetensors"))
    run = json.loads((folder / "training" / f"{words[2]}.json").read_text())["runs"][-1]
    assert run["steps"] == 1
    assert run["settings"]["epochs"] == 50, "the paper's"
    data = words[words.index("--data") + 1]
    assert run["settings"]["opinions"] == RatedTable(None, data, prompted=words[2] == "aq").identity


CHECKS = {
    "grefine compare": check_compared,
    "grefine refine": check_refined,
    "grefine map": check_mapped,
    "grefine train pq": check_maps_trained,
    "grefine train aq": check_maps_trained,
    "grefine train rectifier": check_rectified,
    "grefine train": check_trained,
    "grefine rank": check_ranked,
    "grefine score": check_scored,
    "python benchmarks/agreement.py": check_agreed,
    "python benchmarks/rated_sets.py": check_held_out,
}


def runnable(section, folder):
    path = folder / "section.md"
    path.write_text(section)
    found = dict.fromkeys(commands_in(path))
    return [c for c in found if not c.startswith(tuple(NOT_RUN)) and len(c.split()) > 2]


@pytest.mark.slow
@pytest.mark.parametrize("section", SECTIONS, ids=lambda text: text.split()[0].strip(","))
def test_the_commands_of_a_paper_do_what_they_say(section, world, tmp_path):
    commands = runnable(section, tmp_path)
    assert len(commands) >= 4
    for command in commands:
        out = run(command, world)
        check = next(check for start, check in CHECKS.items() if command.startswith(start))
        check(world[0], [word for word in translated(command, world) if word != ">"], out)

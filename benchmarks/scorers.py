"""What the quality networks cost: ours beside the published procedures and networks of their peers' shapes.

    python -m benchmarks.scorers [--only moe,lar,mdiqa] [--repeats 2] [--out benchmarks/results]

One thread, CPU time, random weights, both sides alternating in one process. `python -m benchmarks.run --only scorers`
puts the same on the page.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.measure import Row, compared, interleave
from grefine.models.lar_iqa import LARIQA
from grefine.models.mdiqa import DIMENSIONS, MDIQA
from grefine.models.moe_agiqa import MoEAGIQA, pad_to, random_offsets, vit
from grefine.models.reward import semantic_view
from grefine.scorers.mdiqa import guard as as_the_guard_asks


def picture(height: int, width: int, seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (height // 16, width // 16, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float64)
    return Image.fromarray((smooth + rng.normal(0, 8, smooth.shape)).clip(0, 255).astype(np.uint8))


def as_batch(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)[None].float() / 255


def gmacs(run: Callable[[], object]) -> float:
    return counted(run)[0]


def counted(run: Callable[[], object]) -> tuple[float, object]:
    with FlopCounterMode(display=False) as counter:
        result = run()
    return counter.get_total_flops() / 2e9, result


def alternate(runs: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    return {name: times.seconds() for name, times in interleave(runs, repeats, warm=0, least=0.0).items()}


class PublishedViT(nn.Module):
    """All twelve blocks, the norm and the classifier run, and four block outputs are picked up by hooks."""

    def __init__(self, ours: nn.Module) -> None:
        super().__init__()
        self.model = vit(224, 16, 768, 12, 12, final_norm=True)
        self.model.head = nn.Linear(768, 1000)
        self.model.load_state_dict(ours.state_dict(), strict=False)
        self.kept: list[Tensor] = []
        for index in (4, 5, 6, 7):
            self.model.blocks[index].register_forward_hook(lambda _m, _i, out: self.kept.append(out))

    def forward(self, crop: Tensor) -> Tensor:
        self.kept.clear()
        self.model(crop)
        stacked = torch.cat([tokens[:, 1:] for tokens in self.kept], dim=-1)
        return stacked.transpose(1, 2).reshape(1, 3072, 14, 14)


def moe(repeats: int) -> dict[str, dict[str, float]]:
    return {f"moe_agiqa_{name}": plain(moe_version(name, d, repeats)) for name, d in (("v1", None), ("v2", 12))}


def plain(row: Row) -> dict[str, float]:
    return {"published_cpu_s": row["other"], "ours_cpu_s": row["ours"], "speedup": row["ratio"]} | row["facts"]


def moe_version(name: str, prior_depth: int | None, repeats: int, crops: int = 15, target: float | None = None) -> Row:
    """Compare the fifteen crops one after the other, all blocks run, with ours: equal scores, less work."""
    torch.manual_seed(0)
    image = picture(512, 512)
    ids = torch.randint(999, 30000, (1, 35), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    model = MoEAGIQA(prior_depth=prior_depth, crops=crops).eval()
    if prior_depth is not None:  # zero when fresh: the head would not see the picture
        nn.init.normal_(model.head.prior.plain)
        nn.init.normal_(model.head.prior.gated)
    published = PublishedViT(model.vit).eval()
    padded = as_batch(pad_to(image, 224))
    offsets = random_offsets(512, 512, 224, crops, 20)

    def one_by_one() -> float:
        text = model.encode_prompt(semantic_view(image, 224), ids, mask)
        scores = []
        for top, left in offsets:
            crop = padded[..., top : top + 224, left : left + 224]
            prior = model.prior_features(crop)
            features = published(crop)[:, None]
            scores.append(model.head(features, text, None if prior is None else prior[:, None]).scores)
        return float(torch.cat(scores).mean())

    def batched() -> float:
        cut, times = model.cut_crops(image)
        scores = model(cut[None], semantic_view(image, 224), ids, mask).scores[0, :, 0]
        return float((scores * times).sum() / times.sum())

    with torch.inference_mode():
        # The counted run is also the warm-up.
        work = {"published": counted(one_by_one), "ours": counted(batched)}
        found = interleave({"published": one_by_one, "ours": batched}, repeats, warm=0, least=0.0)
    result = compared(
        f"MoE-AGIQA {name}, {crops} crops",
        found["ours"],
        found["published"],
        "published procedure",
        target,
        published_gmacs=work["published"][0],
        ours_gmacs=work["ours"][0],
        score_difference=abs(work["published"][1] - work["ours"][1]),  # type: ignore[operator]
    )
    print(json.dumps(plain(result)), file=sys.stderr, flush=True)
    return result


class MUSIQShaped(nn.Module):
    """Fourteen layers of width 384 over 32-pixel patches of three scales, behind a small ResNet stem."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.GroupNorm(32, 64), nn.ReLU(), nn.MaxPool2d(3, 2, 1),
            nn.Conv2d(64, 64, 1), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 256, 1),
        )  # fmt: skip
        self.embed = nn.Linear(256 * 8 * 8, 384)
        layer = nn.TransformerEncoderLayer(384, 6, 1152, 0.0, "gelu", batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 14, enable_nested_tensor=False)
        self.head = nn.Linear(384, 1)

    def forward(self, image: Tensor) -> Tensor:
        tokens = []
        for side in (None, 384, 224):
            x = image
            if side is not None:
                scale = side / max(image.shape[-2:])
                x = nn.functional.interpolate(image, scale_factor=scale, mode="bicubic", antialias=True)
            rows, columns = x.shape[-2] // 32, x.shape[-1] // 32
            patches = x[..., : rows * 32, : columns * 32].unfold(2, 32, 32).unfold(3, 32, 32)
            patches = patches.permute(0, 2, 3, 1, 4, 5).reshape(-1, 3, 32, 32)
            tokens.append(self.embed(self.stem(patches).flatten(1))[None])
        return self.head(self.encoder(torch.cat(tokens, dim=1)).mean(dim=1))


def peers() -> dict[str, Callable[[Tensor], object]]:
    """Networks of the shapes that well-known metrics run, on a 512-pixel picture (HyperIQA: 25 crops of 224)."""
    import timm
    from open_clip.modified_resnet import ModifiedResNet
    from torchvision.models import vgg16

    clip = ModifiedResNet([3, 4, 6, 3], 1024, 32, 512, 64).eval()
    vgg = vgg16(weights=None).features.eval()
    resnet = timm.create_model("resnet50", pretrained=False).eval()
    musiq = MUSIQShaped().eval()
    return {
        "CLIPIQA shape (RN50)": clip,
        "MUSIQ shape": musiq,
        "DBCNN shape (VGG-16 trunk)": vgg,
        "HyperIQA shape (ResNet-50, 25 crops)": lambda image: resnet(image[..., :224, :224].repeat(25, 1, 1, 1)),
    }


def lar(repeats: int) -> dict[str, dict[str, float]]:
    torch.manual_seed(0)
    photograph = picture(1440, 1920)
    image = as_batch(picture(512, 512))
    runs: dict[str, Callable[[], object]] = {}
    for head in ("mlp", "kan"):
        model = LARIQA(branch_head=head).eval()
        whole, crop = model.views(photograph)
        runs[f"LAR-IQA {head} (384 + 1280)"] = lambda m=model, w=whole, c=crop: m(w, c)
    for name, network in peers().items():
        runs[name] = lambda n=network: n(image)
    with torch.inference_mode():
        work = {name: gmacs(run) for name, run in runs.items()}
        found = alternate(runs, repeats)
    results = {name: {"cpu_s": found[name], "gmacs": work[name]} for name in runs}
    print(json.dumps(results, indent=1), file=sys.stderr, flush=True)
    return results


def mdiqa(repeats: int) -> dict[str, dict[str, float]]:
    torch.manual_seed(0)
    model, image = MDIQA().eval(), as_batch(picture(384, 512))
    asked = {"sharpness": DIMENSIONS[4:5], "five technical": DIMENSIONS[:5], "all nine": DIMENSIONS}
    runs: dict[str, Callable[[], object]] = {n: lambda d=d: model.score(image, d) for n, d in asked.items()}
    runs["overall"] = lambda: model(image)
    large, guard = picture(1024, 1024), as_the_guard_asks(model)
    runs["five technical of 1024²"] = lambda: model.score(as_batch(large), DIMENSIONS[:5])
    runs["five technical of 1024², as the guard asks, at 512²"] = lambda: guard([large])
    with torch.inference_mode():
        work = {name: gmacs(run) for name, run in runs.items()}
        found = alternate(runs, repeats)
    results = {f"MDIQA {n}": {"cpu_s": found[n], "gmacs": work[n]} for n in runs}
    print(json.dumps(results, indent=1), file=sys.stderr, flush=True)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="moe,lar,mdiqa")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    torch.set_num_threads(1)
    path = options.out / "scorers.json"
    found = json.loads(path.read_text())["results"] if path.is_file() else {}
    for name in options.only.split(","):
        found |= {"moe": moe, "lar": lar, "mdiqa": mdiqa}[name](options.repeats)
    options.out.mkdir(parents=True, exist_ok=True)
    about = {"torch": torch.__version__, "machine": platform.machine(), "threads": 1, "repeats": options.repeats}
    path.write_text(json.dumps({"about": about, "results": found}, indent=1) + "\n")
    lines = ["# Cost of the quality networks", "", "CPU time on one thread, random weights; GMACs counted.", ""]
    lines += [
        "MDIQA sees 512x384 where its row names no size, LAR-IQA views of 1920x1440, all others 512x512.",
        "",
    ]
    lines += ["| network | values |", "| --- | --- |"]
    for name, row in found.items():
        lines.append(f"| {name} | " + ", ".join(f"{key} {value:.4g}" for key, value in row.items()) + " |")
    (options.out / "scorers.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()

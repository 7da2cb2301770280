"""Calibration where the truth is known: toy refiners of known order, and a judge that ranks them wrongly.

Every "refiner" leaves one kind of flaw of one strength in a scene, and the true quality of its output is how little of
that can be seen against the clean scene. The frozen judge is a small network trained on rated pictures whose flaws are
of three kinds only; of the other kinds it knows nothing. The rectifier is told the refiners' ranking and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from grefine.evaluate.correlation import srcc
from grefine.ranking.judges import AfcResult, clustered_interval, judge_choices, two_afc
from grefine.ranking.thurstone import fit_scores
from grefine.ranking.votes import Vote, VoteTable, table_from_votes
from grefine.training.losses import rated_fidelity
from grefine.training.rectifier import RankedPool, RatedSeen, RectifierConfig, Seen, Trained, corrected, fit_rectifier
from lab.world.defects import damage
from lab.world.render import render
from lab.world.scene import sample

RATED_KINDS = ("noise", "jpeg", "cast")
REFINERS = {
    "grain": ("noise", 0.25),
    "blocks": ("jpeg", 0.45),
    "tint": ("cast", 0.3),
    "soft": ("blur", 1.0),
    "bands": ("banding", 1.0),
    "bent": ("warp", 1.0),
}
"""What each refiner leaves behind, and how much of it."""
SUBJECTS = 23
BLOBS = 3


@dataclass(frozen=True)
class Outcome:
    """What calibration changed, on inputs and pictures that took no part in it."""

    before: AfcResult
    after: AfcResult
    gain: float
    """2AFC after minus before."""
    gain_interval: tuple[float, float]
    """95 %, by resampling inputs; the two judges see the same pairs."""
    human_oracle: float
    ranking_srcc_before: float
    ranking_srcc_after: float
    rated_srcc_before: float
    rated_srcc_after: float
    rated_change_interval: tuple[float, float]
    """95 % of SRCC after minus before, by resampling pictures."""
    truth: dict[str, float]
    """Mean true quality by refiner."""
    fitted: dict[str, float]
    """The ranking that the votes gave."""


class ToyJudge(nn.Module):
    """A small network on local statistics of a picture; those statistics are what a rectifier reads."""

    width = 27

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(self.width))
        self.register_buffer("spread", torch.ones(self.width))
        self.mlp = nn.Sequential(nn.Linear(self.width, 32), nn.ReLU(), nn.Linear(32, 1))

    def features(self, images: Tensor) -> Tensor:
        """Return `(B, 16, width)`: per cell of a 4 x 4 grid, what its fine and coarse detail looks like."""
        return (local_statistics(images) - self.centre) / self.spread

    def forward(self, features: Tensor) -> Tensor:
        """Return scores `(B,)`."""
        return self.mlp(features).mean((1, 2))

    @torch.no_grad()
    def read(self, images: list[Image.Image]) -> tuple[Tensor, Tensor]:
        """Rate pictures, as every frozen judge does."""
        features = self.features(torch.stack([torch.from_numpy(np.array(i)).permute(2, 0, 1) / 255 for i in images]))
        return self(features), features


def local_statistics(images: Tensor) -> Tensor:
    """Return `(B, 16, 27)`: nine measures of every cell at three scales."""
    found = []
    for scale in (1, 2, 4):
        x = F.avg_pool2d(images, scale) if scale > 1 else images
        luma = x.mean(1, keepdim=True)
        detail = (x - F.avg_pool2d(F.pad(x, [1] * 4, mode="replicate"), 3, 1)).abs()
        fine = detail.mean(1, keepdim=True)
        across = F.pad((luma[..., 1:] - luma[..., :-1]).abs(), (0, 1))
        down = F.pad((luma[..., 1:, :] - luma[..., :-1, :]).abs(), (0, 0, 0, 1))
        chroma = x - luma
        maps = [
            fine.add(1e-3).log(),
            (fine < 1 / 255).float(),
            fine**2,
            (detail - fine).abs().mean(1, keepdim=True),
            across.add(1e-3).log(),
            down.add(1e-3).log(),
            ((across < 1 / 255) & (down < 1 / 255)).float(),
            chroma.abs().mean(1, keepdim=True),
            luma,
        ]
        found.append(F.adaptive_avg_pool2d(torch.cat(maps, 1), 4))
    return torch.cat(found, 1).flatten(2).transpose(1, 2)


def clean_scenes(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return scenes `(N, 3, 64, 64)` and where their objects are."""
    made = render(sample(count, torch.Generator().manual_seed(seed)))
    return made.images, made.objects.any(1)


def spoilt(images: Tensor, objects: Tensor, kinds: tuple[str, ...], share: Tensor | float, seed: int) -> Tensor:
    """Return the scenes with flaws of the given kinds, blended in by `share`."""
    generator = torch.Generator().manual_seed(seed)
    out = images
    for _ in range(BLOBS):
        out = damage(out, objects, generator, kinds).images
    return images + (out - images) * share


def true_quality(outputs: Tensor, clean: Tensor) -> Tensor:
    """Return minus the visible change, 0 for the clean scene, `(N,)`."""
    change = F.avg_pool2d((outputs - clean).abs().mean(1, keepdim=True), 5, 1, 2)[:, 0]
    return -(change / 0.15).clamp(max=1).mean((1, 2))


def rated_pictures(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return pictures with flaws of the rated kinds in all strengths, and their true quality as opinion."""
    images, objects = clean_scenes(count, seed)
    share = torch.rand(count, 1, 1, 1, generator=torch.Generator().manual_seed(seed + 1))
    made = spoilt(images, objects, RATED_KINDS, share, seed + 2)
    return made, true_quality(made, images)


def train_judge(images: Tensor, opinions: Tensor, steps: int, seed: int, batch: int = 64) -> ToyJudge:
    """Train the judge on rated pictures only."""
    torch.manual_seed(seed)
    judge = ToyJudge()
    raw = local_statistics(images)
    judge.centre.copy_(raw.mean((0, 1)))
    judge.spread.copy_(raw.std((0, 1)).clamp(min=1e-6))
    features = judge.features(images)
    optimiser = torch.optim.AdamW(judge.parameters(), 3e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        rows = torch.randperm(len(images))[:batch]
        loss = rated_fidelity(judge(features[rows]), opinions[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return judge.eval().requires_grad_(False)


def refined(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return every refiner's outputs `(refiners, N, 3, 64, 64)` and their true quality `(refiners, N)`."""
    images, objects = clean_scenes(count, seed)
    outputs = [
        spoilt(images, objects, (kind,), share, seed + 100 + i) for i, (kind, share) in enumerate(REFINERS.values())
    ]
    return torch.stack(outputs), torch.stack([true_quality(o, images) for o in outputs])


def simulated_votes(quality: Tensor, pairs: int, sharpness: float, seed: int) -> VoteTable:
    """Return votes of 23 subjects on random inputs per pair of refiners: P(a over b) = Phi(sharpness (q_a - q_b))."""
    generator = np.random.default_rng(seed)
    names = list(REFINERS)
    votes = []
    for a in range(len(names)):
        for b in range(a + 1, len(names)):
            for x in generator.permutation(quality.shape[1])[:pairs]:
                d = torch.tensor(sharpness * (quality[a, x] - quality[b, x]).item())
                p = float(torch.special.ndtr(d))
                wins = int(generator.binomial(SUBJECTS, p))
                votes.append(Vote(names[a], names[b], f"{x}", wins, SUBJECTS - wins))
    return table_from_votes(votes, names)


@torch.no_grad()
def seen_by(judge: ToyJudge, images: Tensor) -> Seen:
    """Let the judge see pictures."""
    features = torch.cat([judge.features(part) for part in images.split(64)])
    return Seen(judge(features), features.half())


def calibrate(
    judge_steps: int = 400,
    inputs: int = 128,
    held: int = 128,
    rated: int = 512,
    epochs: int = 8,
    lambda_: float = 0.3,
    seed: int = 0,
) -> tuple[Outcome, Trained]:
    """Run the experiment: train the judge, vote, rank, calibrate, measure on what none of them has met."""
    pictures, opinions = rated_pictures(rated, 60_000 + seed)
    judge = train_judge(pictures, opinions, judge_steps, seed)
    outputs, quality = refined(inputs, 50_000 + seed)
    sharpness = 1.2 / quality.std().item()
    table = simulated_votes(quality, 16, sharpness, seed)
    mu = fit_scores(table.counts(), table.methods).mu
    fitted = dict(zip(table.methods, mu.tolist(), strict=True))
    names = tuple(REFINERS)
    pool = RankedPool(
        names,
        tuple(map(str, range(inputs))),
        torch.tensor([fitted[n] for n in names]),
        seen_by(judge, outputs.flatten(0, 1)),
    )
    rated_set = RatedSeen("rated", opinions, seen_by(judge, pictures))
    config = RectifierConfig(
        epochs=epochs,
        steps_per_epoch=50,
        learning_rate=3e-3,
        lambda_=lambda_,
        rated_batch=128,
        hidden=64,
        held_out=0.0,
        seed=seed,
    )
    trained = fit_rectifier(judge.width, pool, [rated_set], config)
    return _measure(judge, trained, held, rated // 2, sharpness, fitted, seed), trained


@torch.no_grad()
def _measure(
    judge: ToyJudge, trained: Trained, held: int, rated: int, sharpness: float, fitted: dict[str, float], seed: int
) -> Outcome:
    outputs, quality = refined(held, 70_000 + seed)
    seen = seen_by(judge, outputs.flatten(0, 1))
    rows = torch.arange(len(seen.q)).view(len(REFINERS), held)
    before = (seen.q - trained.source.centre)[rows] / trained.source.scale
    after = corrected(trained.rectifier, seen, rows, trained.source)
    table = simulated_votes(quality, held // 4, sharpness, seed + 1)
    results = {name: _score(table, values) for name, values in (("before", before), ("after", after))}
    difference = results["after"].credits - results["before"].credits
    pictures, opinions = rated_pictures(rated, 80_000 + seed)
    rated_seen = seen_by(judge, pictures)
    every = torch.arange(rated)
    rated_before = srcc(rated_seen.q.numpy(), opinions.numpy())
    rated_values = corrected(trained.rectifier, rated_seen, every, trained.source)
    rated_after = srcc(rated_values.numpy(), opinions.numpy())
    truth = quality.mean(1)
    p = np.array([v.share_a for v in table.votes])
    return Outcome(
        before=results["before"],
        after=results["after"],
        gain=float(difference.mean()),
        gain_interval=clustered_interval(difference, [v.image for v in table.votes], 2000, seed),
        human_oracle=float(np.maximum(p, 1 - p).mean()),
        ranking_srcc_before=srcc(before.mean(1).numpy(), truth.numpy()),
        ranking_srcc_after=srcc(after.mean(1).numpy(), truth.numpy()),
        rated_srcc_before=rated_before,
        rated_srcc_after=rated_after,
        rated_change_interval=_srcc_change(rated_seen.q.numpy(), rated_values.numpy(), opinions.numpy(), seed),
        truth=dict(zip(REFINERS, truth.tolist(), strict=True)),
        fitted=fitted,
    )


def _score(table: VoteTable, values: Tensor) -> AfcResult:
    by_image = {(name, str(x)): values[i, x].item() for i, name in enumerate(REFINERS) for x in range(values.shape[1])}
    return two_afc(table, judge_choices(table, by_image))


def _srcc_change(before: np.ndarray, after: np.ndarray, opinions: np.ndarray, seed: int) -> tuple[float, float]:
    generator = np.random.default_rng(seed)
    changes = []
    for _ in range(1000):
        rows = generator.integers(len(opinions), size=len(opinions))
        changes.append(srcc(after[rows], opinions[rows]) - srcc(before[rows], opinions[rows]))
    low, high = np.percentile(changes, (2.5, 97.5))
    return float(low), float(high)

"""A stated simulator of a vote study, to see what a ranking can be trusted with.

Method m has true score mu[m]. On input x its output is better or worse than usual by e[m, x] ~ N(0, image_effect²);
subject s likes it more or less than others do by b[m, s] ~ N(0, subject_effect²). Shown the outputs of i and j, the
subject prefers i with probability Phi(mu_i + e_ix + b_is - mu_j - e_jx - b_js). Averaged over inputs and subjects this
is Phi((mu_i - mu_j) / w) with w² = 1 + 2 image_effect² + 2 subject_effect², so that a fit of Eq. 2 on all inputs aims
at mu / w.

What a selection can see of an input is D1 = |mu_i + e_ix - mu_j - e_jx| + |N(0, blur²)|: outputs that differ in
quality look different, but not every visible difference is one of quality. D2 comes from a content position of two
dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from grefine.errors import ConfigError
from grefine.ranking.features import FeatureDistances
from grefine.ranking.select import LAMBDA, greedy_mad
from grefine.ranking.votes import Vote, VoteTable, table_from_votes

Selection = Literal["mad", "random"]
FAILURE = 3.0


@dataclass(frozen=True, slots=True)
class World:
    """Everything that a simulated study is drawn from."""

    mu: np.ndarray
    """`(methods,)`, sum zero."""
    image_effects: np.ndarray
    """`(methods, inputs)`."""
    subject_effects: np.ndarray
    """`(methods, subjects)`."""
    content: np.ndarray
    """`(inputs, 2)`."""
    difference_noise: np.ndarray
    """`(inputs,)`, what D1 sees that is not quality."""
    target: np.ndarray
    """`(methods,)`, what a fit on all inputs and subjects aims at: mu / w."""

    @property
    def methods(self) -> list[str]:
        """Names in the order of `mu`."""
        return [f"m{i:02d}" for i in range(len(self.mu))]


def draw_world(
    generator: np.random.Generator,
    methods: int = 12,
    inputs: int = 1000,
    subjects: int = 23,
    spread: float = 0.5,
    image_effect: float = 0.5,
    subject_effect: float = 0.3,
    blur: float = 0.5,
    failures: float = 0.0,
) -> World:
    """Draw a world; `spread` is the standard deviation of the true scores.

    With `failures`, every second method fails badly (3 below its usual) on this share of the inputs.
    """
    if min(methods, inputs, subjects) < 2:
        raise ConfigError("A simulated study needs at least two methods, inputs and subjects.")
    mu = spread * generator.standard_normal(methods)
    mu -= mu.mean()
    image_effects = image_effect * generator.standard_normal((methods, inputs))
    if failures:
        image_effects[::2] -= FAILURE * (generator.random(image_effects[::2].shape) < failures)
    width = np.sqrt(1 + 2 * image_effect**2 + 2 * subject_effect**2)
    return World(
        mu,
        image_effects,
        subject_effect * generator.standard_normal((methods, subjects)),
        generator.standard_normal((inputs, 2)),
        np.abs(blur * generator.standard_normal(inputs)),
        mu / width,
    )


def choose(
    world: World, k: int, selection: Selection, generator: np.random.Generator
) -> dict[tuple[int, int], list[int]]:
    """Return the inputs chosen for every pair of methods."""
    distances = FeatureDistances(world.content)
    chosen = {}
    for i in range(len(world.mu)):
        for j in range(i + 1, len(world.mu)):
            if selection == "random":
                chosen[i, j] = generator.permutation(len(world.content))[:k].tolist()
                continue
            quality = world.mu[:, None] + world.image_effects
            d1 = np.abs(quality[i] - quality[j]) + world.difference_noise
            chosen[i, j] = [p.index for p in greedy_mad(d1, distances, k, LAMBDA)]
    return chosen


def vote(
    world: World,
    chosen: dict[tuple[int, int], list[int]],
    subjects: int,
    generator: np.random.Generator,
    group: str = "",
) -> VoteTable:
    """Return one vote of each of the first `subjects` subjects on every chosen input."""
    from scipy.special import ndtr

    names, votes = world.methods, []
    quality = world.mu[:, None] + world.image_effects
    for (i, j), inputs in chosen.items():
        for order, x in enumerate(inputs):
            lean = quality[i, x] - quality[j, x]
            lean = lean + world.subject_effects[i, :subjects] - world.subject_effects[j, :subjects]
            wins = generator.random(subjects) < ndtr(lean)
            votes += [
                Vote(names[i], names[j], f"x{x}", int(w), int(not w), f"s{s}", group, order)
                for s, w in enumerate(wins)
            ]
    return table_from_votes(votes, names)


def count_votes(
    world: World, chosen: dict[tuple[int, int], list[int]], subjects: int, generator: np.random.Generator
) -> np.ndarray:
    """Return only the count matrix of such votes, much faster."""
    from scipy.special import ndtr

    quality = world.mu[:, None] + world.image_effects
    C = np.zeros((len(world.mu),) * 2)
    for (i, j), inputs in chosen.items():
        taste = world.subject_effects[i, :subjects] - world.subject_effects[j, :subjects]
        lean = (quality[i, inputs] - quality[j, inputs])[:, None] + taste
        C[i, j] = (generator.random(lean.shape) < ndtr(lean)).sum()
        C[j, i] = lean.size - C[i, j]
    return C

"""Calibrate a frozen judge from a ranking of methods alone, keeping what it knows of rated pictures (Eq. 3-6)."""

import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor

from grefine.errors import ConfigError
from grefine.evaluate.correlation import srcc
from grefine.io.atomic import write_atomic
from grefine.io.images import read_image
from grefine.models.rectifier import Rectifier
from grefine.ranking.features import match_methods
from grefine.ranking.frozen import FIVE_LEVEL, CalibratedJudge, FrozenJudge, JudgeSource, load_judge, seen_score
from grefine.training.datasets.published import read_data, read_ranking
from grefine.training.datasets.rated import MOS
from grefine.training.loop import Budget, Record, train
from grefine.training.losses import Phi, group_fidelity, order_labels, rated_fidelity

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Seen:
    """Pictures as the frozen judge sees them."""

    q: Tensor
    features: Tensor
    """`(N, tokens, width)`, float16: they are read once and many."""


@dataclass(frozen=True, slots=True)
class RankedPool:
    """Outputs of every method for the same inputs; row = method * inputs + input."""

    methods: tuple[str, ...]
    names: tuple[str, ...]
    mu: Tensor
    seen: Seen

    def rows(self, inputs: Tensor) -> Tensor:
        """Return the rows `(methods, B)` of the given inputs."""
        return torch.arange(len(self.methods))[:, None] * len(self.names) + inputs[None]


@dataclass(frozen=True, slots=True)
class RatedSeen:
    """A set of rated pictures as the frozen judge sees them; opinions are of one scale, high = good."""

    name: str
    opinions: Tensor
    seen: Seen


def look(judge: FrozenJudge, paths: Sequence[Path], progress: Progress) -> Seen:
    """Let the judge see every picture once."""
    q, features = torch.empty(len(paths)), None
    for i, path in enumerate(paths):
        score, tokens = judge.read([read_image(path).rgb])
        if features is None:
            features = torch.empty(len(paths), *tokens.shape[1:], dtype=torch.float16)
        if tokens.shape[1:] != features.shape[1:]:
            raise ConfigError(
                f"'{path}' gives features {tuple(tokens.shape[1:])}, others {tuple(features.shape[1:])}; use pictures "
                "of one size, or a layer whose output does not depend on it."
            )
        q[i], features[i] = score.item(), tokens[0]
        if (i + 1) % 500 == 0:
            progress(f"seen {i + 1} of {len(paths)}")
    if features is None:
        raise ConfigError("There are no pictures to look at.")
    return Seen(q, features)


def read_pool(
    judge: FrozenJudge, folders: Sequence[Path], ranking: dict[str, float], progress: Progress
) -> RankedPool:
    found = match_methods(folders)
    for method in sorted(set(found.methods) - set(ranking)):
        raise ConfigError(f"The ranking has no score for the method '{method}'; it has {', '.join(ranking)}.")
    for method in sorted(set(ranking) - set(found.methods)):
        raise ConfigError(f"The ranked method '{method}' has no folder of outputs; give one for each.")
    paths = [path for method in found.methods for path in found.paths[method]]
    mu = torch.tensor([ranking[m] for m in found.methods])
    return RankedPool(found.methods, found.names, mu, look(judge, paths, progress))


@dataclass(frozen=True, slots=True)
class RectifierConfig:
    judge: JudgeSource = JudgeSource()
    pool: str = ""
    """Folder that holds one folder of outputs per ranked method."""
    ranking: str = ""
    """JSON of `grefine rank fit --json`."""
    rated: tuple[str, ...] = ()
    """Sets of rated pictures: NAME:FOLDER of a published one, or a table with the columns image and mos."""
    group: int = 64
    """B of Eq. 4: inputs whose scores are averaged before methods are compared."""
    rated_batch: int = 16
    lambda_: float = 1.0
    """Weight of the ranking in Eq. 6."""
    phi: Phi = "paper"
    epochs: int = 8
    steps_per_epoch: int = 0
    """0: as many as cover the pool once."""
    learning_rate: float = 1e-3
    weight_decay: float = 1e-3
    dropout: float = 0.1
    hidden: int = 0
    """0: as wide as the features."""
    use_alpha: bool = True
    use_beta: bool = True
    start: float = 0.1
    """Scale of the last layer's first weights; the published code has 1."""
    held_out: float = 0.1
    """Share of the inputs that only measure."""
    seed: int = 0
    device: str = "cpu"


@dataclass
class Trained:
    rectifier: Rectifier
    source: JudgeSource
    history: list[dict[str, float]] = field(default_factory=list)


def train_rectifier(config: RectifierConfig, out: str | Path, progress: Progress = lambda _: None) -> Trained:
    """Read the data, train, and write a calibrated judge with its configuration and history into `out`."""
    if not config.pool or not config.ranking:
        raise ConfigError("A rectifier needs `pool` (a folder of the methods' folders) and `ranking` (their scores).")
    root = Path(config.pool)
    if not root.is_dir():
        raise ConfigError(f"The pool '{root}' is not a folder: it holds one folder of outputs per method.")
    judge = load_judge(config.judge, config.device)
    folders = sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    sets = [read_data(given).only(lambda row: row.part in ("", "train")) for given in config.rated]
    pool = read_pool(judge, folders, read_ranking(config.ranking), progress)
    rated = []
    for data in sets:
        seen = look(judge, [row.path for row in data.rows], progress)
        rated.append(RatedSeen(data.name, torch.tensor([row.scores[MOS] for row in data.rows]), seen))
    trained = fit_rectifier(judge.width, pool, rated, config)
    CalibratedJudge(judge, trained.rectifier, trained.source).save(out)
    record = {"config": dataclasses.asdict(config), "history": trained.history}
    write_atomic(Path(out) / "training.json", (json.dumps(record, indent=1) + "\n").encode())
    return trained


def fit_rectifier(width: int, pool: RankedPool, rated: Sequence[RatedSeen], config: RectifierConfig) -> Trained:
    """Train on what the judge has seen; the last epoch is kept, so nothing is selected on any test."""
    source = config.judge
    if source.metric != FIVE_LEVEL and (source.centre, source.scale) == (0.0, 1.0):
        # Bring a metric's score to the spread that the losses are made for; the five-level judge has it by itself.
        spread = pool.seen.q.std().item()
        if not spread > 0:
            raise ConfigError(
                "The judge gives every picture of the pool the same score; there is nothing to calibrate."
            )
        source = dataclasses.replace(source, centre=pool.seen.q.mean().item(), scale=spread)
    training, held = split_inputs(len(pool.names), config.held_out, config.seed)
    if len(pool.methods) < 2 or config.group < 1 or config.epochs < 1 or not len(training):
        raise ConfigError("A rectifier needs two methods, one input, one epoch and groups of at least one.")
    generator = torch.Generator().manual_seed(config.seed)
    steps = config.epochs * (config.steps_per_epoch or max(1, -(-len(training) // config.group)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        h = Rectifier(width, config.hidden or None, config.dropout, config.use_alpha, config.use_beta, config.start)
        h.to(config.device)
        record = Record(None, "rectifier")

        def step(_: int) -> dict[str, Tensor]:
            """Return l_t + lambda l_p for one draw of data (Eq. 6)."""
            h.train()
            group = training[torch.randperm(len(training), generator=generator)[: config.group]]
            Q = corrected(h, pool.seen, pool.rows(group), source)
            loss = config.lambda_ * group_fidelity(Q, pool.mu.to(Q.device), config.phi)
            for data in rated:
                rows = torch.randperm(len(data.opinions), generator=generator)[: max(2, config.rated_batch)]
                scores = corrected(h, data.seen, rows, source)
                loss = loss + rated_fidelity(scores, data.opinions[rows].to(scores.device), config.phi)
            return {"loss": loss}

        train(
            step,
            [torch.optim.AdamW(h.parameters(), config.learning_rate, weight_decay=config.weight_decay)],
            Budget(steps=steps),
            record,
            settings={},
            evaluate=lambda: measure(h, pool, rated, held if len(held) else training, source),
            save=lambda: None,
            batch=len(pool.methods) * config.group,
            accelerator=Accelerator(cpu=config.device == "cpu"),
            every=1 / config.epochs,
            clip=math.inf,
            rate=lambda number: (1 + math.cos(math.pi * number / steps)) / 2,
            thin=False,
        )
    return Trained(h, source, record.rows)


def split_inputs(count: int, held_out: float, seed: int) -> tuple[Tensor, Tensor]:
    if not 0 <= held_out < 1:
        raise ConfigError(f"held_out is {held_out}: it is a share from 0 to below 1.")
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    kept = int(count * held_out)
    return order[kept:], order[:kept]


def corrected(h: Rectifier, seen: Seen, rows: Tensor, source: JudgeSource) -> Tensor:
    """Return the corrected scores of some rows, in the rows' shape (Eq. 3)."""
    flat = rows.flatten()
    q = seen_score(seen.q[flat], source).to(h.device)
    return h(seen.features[flat].to(h.device).float(), q).score.view(rows.shape)


@torch.no_grad()
def measure(
    h: Rectifier, pool: RankedPool, rated: Sequence[RatedSeen], inputs: Tensor, source: JudgeSource
) -> dict[str, float]:
    """Return how well scores follow the ranking on `inputs`, and the opinions of every rated set."""

    def scores(seen: Seen, rows: Tensor) -> Tensor:
        return torch.cat([corrected(h, seen, part, source).cpu() for part in rows.split(64, -1)], -1)

    h.eval()
    Q = scores(pool.seen, pool.rows(inputs))
    i, j = torch.triu_indices(len(Q), len(Q), 1)
    label = order_labels(pool.mu)[:, None]
    choice = 0.5 + 0.5 * torch.sign(Q[i] - Q[j])
    decided = (label != 0.5).expand_as(choice)
    credit = label * choice + (1 - label) * (1 - choice)
    found = {"pair_accuracy": credit[decided].mean().item(), "ranking_srcc": srcc(Q.mean(1), pool.mu)}
    for data in rated:
        found[f"{data.name}_srcc"] = srcc(scores(data.seen, torch.arange(len(data.opinions))), data.opinions)
    return found

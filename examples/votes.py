"""From votes to a ranking with intervals: python examples/votes.py [VOTES.csv]

The votes come from `grefine rank pairs` and `grefine rank study`; without a file some are made up here, of three
refiners of which "good" wins most.
"""

import csv
import random
import sys
from itertools import combinations
from pathlib import Path

from grefine.ranking.result import rank_methods
from grefine.ranking.votes import read_votes

path = Path(sys.argv[1] if len(sys.argv) > 1 else "votes.csv")
if len(sys.argv) == 1:
    chance, draw = {"good": 1.0, "fair": 0.6, "poor": 0.1}, random.Random(0)
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["method_a", "method_b", "image", "subject", "votes_a", "votes_b"])
        for one, other in combinations(chance, 2):
            for subject in range(6):
                for image in range(12):
                    won = draw.random() < 0.5 + (chance[one] - chance[other]) / 2
                    writer.writerow([one, other, f"{image}.png", f"subject {subject}", int(won), int(not won)])

ranking = rank_methods(read_votes(path))
print("\n".join(ranking.lines()))

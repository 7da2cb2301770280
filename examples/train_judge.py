"""Train a judge on your own ratings, and ask it: python examples/train_judge.py

The ratings are made up here (brighter is better), and the network is small. For your own pictures: the same table, and
`grefine train lar-iqa --data ratings.csv --config kan` (docs/training.md).
"""

import csv
import random
from pathlib import Path

import yaml
from PIL import Image

from grefine import load_scorer
from grefine.resources import config_file
from grefine.training.judges.catalogue import train_on_data

folder = Path("ratings")
folder.mkdir(exist_ok=True)
rows = []
for number in range(40):
    opinion = 1 + number % 20 / 5  # any scale, high = good
    level = int(40 * opinion + random.Random(number).uniform(-15, 15))
    Image.new("RGB", (48, 48), (level, level, level)).save(folder / f"{number}.png")
    rows.append([f"{number}.png", opinion])
with open(folder / "ratings.csv", "w", newline="") as file:
    csv.writer(file).writerows([["image", "mos"], *rows])

recipe = yaml.safe_load(config_file("train/lar-iqa", "kan").read_text())
small = {"encoder": "test_efficientnet", "encoder_options": {"output_stride": 8}, "features": 8, "whole_size": 32}
recipe["geometry"] |= small | {"crop_size": 48, "expanded": 8, "reduced": 8}
recipe |= {"batch": 8, "optimiser": {"kind": "adamw", "learning_rate": 1e-3, "weight_decay": 1e-4}}
Path("recipe.yaml").write_text(yaml.safe_dump(recipe))

train_on_data("lar-iqa", [str(folder / "ratings.csv")], "recipe.yaml", Path("runs"), steps=60, cpu=True)
judge = load_scorer("lar_iqa", "runs/lar_iqa")
dark, bright = judge([Image.new("RGB", (48, 48), (60, 60, 60)), Image.new("RGB", (48, 48), (180, 180, 180))])
print(f"dark {dark['lar_iqa']:.3f}, bright {bright['lar_iqa']:.3f}")

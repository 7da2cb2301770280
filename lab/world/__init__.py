"""The closed world: scenes with known truth, their captions, defects, judges and benchmark."""

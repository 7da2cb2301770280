"""How the judges of tiny were trained, on scenes with known truth."""

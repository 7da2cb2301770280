"""Refine many images: the work list and the runner."""

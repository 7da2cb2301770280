"""So that diffusers finds the class: the code is grefine's."""

from grefine import GRefinePipeline  # noqa: F401

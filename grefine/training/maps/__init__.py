"""Training of both maps on opinion scores: learned quality prompts, and the CLIP that phrases are found with."""

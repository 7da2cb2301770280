"""One calling convention for every judge: images (+ prompts) in, one `Scores` per image out."""

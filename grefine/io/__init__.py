"""Reading and writing: images, prompts, metadata, journals. Knows nothing about quality."""

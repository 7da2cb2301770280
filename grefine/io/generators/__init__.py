"""One reader per family of generators: what it writes into its files, and where the prompt is in it."""

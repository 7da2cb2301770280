"""From a prompt to its phrases: cleaning, tagging, parsing, Eq. 4, Algorithm 1, Eq. 7. Imports no torch."""

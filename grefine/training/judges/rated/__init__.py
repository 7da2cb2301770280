"""Training of the quality networks on rated pictures: one's own, or the published sets."""

"""The benchmark's own judges: trained apart, loaded by no pipeline."""

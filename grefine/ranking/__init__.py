"""Which refiner is better: MAD pairs, the study page, Thurstone's scores, 2AFC."""

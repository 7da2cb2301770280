"""A page in the browser of this machine: look at a picture, change its plan, run it, keep it or not."""

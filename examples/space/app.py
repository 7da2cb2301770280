from grefine.app.serve import open_space

open_space("tiny")

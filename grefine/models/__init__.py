"""The networks. Their module paths are part of the saved pipeline format and never move."""

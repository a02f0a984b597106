"""Makes, ships and scores the weights that come with the package; nothing here is part of it."""

"""The page about a run: curves, figures, settings, its hardest mistakes, and what its attention looks at."""

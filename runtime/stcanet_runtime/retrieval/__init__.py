"""From embeddings to ranked lists and their figures: distances, search, re-ranking, evaluation, thresholds."""

"""From images and tracklets to embeddings: providers, sessions, the encoder, streams and tracks that grow."""

"""What a model package is and says, read without trusting it: manifest, archive, signature, graph."""

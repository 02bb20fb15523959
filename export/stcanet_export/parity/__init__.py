"""The parity gate: PyTorch and the exported graph, compared from layers to rankings."""

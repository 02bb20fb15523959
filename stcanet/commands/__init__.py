"""One module per command of `stcanet`; importing them does not import torch."""

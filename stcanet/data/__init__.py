"""Datasets, sampling and augmentation."""

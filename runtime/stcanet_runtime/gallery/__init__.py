"""Galleries of people: files of named embeddings that are searched exactly, and answer "unknown" where they do not know."""

from __future__ import annotations

from stcanet_runtime.gallery.entry import EVERYTHING, Decision, Entry, Hit, Space, Where
from stcanet_runtime.gallery.gallery import Gallery
from stcanet_runtime.gallery.sqlite import SqliteStore
from stcanet_runtime.gallery.store import Rows, Store

__all__ = ["EVERYTHING", "Decision", "Entry", "Gallery", "Hit", "Rows", "Space", "SqliteStore", "Store", "Where"]

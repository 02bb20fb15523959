"""From videos and cameras to tracks, people and events."""

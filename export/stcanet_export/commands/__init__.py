"""The commands that ``stcanet`` mounts."""

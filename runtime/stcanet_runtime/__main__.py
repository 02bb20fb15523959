"""``python -m stcanet_runtime``."""

from __future__ import annotations

from stcanet_runtime.cli import main

if __name__ == "__main__":
    main()

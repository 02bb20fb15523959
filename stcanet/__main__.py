"""``python -m stcanet``, which is how ``torchrun -m stcanet train …`` starts it."""

from __future__ import annotations

from stcanet.cli import main

if __name__ == "__main__":
    main()

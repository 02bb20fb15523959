"""The command line of the runtime, in the process of the tests, which is faster than one of its own."""

from __future__ import annotations

import pytest

from stcanet_runtime.cli import app, run


def call(*args: object) -> int:
    """Run it as a process would, and give the status."""
    with pytest.raises(SystemExit) as left:
        run(app, [str(arg) for arg in args])
    assert isinstance(left.value.code, int)
    return left.value.code

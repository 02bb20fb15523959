"""The command line of the runtime. `stcanet` mounts the same functions."""

from __future__ import annotations

import io
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from stcanet_runtime.cli.bench import bench as bench_command
from stcanet_runtime.cli.calibrate import calibrate as calibrate_command
from stcanet_runtime.cli.examples import call_program
from stcanet_runtime.cli.gallery import app as gallery_app
from stcanet_runtime.cli.identify import identify as identify_command
from stcanet_runtime.cli.infer import infer as infer_command
from stcanet_runtime.cli.info import info as info_command
from stcanet_runtime.cli.options import check_choice
from stcanet_runtime.cli.rank import rank as rank_command
from stcanet_runtime.cli.text import printable
from stcanet_runtime.cli.verify import verify as verify_command
from stcanet_runtime.cli.watch import health as health_command
from stcanet_runtime.cli.watch import watch as watch_command
from stcanet_runtime.errors import StcanetError

EXIT_ERROR, EXIT_USAGE, EXIT_INTERRUPTED, EXIT_TERMINATED = 1, 2, 130, 128 + signal.SIGTERM

app = typer.Typer(
    name="stcanet-runtime",
    help="Find people again across cameras: run exported STCANet models, without PyTorch.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
COMMANDS = (
    infer_command,
    rank_command,
    calibrate_command,
    identify_command,
    watch_command,
    health_command,
    info_command,
    verify_command,
    bench_command,
)
"""Besides `gallery`, which is a group of commands."""
for command in COMMANDS:
    app.command()(command)
app.add_typer(gallery_app, name="gallery")


def _show_version(wanted: bool) -> None:
    if wanted:
        from stcanet_runtime._version import __version__

        typer.echo(f"stcanet {__version__}")
        raise typer.Exit


def _check_level(name: str | None) -> str | None:
    from stcanet_runtime.logs import LEVELS

    return check_choice(name, LEVELS)


@app.callback()
def configure(
    context: typer.Context,
    config: Annotated[
        Path | None, typer.Option(help='TOML file with a table of options for each command, and a table "log".')
    ] = None,
    log_level: Annotated[
        str | None, typer.Option(callback=_check_level, help="Log to stderr from: debug, info, warning or error.")
    ] = None,
    log_json: Annotated[bool, typer.Option("--log-json", help="Log as JSON lines.")] = False,
    version: Annotated[  # noqa: ARG001  (its callback leaves)
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Find people again across cameras: run exported STCANet models, without PyTorch."""
    from stcanet_runtime.cli.config import load_config

    log: dict[str, Any] = {}
    if config is not None:
        context.default_map, log = load_config(config, context.command)
    level, as_json = log_level or log.get("level"), log_json or log.get("json", False)
    if level is not None or as_json:
        from stcanet_runtime.logs import log_to_stderr

        log_to_stderr(level or "info", as_json)


def main() -> NoReturn:
    """Entry point of `stcanet-runtime`."""
    run(app)


def run(app: typer.Typer, args: Sequence[str] | None = None) -> NoReturn:
    """Run a command line to its end and leave the process.

    An error that a user can cause is one line on stderr that starts with "error:", and no traceback: status 2 for a wrong
    option, 1 for all others (also a file system that refuses), 130 after Ctrl-C. What is a bug keeps its traceback.
    SIGTERM (143) and a terminal that is closed (SIGHUP, 129) end it as Ctrl-C does: what is half written is removed.

    Args:
        app: The typer application.
        args: Arguments; None takes those of the process.
    """
    # Pillow warns before our own check refuses the image with an error; one line is enough.
    warnings.filterwarnings("ignore", message="Image size .* exceeds limit")
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed: the next file that is opened would get its number, and what libraries print
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115  (until the process ends)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a file name or a tick that the terminal cannot show is no reason to fail
            stream.reconfigure(errors="backslashreplace")
    signal.signal(signal.SIGTERM, _terminate)
    hangup = getattr(signal, "SIGHUP", None)  # which Windows lacks
    if hangup is not None and signal.getsignal(hangup) != signal.SIG_IGN:  # nohup ignores it
        signal.signal(hangup, _terminate)
    command = typer.main.get_command(app)
    call_program(command, command.name or "stcanet")
    try:
        given = None if args is None else list(args)
        result = command(args=given, standalone_mode=False, help_option_names=["--help", "-h"])
        sys.stdout.flush()
    except StcanetError as error:
        _fail(str(error), EXIT_ERROR)
    except BrokenPipeError:
        # `| head` has seen enough. Python would complain once more when it flushes stdout at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(EXIT_ERROR) from None
    except OSError as error:
        _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error), EXIT_ERROR)
    except MemoryError as error:
        _fail(f"there is not enough memory: {error}", EXIT_ERROR)
    except _Terminated:
        _fail("terminated", EXIT_TERMINATED)
    except Exception as error:
        if isinstance(error, typer.Abort):
            _fail("aborted", EXIT_ERROR)
        _fail_usage(error)
        raise
    if result == EXIT_INTERRUPTED:  # what typer makes of a KeyboardInterrupt
        _fail("interrupted", EXIT_INTERRUPTED)
    raise SystemExit(result if isinstance(result, int) else 0)


class _Terminated(SystemExit):
    """SIGTERM came."""


def _terminate(number: int, _frame: object) -> NoReturn:
    if number == signal.SIGTERM:
        raise _Terminated(128 + number)
    raise SystemExit(128 + number)  # the terminal that was closed shows nothing any more


def _fail_usage(error: Exception) -> None:
    """Leave if `error` is one of the command-line parser.

    Its base class lives in click or in typer, depending on the version, so it is known by what it can do.
    """
    if type(error).__name__ == "NoArgsIsHelpError":
        getattr(error, "show")()  # noqa: B009  (mypy knows no such method of Exception)
        raise SystemExit(EXIT_USAGE)
    message = getattr(error, "format_message", None)
    if message is not None:
        _fail(str(message()), int(getattr(error, "exit_code", EXIT_USAGE)))


def _fail(message: str, status: int) -> NoReturn:
    typer.echo("error: " + printable(" ".join(message.split())), err=True)
    raise SystemExit(status)

"""`python -m tocsin_stack up | migrate | token`: what `make up` and `make migrate` call."""

import argparse
import asyncio
import signal
import sys
import time

from tocsin_stack import secret, tokens
from tocsin_stack.errors import StackError
from tocsin_stack.plan import StackSettings
from tocsin_stack.stack import Stack
from tocsin_stack.welcome import DEMO_ORG, welcome


async def up(replicas: int) -> int:
    """Run the stack until the first signal (exit code 0), or until a child ends by itself (1)."""
    began = time.monotonic()
    stack = Stack(StackSettings.from_environment(replicas))
    killed = _obey_signals(stack)
    try:
        async with stack:
            print(welcome(stack, time.monotonic() - began), flush=True)
            print(f"{await stack.first_death()}; stopping the rest", file=sys.stderr, flush=True)
    except asyncio.CancelledError:
        print("killed" if killed.is_set() else "stopped", flush=True)
        return 1 if killed.is_set() else 0
    return 1


async def migrate() -> int:
    """Bring the databases to the newest schema, the embedded ones or those that *_DATABASE_URL name."""
    stack = Stack(StackSettings.from_environment())
    _obey_signals(stack)
    try:
        await stack.provision(serving=False)
        await stack.migrate(always=True)
    finally:
        await stack.stop()
    return 0


def token(org: str, scopes: str, subject: str, ttl: float) -> int:
    """Print a bearer token."""
    settings = StackSettings.from_environment()
    path = settings.data_dir / "signing-keys"
    keys = settings.overrides.get("AUTH_SIGNING_KEYS") or (secret.kept(path) if path.exists() else "")
    if not keys:
        raise StackError(f"no signing key in {settings.data_dir} yet: run `make up` once, or set AUTH_SIGNING_KEYS")
    try:
        chosen = scopes.replace(",", " ").split()
        default = tokens.OPERATOR if org == tokens.ALL_ORGS else tokens.ADMINISTRATOR
        print(tokens.mint(keys, org, chosen or default, subject=subject, ttl=ttl))
    except ValueError as error:
        raise StackError(f"AUTH_SIGNING_KEYS cannot be used: {error}") from error
    return 0


def _obey_signals(stack: Stack) -> asyncio.Event:
    """The first signal stops everything in order, the next one at once (then the event is set)."""
    asked, killed = asyncio.Event(), asyncio.Event()
    task = asyncio.current_task()
    assert task is not None

    def on_signal() -> None:
        # Two at once come before the task has begun to stop: the second one counts all the same.
        if stack.stopping or asked.is_set():
            killed.set()
            stack.kill()
        else:
            asked.set()
            print("stopping in order; the next signal ends everything at once", flush=True)
            task.cancel()

    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(signum, on_signal)
    return killed


def main() -> int:
    """Runs the command of the command line; its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tocsin_stack", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("up", help="run the whole stack until Ctrl-C")
    command.add_argument("--replicas", type=int, default=1, metavar="N", help="of every service")
    commands.add_parser("migrate", help="bring the databases to the newest schema")
    command = commands.add_parser("token", help="mint a bearer token")
    command.add_argument("--org", default=DEMO_ORG, help="the tenant; * for an operator (default: %(default)s)")
    command.add_argument(
        "--scopes", default="", help="separated by spaces or commas (default: all that the org may use)"
    )
    command.add_argument("--subject", default="users/operator", help="who bears it (default: %(default)s)")
    command.add_argument("--ttl", type=float, default=86400, metavar="SECONDS", help="(default: a day)")
    arguments = parser.parse_args()
    try:
        match arguments.command:
            case "up":
                return asyncio.run(up(arguments.replicas))
            case "migrate":
                return asyncio.run(migrate())
            case _:
                return token(arguments.org, arguments.scopes, arguments.subject, arguments.ttl)
    except StackError as error:
        print(error, file=sys.stderr)
        return 1
    except asyncio.CancelledError:
        return 130  # a signal ended a migration; what it stopped at is rolled back


if __name__ == "__main__":
    sys.exit(main())

"""`python -m tocsin_client.imports opsgenie schedules.json`: shows what would be made, and with `--send` makes it."""

import argparse
import json
import os
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from google.protobuf import json_format
from google.protobuf.message import Message
from tocsin.escalation.v1 import directory_service_pb2 as directory
from tocsin.escalation.v1.calendar_service_pb2 import CreateCalendarImportRequest
from tocsin.escalation.v1.policy_service_pb2 import CreatePolicyRequest
from tocsin.escalation.v1.schedule_service_pb2 import CreateFixedPeriodRequest, CreateScheduleRequest

from tocsin_client import AlreadyExists, Client, Tls, TocsinError
from tocsin_client.imports import goalert, incident_io, oncall, opsgenie, pagerduty
from tocsin_client.imports.plan import NotImported, People, Plan

_TOOLS: Final = {
    "goalert": goalert.convert,
    "incident-io": incident_io.convert,
    "oncall": oncall.convert,
    "opsgenie": opsgenie.convert,
    "pagerduty": pagerduty.convert,
}
_OVERRIDES_APART: Final = ("incident-io", "opsgenie", "pagerduty")
_OF_SCHEDULES: Final = ("CreateOverride", "CreateFixedPeriod", "CreateCalendarImport")
_SERVICE: Final = "tocsin.escalation.v1"
SCOPES: Final = ("directory:write", "policies:write", "schedules:write")


def main(arguments: Sequence[str] | None = None) -> int:
    """0: everything was taken. 1: something was left out, or refused. 2: a file cannot be read."""
    options = _options(arguments)
    try:
        people = People(_known([_read(path) for path in options.users]))
        written = datetime.fromtimestamp(options.schedules.stat().st_mtime, UTC)
        beside = [_read(path) for path in options.beside]
        schedules = _read(options.schedules)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    try:
        plan = _TOOLS[options.tool](schedules, beside, people, written)
    except (ValueError, NotImported) as error:
        print(f"{options.schedules}: {error}", file=sys.stderr)
        return 2
    for name, id in sorted(people.guessed.items()):
        print(f"note: {name} is taken to be users/{id}", file=sys.stderr)
    for note in plan.notes:
        print(f"note: {note}", file=sys.stderr)
    if options.tool in _OVERRIDES_APART and not options.beside:
        print("note: overrides are answered apart; without --overrides none is made", file=sys.stderr)
    for problem in plan.problems:
        print(f"left out: {problem}", file=sys.stderr)
    if not options.send:
        for method, request in _requests(plan, create_users=options.create_users):
            said = json_format.MessageToDict(request, preserving_proto_field_name=True)
            print(json.dumps({"method": method, "request": said}, ensure_ascii=False))
        return 1 if plan.problems else 0
    token = os.environ.get("TOCSIN_TOKEN", "")
    if not token:
        print(f"TOCSIN_TOKEN must have a token with the scopes {', '.join(SCOPES)}", file=sys.stderr)
        return 2
    with Client(token=token, escalation=options.send, tls=None if options.plaintext else Tls()) as client:
        refused = _send(client, plan, create_users=options.create_users)
    return 1 if refused or plan.problems else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tocsin_client.imports", description=__doc__)
    parser.add_argument("tool", choices=sorted(_TOOLS))
    parser.add_argument("schedules", type=Path, help="what the other tool's API answered, as a file of JSON")
    parser.add_argument(
        *("--overrides", "--shifts", "--chains"),
        dest="beside",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="what belongs to the schedules and is answered apart: overrides, entries, shifts, swaps, chains, further pages",
    )
    parser.add_argument(
        "--users",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="ids of Tocsin by address, id or name of a user, lists of ids by team; or the other tool's list of users",
    )
    parser.add_argument("--create-users", action="store_true", help="make the users who do not exist")
    parser.add_argument(
        "--send", default="", metavar="HOST:PORT", help="escalation's address; the token is TOCSIN_TOKEN"
    )
    parser.add_argument("--plaintext", action="store_true", help="without TLS, as `make up` serves")
    return parser.parse_args(arguments)


def _read(path: Path) -> Any:
    text = path.read_text(encoding="utf-8")
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(f"{path}: it is not JSON: {error}") from error


def _known(files: Sequence[Any]) -> dict[str, str | list[str]]:
    """Mappings as they are. Of a tool's own list of users the part of the address before the `@` is the id."""
    found: dict[str, str | list[str]] = {}
    for given in files:
        lists = [given.get(name) for name in ("users", "data", "results")] if isinstance(given, Mapping) else []
        listed = next((each for each in lists if each is not None), None)
        if not isinstance(listed, list):
            found.update(given)
            continue
        for user in listed:
            address = user.get("email") or user.get("username") or ""
            if "@" in address:
                id = People({}).user(address)
                found.update(dict.fromkeys(filter(None, (address, user.get("id"))), id))
    return found


def _requests(plan: Plan, *, create_users: bool) -> Iterator[tuple[str, Message]]:
    named = dict.fromkeys(user for wanted in plan.wanted for user in wanted.users)
    targets = [target for made in plan.policies for level in made.policy.levels for target in level.targets]
    named |= dict.fromkeys(target.user for target in targets if target.user)
    for user in named if create_users else ():
        yield f"{_SERVICE}.DirectoryService/CreateUser", _user(user)
    for wanted in plan.wanted:
        yield f"{_SERVICE}.ScheduleService/CreateSchedule", wanted.schedule
        for override in wanted.overrides:
            yield f"{_SERVICE}.ScheduleService/CreateOverride", override
        for other in wanted.others:
            if isinstance(other, CreateFixedPeriodRequest):
                yield f"{_SERVICE}.ScheduleService/CreateFixedPeriod", other
            else:
                yield f"{_SERVICE}.CalendarService/CreateCalendarImport", other
    for policy in plan.policies:
        yield f"{_SERVICE}.PolicyService/CreatePolicy", policy


def _user(name: str) -> directory.CreateUserRequest:
    id = name.removeprefix("users/")
    return directory.CreateUserRequest(user_id=id, user=directory.User(display_name=id))


def _send(client: Client, plan: Plan, *, create_users: bool) -> int:
    """How many requests were refused. A schedule that exists already is not changed, and gets no overrides: it may have them."""
    calls = {
        "CreateUser": client.directory.CreateUser,
        "CreateSchedule": client.schedules.CreateSchedule,
        "CreateOverride": client.schedules.CreateOverride,
        "CreateFixedPeriod": client.schedules.CreateFixedPeriod,
        "CreateCalendarImport": client.calendars.CreateCalendarImport,
        "CreatePolicy": client.policies.CreatePolicy,
    }
    refused, schedule_created = 0, True
    for method, request in _requests(plan, create_users=create_users):
        name = method.rpartition("/")[2]
        if not schedule_created and name in _OF_SCHEDULES:
            continue
        # The same request has the same id: a repeat within a day is done once.
        seed = f"{method} {request.SerializeToString(deterministic=True).hex()}"
        request.request_id = str(uuid.uuid5(uuid.NAMESPACE_URL, seed))  # type: ignore[attr-defined]
        created = True
        try:
            calls[name](request)  # type: ignore[operator]
            print(f"{name} {_called(request)}: made")
        except AlreadyExists:
            created = False
            print(f"{name} {_called(request)}: exists already, and stays as it is")
        except TocsinError as error:
            created = False
            refused += 1
            remedy = "; --create-users does" if error.reason == "USER_NOT_FOUND" and not create_users else ""
            print(f"{name} {_called(request)}: {error}{remedy}", file=sys.stderr)
        if isinstance(request, CreateScheduleRequest):
            schedule_created = created
    return refused


def _called(request: Any) -> str:
    if isinstance(request, directory.CreateUserRequest):
        return f"users/{request.user_id}"
    if isinstance(request, CreateScheduleRequest):
        return f"schedules/{request.schedule_id}"
    if isinstance(request, CreatePolicyRequest):
        return f"policies/{request.policy_id}"
    if isinstance(request, CreateCalendarImportRequest):
        return f"{request.calendar_import.schedule}: a calendar"
    made = request.fixed_period if isinstance(request, CreateFixedPeriodRequest) else request.override
    return f"{made.schedule} from {made.start_time.ToJsonString()}"


if __name__ == "__main__":
    sys.exit(main())

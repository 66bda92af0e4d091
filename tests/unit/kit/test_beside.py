"""What Tocsin's own services are told beside the answer to a call, over a real socket."""

from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.struct_pb2 import ListValue
from google.protobuf.wrappers_pb2 import StringValue
from tocsin_kit.auth import INTERNAL, mint
from tocsin_kit.rpc.beside import MOST_BYTES, tell_service, told_beside
from tocsin_kit.settings import ServiceSettings


@pytest.mark.parametrize(
    ("scopes", "text", "is_told"),
    [
        ({"echo:use", INTERNAL}, "the rest", True),
        ({"echo:use"}, "the rest", False),
        ({"echo:use", INTERNAL}, "x" * MOST_BYTES, False),
    ],
    ids=["a service that acts for a person", "the person alone", "too large for metadata"],
)
async def test_who_is_told_beside_the_answer(
    serve: Any, connect: Any, echo: Any, settings: ServiceSettings, scopes: set[str], text: str, is_told: bool
) -> None:
    said = list[bool]()

    def act(asked: str) -> str:
        said.append(tell_service(StringValue(value=text)))
        return asked

    call = await called(serve, connect, echo, settings, act, scopes)
    assert said == [is_told]
    assert told_beside(await call.trailing_metadata(), StringValue) == (StringValue(value=text) if is_told else None)


async def test_all_that_is_told_during_one_call_arrives(
    serve: Any, connect: Any, echo: Any, settings: ServiceSettings
) -> None:
    """The caller read the first message only: pages that the second one stops would have been sent after OK."""
    said = list[bool]()

    def act(asked: str) -> str:
        said.extend(tell_service(_listed(text)) for text in ("one", "two", "x" * (MOST_BYTES - 10)))
        return asked

    call = await called(serve, connect, echo, settings, act, {"echo:use", INTERNAL})
    assert said == [True, True, False], "the third one is too large beside the others"
    told = told_beside(await call.trailing_metadata(), ListValue)
    assert told is not None
    assert [value.string_value for value in told.values] == ["one", "two"]


def _listed(text: str) -> ListValue:
    listed = ListValue()
    listed.append(text)
    return listed


async def called(
    serve: Any, connect: Any, echo: Any, settings: ServiceSettings, act: Callable[[str], str], scopes: set[str]
) -> Any:
    """A call that `act` answered, made with these scopes."""
    client = connect(await serve(echo.Echo(act)))
    token = mint(settings.signing_keys, org_id="acme", subject="users/ana", scopes=scopes, ttl=600)
    invoke = client.channel.unary_unary(
        f"/{echo.SERVICE}/Unary",
        request_serializer=echo.Request.SerializeToString,
        response_deserializer=echo.Response.FromString,
    )
    call = invoke(echo.Request(text="abc"), metadata=(("authorization", f"Bearer {token}"),), timeout=30)
    assert (await call).text == "abc"
    return call

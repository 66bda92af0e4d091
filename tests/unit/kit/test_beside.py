"""What Tocsin's own services are told beside the answer to a call, over a real socket."""

from typing import Any

import pytest
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

    client = connect(await serve(echo.Echo(act)))
    token = mint(settings.signing_keys, org_id="acme", subject="users/ana", scopes=scopes, ttl=600)
    invoke = client.channel.unary_unary(
        f"/{echo.SERVICE}/Unary",
        request_serializer=echo.Request.SerializeToString,
        response_deserializer=echo.Response.FromString,
    )
    call = invoke(echo.Request(text="abc"), metadata=(("authorization", f"Bearer {token}"),), timeout=30)
    assert (await call).text == "abc"
    assert said == [is_told]
    assert told_beside(await call.trailing_metadata(), StringValue) == (StringValue(value=text) if is_told else None)

"""Minted tokens."""

import base64
from importlib import import_module
from pathlib import Path

import jwt
import tocsin
from google.protobuf.descriptor import MethodDescriptor
from tocsin.type.v1 import access_pb2
from tocsin_stack import secret, tokens


def test_a_minted_token_is_what_the_services_expect() -> None:
    keys = secret.signing_key()
    token = tokens.mint(f"{keys},k0:{keys[3:]}", "acme", ("a:read", "b:write"), subject="users/ann", ttl=60)
    assert jwt.get_unverified_header(token) == {"alg": "HS256", "typ": "JWT", "kid": "k1"}
    key = base64.urlsafe_b64decode(keys.removeprefix("k1:"))
    assert len(key) == 32
    claims = jwt.decode(token, key, algorithms=["HS256"], issuer="tocsin", audience="tocsin")
    assert (claims["org"], claims["sub"], claims["scope"]) == ("acme", "users/ann", "a:read b:write")
    assert claims["exp"] - claims["iat"] == 60


def _scopes_of(method: MethodDescriptor) -> set[str]:
    options = method.GetOptions().Extensions
    return {options[access_pb2.scope], options[access_pb2.self_scope]} - {""}


def test_the_administrator_may_call_everything_but_the_internal_services() -> None:
    (contracts,) = tocsin.__path__
    scopes = {
        scope
        for path in Path(contracts).rglob("*_service_pb2.py")
        for service in import_module(
            ".".join(("tocsin", *path.relative_to(contracts).with_suffix("").parts))
        ).DESCRIPTOR.services_by_name.values()
        for method in service.methods
        for scope in _scopes_of(method)
    }
    assert scopes - {"internal", "limits:read", "limits:write", "queues:read", "queues:write"} == set(
        tokens.ADMINISTRATOR
    )
    assert set(tokens.SENDER) | set(tokens.RESPONDER) | set(tokens.OPERATOR) <= scopes - {"internal"}

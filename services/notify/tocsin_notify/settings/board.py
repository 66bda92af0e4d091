"""The board of operators."""

from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr, model_validator
from tocsin_kit.settings import ServiceSettings

from tocsin_notify.settings.values import base_url


class BoardSettings(ServiceSettings):
    """Where it is, and who may log in through an OpenID Connect provider."""

    board_url: Annotated[str, AfterValidator(base_url)] = ""
    """The base URL at which operators open the board: `https://tocsin-admin.example.com` for `/board` below it. Required with
    NOTIFY_BOARD_OIDC_ISSUER, whose client must allow the redirect to `/board/login/oidc/done` below it."""
    board_oidc_issuer: str = Field("", pattern="^(|https?://[!-~]+)$")
    """The OpenID Connect provider through which operators may log in at the board, beside their tokens. Empty: none."""
    board_oidc_client_id: str = ""
    """The client id of the board at the provider."""
    board_oidc_client_secret: SecretStr = SecretStr("")
    """Its secret. Empty: a public client, protected by PKCE alone."""
    board_oidc_scopes: str = Field("openid profile", pattern=r"^openid( [!#-\[\]-~]+)*$")
    """The scopes that it is asked for. Dex, Okta and others tell no groups unless `groups` is among them."""
    board_oidc_claim: str = Field("groups", min_length=1)
    """The claim of the provider's ID token that lists a person's groups or roles."""
    board_oidc_readers: str = ""
    """Values of that claim, separated by commas, whose holders may read the board. All of them are operators of every tenant."""
    board_oidc_writers: str = ""
    """Values of that claim, separated by commas, whose holders may also act at the board."""

    @model_validator(mode="after")
    def _board_is_consistent(self) -> "BoardSettings":
        if self.board_oidc_issuer and not (self.board_url and self.board_oidc_client_id):
            raise ValueError("NOTIFY_BOARD_OIDC_ISSUER needs NOTIFY_BOARD_URL and NOTIFY_BOARD_OIDC_CLIENT_ID")
        if self.board_oidc_issuer and not (self.board_oidc_readers or self.board_oidc_writers):
            raise ValueError("NOTIFY_BOARD_OIDC_ISSUER needs NOTIFY_BOARD_OIDC_READERS or NOTIFY_BOARD_OIDC_WRITERS")
        return self

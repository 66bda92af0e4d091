"""Who may call a method: which scope the contract asks for, and of whose credential."""

from dataclasses import dataclass

from tocsin.type.v1 import access_pb2

from tocsin_kit.auth import ALL_ORGS, INTERNAL, Principal
from tocsin_kit.rpc.call import operators_only, scope_missing, tenants_only


@dataclass(frozen=True, slots=True)
class Access:
    """What a method demands of a credential."""

    scope: str
    tenants: "access_pb2.Tenants.ValueType" = access_pb2.TENANTS_UNSPECIFIED
    self_scope: str = ""
    """Enough to come in as well. Whether the call is about what is the subject's own, the handler finds out
    (`Call.require_own`)."""

    @property
    def reads(self) -> bool:
        """Whether the method changes nothing that a tenant has, as the name of its scope says."""
        return self.scope.endswith(":read")

    def check(self, principal: Principal) -> None:
        """Raises SCOPE_MISSING unless the credential may call; says nothing about what the call is aimed at (AIP-211).

        What spans tenants is for operators and for Tocsin's own services, no matter which scopes a tenant's token or its issuer
        claims. An operator without the scope `internal` may not call what is about one tenant: it would act on a tenant
        by the name of `*`.
        """
        if self.scope not in principal.scopes and (not self.self_scope or self.self_scope not in principal.scopes):
            raise scope_missing(self.scope)
        if principal.org_id != ALL_ORGS:
            if self.scope == INTERNAL or self.tenants == access_pb2.TENANTS_ALL:
                raise operators_only(self.scope)
        elif self.tenants == access_pb2.TENANTS_UNSPECIFIED and INTERNAL not in principal.scopes:
            raise tenants_only(self.scope)

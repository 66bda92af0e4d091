"""Who may call a method: the scope that the contract asks for, and whose credential it must be."""

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
    """This scope is sufficient as well, for the subject's own resources. The handler checks that the call is about these
    (`Call.require_own`)."""

    @property
    def reads(self) -> bool:
        """Whether the method changes no data of a tenant, by the name of its scope."""
        return self.scope.endswith(":read")

    def check(self, principal: Principal) -> None:
        """Raises SCOPE_MISSING unless the credential may call; the error does not depend on the resource (AIP-211).

        Methods that span tenants are for operators and for Tocsin's own services, whichever scopes a tenant's token or its issuer
        claims. An operator without the scope `internal` may not call methods of one tenant: the call would act on a tenant named
        `*`.
        """
        if self.scope not in principal.scopes and (not self.self_scope or self.self_scope not in principal.scopes):
            raise scope_missing(self.scope)
        if principal.org_id != ALL_ORGS:
            if self.scope == INTERNAL or self.tenants == access_pb2.TENANTS_ALL:
                raise operators_only(self.scope)
        elif self.tenants == access_pb2.TENANTS_UNSPECIFIED and INTERNAL not in principal.scopes:
            raise tenants_only(self.scope)

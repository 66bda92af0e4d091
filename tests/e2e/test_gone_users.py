"""Who was paged and is gone: the level that waits for them."""

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from tocsin.escalation.v1.directory_service_pb2 import DeleteUserRequest, UpdateUserRequest, User
from tocsin_testkit.busy import until
from tocsin_testkit.tenant import Tenant


async def said(tenant: Tenant, incident: str, message: str) -> bool:
    return message in [entry.message for entry in await tenant.timeline(incident)]


@pytest.mark.parametrize("how", ["deleted", "disabled"])
async def test_the_next_level_is_paged_when_the_only_one_of_this_level_is_gone(tenant: Tenant, how: str) -> None:
    ana, ben = await tenant.people("ana", "ben")
    prom = await tenant.integration(await tenant.policy([ana], [ben], minutes=30))
    incident = await prom.triggers("db down")
    await ana.is_paged(incident)
    await until(lambda: said(tenant, incident, "webhook to ana accepted"))
    if how == "deleted":
        await tenant.admin.directory.DeleteUser(DeleteUserRequest(name=ana.name))
    else:
        await tenant.admin.directory.UpdateUser(
            UpdateUserRequest(user=User(name=ana.name, disabled=True), update_mask=FieldMask(paths=["disabled"]))
        )
    await ben.is_paged(incident, level=2)
    assert await said(
        tenant, incident, f"ana could not be reached: the user was {how} after their page had been accepted"
    )

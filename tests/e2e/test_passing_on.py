"""Who passes an incident on is called no more, and the others of their level are."""

from tocsin.escalation.v1.directory_service_pb2 import GetUserRequest, UpdateUserRequest
from tocsin_testkit.tenant import Tenant

from tests.e2e.test_answer_page import Browser, browser, link_of

__all__ = ["browser"]


async def test_the_later_steps_of_who_passes_it_on_do_not_come(tenant: Tenant, browser: Browser) -> None:
    ana, ben, cem = await tenant.people("ana", "ben", "cem")
    for person in (ana, ben):
        later = await person.adds_webhook()
        await person.wants(("high", person.methods[0], 0), ("high", later, 5))
    prom = await tenant.integration(await tenant.policy([ana, ben], [cem], minutes=60))
    incident = await prom.triggers("db down")
    link = link_of(await ana.is_paged(incident))
    await ben.is_paged(incident)
    await browser.opens(link)
    assert await browser.presses("escalate") == 303
    await cem.is_paged(incident, level=2)
    await tenant.world.idle()
    await tenant.passes(minutes=6)
    await ben.is_paged(incident, at=ben.addresses[1])
    assert len(ana.pages(incident)) == 1


async def test_the_page_shows_the_time_of_its_user(tenant: Tenant, browser: Browser) -> None:
    [ana] = await tenant.people("ana")
    directory = tenant.admin.directory
    user = (await directory.GetUser(GetUserRequest(name=ana.name))).user
    user.time_zone = "Asia/Kolkata"
    request = UpdateUserRequest(user=user)
    request.update_mask.paths.append("time_zone")
    await directory.UpdateUser(request)
    prom = await tenant.integration(await tenant.policy([ana], minutes=30))
    incident = await prom.triggers("db down")
    await browser.opens(link_of(await ana.is_paged(incident)))
    assert " IST on " in browser.says
    assert "UTC" not in browser.says

"""What an operator's account at a provider takes a second holds over all replicas, and for no other provider."""

from time import monotonic

from tests.store.notify.support import WARNING, World, job, new_org, until

RATE = 4
PAGES = 16


async def test_two_replicas_send_no_more_than_the_provider_takes(world: World) -> None:
    """About three seconds, in which nothing is computed. A slow machine makes it longer, and never fail."""
    org = new_org()
    users = [f"users/u{number}" for number in range(PAGES)]
    for user in users:
        await world.method(org, user, email=f"{user.removeprefix('users/')}@example.com")
    await world.method(org, "users/hook", webhook="hook")
    rate = f"email={RATE}"
    async with world.replica(provider_rates=rate) as notify, world.replica(provider_rates=rate):
        began = monotonic()
        await notify.submit(*(job(org, user=user, severity=WARNING) for user in users))
        await notify.submit(job(org, user="users/hook", severity=WARNING))
        await until(lambda: world.arrived("hook") == 1)
        await until(lambda: len({m.address for m in world.inbox.messages if m.channel == "email"}) == PAGES)
        seconds = monotonic() - began
    # Each replica may begin with what is saved up, and they may pass once more as much before they have told each other.
    assert 3 * RATE + RATE * seconds >= PAGES

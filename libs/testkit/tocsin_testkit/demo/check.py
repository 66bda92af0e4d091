"""Was what the demo showed what should have happened? Asked of the services, and of the servers that got the pages."""

from tocsin.escalation.v1 import incident_pb2

from tocsin_testkit.demo.story import STORM, Story
from tocsin_testkit.received import Received

# A timer fires a few milliseconds late; without Redis the sweep has it within this.
MOST_LATE_MS = 2000


async def check(story: Story) -> bool:
    """Print every check; whether all of them held."""
    tell, tenant = story.tell, story.tenant
    tell.chapter("Checked: was that all, and was it right?")
    results: list[bool] = []

    def holds(value: bool, text: str) -> None:
        results.append(value)
        tell.checked(value, text)

    paged: dict[str, list[tuple[str, int]]] = {}
    for message in tenant.world.inbox.messages:
        if message.is_page and tenant.owns(message):
            paged.setdefault(message.incident, []).append((owner(story, message), message.level))
    for incident, expected in story.pages.items():
        title = (await tenant.incident(incident)).title
        who = ", ".join(f"{user} (level {level or 'fallback'})" for user, level in expected)
        holds(paged.get(incident) == expected, f"{title!r}: paged were {who}, in this order, each once")
    holds(paged.keys() == story.pages.keys(), f"no other incident paged anybody ({len(paged)} incidents)")
    holds(tenant.unexpected() == [], "nobody else heard anything")
    for incident, count in story.counts.items():
        seen = (await tenant.incident(incident)).alert_count
        holds(seen == count, f"{STORM} posts of one alert were folded into one incident that counts {seen}")
    late = [
        entry.lateness_ms
        for incident in story.pages
        for entry in await tenant.timeline(incident)
        if entry.actor.startswith("timers/") or entry.lateness_ms
    ]
    holds(all(value <= MOST_LATE_MS for value in late), f"timers were late by {late} ms (at most {MOST_LATE_MS})")
    state = (await tenant.incident(story.exhausted)).state
    holds(state == incident_pb2.INCIDENT_STATE_EXHAUSTED, "the incident nobody answered is exhausted, not forgotten")
    opened = len(story.pages)
    told = f"{opened} opened, {opened - 1} resolved, 1 still open"
    holds(story.digest.endswith(told), f"the digest counts what happened: {told}")
    return all(results)


def owner(story: Story, message: Received) -> str:
    """Whose address it is."""
    return next(p.id for p in story.tenant.everybody.values() if message.address in p.addresses)

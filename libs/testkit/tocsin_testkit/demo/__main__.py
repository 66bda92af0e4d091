"""`make demo`."""

import asyncio
import sys
import time

from tocsin_stack.errors import StackError
from tocsin_stack.scratch import scratch

from tocsin_testkit.demo.check import check
from tocsin_testkit.demo.digest import what_the_day_was
from tocsin_testkit.demo.later import later
from tocsin_testkit.demo.on_call import who_is_on_call
from tocsin_testkit.demo.phones import somebody_is_woken
from tocsin_testkit.demo.story import Story
from tocsin_testkit.demo.tell import Teller
from tocsin_testkit.world import World


async def demo() -> bool:
    """Tell the story on a throw-away stack; whether everything was as it should be."""
    tell = Teller()
    tell.chapter("Tocsin: PostgreSQL, Valkey, a mail server and three services, all real, all on this machine")
    with scratch("tocsin-demo-") as folder:
        async with World(folder) as world:
            tell.happens("everything is up and healthy; demo tokens were minted for the tenant of this demo")
            story = Story(world.tenant(), tell)
            await story.set_up()
            await story.database_goes_down()
            await story.disk_fills_up()
            await story.nobody_answers()
            await who_is_on_call(story)
            await somebody_is_woken(story)
            await later(story)
            await what_the_day_was(story)
            right = await check(story)
    seconds = time.monotonic() - tell.began()
    tell.chapter(
        f"{'All of it happened as it should' if right else 'Something was NOT as it should be'} ({seconds:.0f} s)."
    )
    if right:
        print(
            "Next: `make up` leaves it running and prints the grpcurl lines to try; README.md tells where to read on."
        )
    return right


def main() -> None:
    try:
        right = asyncio.run(demo())
    except StackError as error:
        sys.exit(f"the stack did not start:\n{error}")
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0 if right else 1)


if __name__ == "__main__":
    main()

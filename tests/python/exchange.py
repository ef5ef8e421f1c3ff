"""Events go to and fro with the released package bubus: one JSON object a line in, one out.

{"event": {…}} is read as an event, dispatched, and answered with what its handlers returned and with the event as the package writes it.
{"make": "bob"} is answered with an event that starts here.
"""

import asyncio
import json
import logging
import sys

from bubus import BaseEvent, EventBus

logging.disable(logging.CRITICAL)


class UserLogin(BaseEvent[str]):
    user: str
    n: int
    f: float
    tags: list[str]
    opt: int | None = None


class Untyped(BaseEvent):
    text: str


class Measured(BaseEvent[float]):
    value: float


async def hello(event: UserLogin) -> str:
    return f'hello {event.user} {event.n + 1}'


async def echo(event: BaseEvent) -> dict:
    return {'type': event.event_type, 'text': getattr(event, 'text', None)}


async def measured(event: Measured) -> float:
    return event.value * 2


CLASSES = {'UserLogin': UserLogin, 'Untyped': Untyped, 'Measured': Measured}


async def answer(bus: EventBus, line: dict) -> dict:
    if 'make' in line:
        event = UserLogin(user=line['make'], n=7, f=1.0, tags=['x', 'ü'])
    else:
        event = CLASSES.get(line['event']['event_type'], BaseEvent).model_validate_json(json.dumps(line['event']))
    came = {'status': event.event_status, 'results': {key: str(r.result) for key, r in event.event_results.items()}}
    done = await asyncio.wait_for(bus.dispatch(event), timeout=20)
    new = [r for key, r in done.event_results.items() if key not in came['results']]
    return {
        'came': came,
        'results': [r.result for r in new],
        'errors': [str(r.error) for r in new if r.error],
        'event': json.loads(done.model_dump_json()),
    }


async def main() -> None:
    bus = EventBus(name='PyBus')
    bus.on('UserLogin', hello)
    bus.on('Untyped', echo)
    bus.on('Measured', measured)
    bus.on('Elsewhere', echo)
    for line in sys.stdin:
        try:
            said = await answer(bus, json.loads(line))
        except Exception as error:
            said = {'refused': str(error)}
        print(json.dumps(said), flush=True)
    await bus.stop(timeout=1, clear=True)


asyncio.run(main())

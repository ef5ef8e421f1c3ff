//! After a wait: the handler takes back its place under a limit, which others have shared meanwhile.

use crate::bus::permits::asleep;
use crate::bus::permits::hand;
use crate::bus::permits::limits::Place;
use crate::bus::thread::frame::Frame;
use crate::bus::wait::claimable;
use crate::bus::wait::parked::Parked;
use crate::event::{AnyEvent, LimitTurn};
use crate::runtime::{Needs, RuntimeCore, Serves, Worker};
use crate::sync::{Granted, Token};
use crate::sys::clock::NEVER;
use std::sync::Arc;

/// The wait of the top handler is over: its place is its own again, once whoever shares it has left.
pub(crate) fn take_back(worker: &Arc<Worker>, frame: &Frame, awaited: &AnyEvent) {
    let place = Place { event: frame.event.clone(), delivery: frame.delivery, invocation: frame.invocation };
    let runtime = &frame.bus.runtime;
    for group in place.groups() {
        // Who has the place must find this thread in its way, at any time: nobody asks it to look itself.
        let mut parked: Option<(Option<Token>, Parked<'_>)> = None;
        loop {
            let turn = || -> LimitTurn {
                let bell = Arc::clone(&worker.bell);
                Box::new(move || bell.ring())
            };
            let (is_back, borrower) =
                group.step(|cap| ((cap.take_back(place.token(), turn), cap.borrower(place.token())), Granted::new()));
            if is_back || !frame.is_live() {
                break;
            }
            hand::set_down_all();
            // A borrower without a thread ends in any case.
            let of = borrower.and_then(|borrower| event_on_a_thread(runtime, borrower));
            let of = of.unwrap_or_else(|| awaited.clone());
            if parked.as_ref().is_none_or(|(before, _)| *before != borrower) {
                // The one before is entered no more first, since a thread has one wait.
                drop(parked.take());
                let entered = Parked::come_back(worker, frame, &of);
                asleep::lend(runtime, &of, entered.foreign);
                parked = Some((borrower, entered));
                if borrower.is_some_and(|borrower| asleep::sleeps(runtime, &group, borrower)) {
                    runtime.ring_parked(|_| true);
                }
            }
            let needs = || Needs { all_holders: true, ..claimable::needs_of(&of, true, runtime) };
            worker.suspended(runtime, NEVER, needs, || worker.serve_or_park(NEVER, Serves::Awaited));
        }
    }
}

/// What a handler that has a place is at.
fn event_on_a_thread(runtime: &RuntimeCore, token: Token) -> Option<AnyEvent> {
    let slots = runtime.pool.all_workers().into_iter().flat_map(|worker| worker.slots());
    slots.map(Place::of_slot).find(|place| place.token() == token).map(|place| place.event)
}

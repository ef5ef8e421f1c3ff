//! A handler that has a [`Limit`](crate::Limit) comes to it: it takes a place, or stands in line, for so long as the limit lets it.

use crate::bus::core::BusCore;
use crate::bus::core::delivery::DeliveryRef;
use crate::bus::end::duties::{Duties, GoesOn};
use crate::bus::permits::asleep;
use crate::bus::permits::limits::token_of;
use crate::bus::run::driver::{Driver, Wanted};
use crate::event::{
    AnyEvent, DeliveryPhase, HandlerFailure, LimitGroup, LimitTurn, Outcome, Placed, RecordPhase, State,
};
use crate::sync::{Granted, Token};
use crate::sys::clock::{self, Timer};
use crate::sys::{planted, unwind};
use std::sync::Arc;
use std::time::Duration;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Taken {
    Now,
    InLine,
    TooLate,
    Dead,
}

/// What a turn in line needs to know.
#[derive(Clone)]
struct Claim {
    bus: Arc<BusCore>,
    event: AnyEvent,
    delivery: usize,
    invocation: usize,
    attempt: u32,
    group: Arc<LimitGroup>,
    until_returned: bool,
}

/// Gets the place of an invocation that was set aside for it. True if the calling thread goes on driving.
pub(crate) fn take(driver: &mut Driver<'_>, wanted: Wanted) -> bool {
    let entry = &driver.slot.handlers[wanted.invocation].entry;
    let (Some(group), Some(limit)) = (&entry.limit, &entry.options.limit) else { return true };
    let claim = Claim {
        bus: Arc::clone(driver.delivery.bus),
        event: driver.delivery.event.clone(),
        delivery: driver.delivery.index,
        invocation: wanted.invocation,
        attempt: wanted.attempt,
        group: Arc::clone(group),
        until_returned: limit.until_returned,
    };
    let token = claim.token();
    let at_once = limit.acquire_timeout == Some(Duration::ZERO);
    let (runtime, event) = (&claim.bus.runtime, &claim.event);
    let lender = asleep::lender(runtime, group, event);
    let taken = group.step(|cap| {
        let mut state = claim.event.state().lock();
        if !claim.is_waiting(&state) {
            return (Taken::Dead, Granted::new());
        }
        // Its own place is taken by its attempt before, for as long as that is inside.
        let occupied = state.wants_returned(claim.delivery, claim.invocation);
        if !occupied && cap.try_take(token, lender.as_slice()) {
            claim.place(&mut state);
            return (Taken::Now, Granted::new());
        }
        claim.note(&mut state);
        claim.delivery().wait_begins(&mut state, None);
        if let Some(delivery) = claim.delivery().in_state_mut(&mut state) {
            // The thread that drives it leaves it to the turn.
            delivery.leave_stack();
        }
        drop(state);
        if occupied {
            return (Taken::InLine, Granted::new());
        }
        let turn: LimitTurn = Box::new({
            let claim = claim.clone();
            move || claim.has_come()
        });
        let granted = cap.stand(token, claim.bus.rank(&claim.event), &[], turn);
        (if at_once { Taken::TooLate } else { Taken::InLine }, granted)
    });
    match taken {
        Taken::Now => {
            // What is queued behind it is brought to the line by another thread.
            driver.delivery.bus.ceases_to_usher(driver.worker);
            return true;
        }
        Taken::Dead => return false,
        Taken::TooLate => claim.time_is_up(Duration::ZERO, limit.lax),
        Taken::InLine => {
            let lenders = asleep::lenders(runtime, group, event);
            if !lenders.is_empty() {
                group.step(|cap| ((), cap.offer(token, &lenders)));
            }
            if let Some(after) = limit.acquire_timeout {
                claim.watch(after, limit.lax);
            }
        }
    }
    driver.delivery.note_set_aside();
    if wanted.attempt == 0 && !entry.info.is_registered() && !planted("off_unseen_in_line") {
        driver.delivery.bus.leaves_lines_of(driver.delivery.event);
    }
    driver.delivery.set_down_in_line();
    if asleep::concerns_others(runtime, group) && !planted("ticket_concerns_nobody") {
        // It may be what somebody waits for, or what stands before that, and only now do they find it in line.
        runtime.ring_parked(|_| true);
    }
    // Parallel handlers may still be there to be run.
    driver.fixed.manner.parallel
}

impl Claim {
    fn delivery(&self) -> DeliveryRef<'_> {
        self.bus.delivery(&self.event, self.delivery)
    }

    fn token(&self) -> Token {
        token_of(&self.event, self.delivery, self.invocation)
    }

    fn is_waiting(&self, state: &State) -> bool {
        self.delivery().in_state(state).is_some_and(|d| {
            let record = d.records.get(self.invocation);
            d.phase == DeliveryPhase::Active
                && record.is_some_and(|r| r.phase == RecordPhase::Delayed && !r.placed && r.attempt == self.attempt)
        })
    }

    /// Remembers whose place is to be given back.
    fn note(&self, state: &mut State) {
        if let Some(delivery) = self.delivery().in_state_mut(state) {
            delivery.limited = true;
        }
        let (delivery, invocation) = (self.delivery, self.invocation);
        let limits = &mut state.links().limits;
        if !limits.iter().any(|placed| placed.delivery == delivery && placed.invocation == invocation) {
            limits.push(Placed::new(delivery, invocation, Arc::clone(&self.group), self.until_returned));
        }
    }

    fn placed<'a>(&self, state: &'a mut State) -> Option<&'a mut Placed> {
        let of = |placed: &&mut Placed| placed.delivery == self.delivery && placed.invocation == self.invocation;
        state.links().limits.iter_mut().find(of)
    }

    /// It may start. The timer of its wait is the caller's to take back.
    fn place(&self, state: &mut State) -> Option<Timer> {
        self.note(state);
        if let Some(delivery) = self.delivery().in_state_mut(state) {
            delivery.records[self.invocation].placed = true;
            delivery.retry(self.invocation, self.attempt);
        }
        self.placed(state)?.timer.take()
    }

    /// Its turn in line: on whatever thread gave a place back.
    fn has_come(self) {
        let (waits, timer) = {
            let mut state = self.event.state().lock();
            let waits = self.is_waiting(&state);
            (waits, if waits { self.place(&mut state) } else { None })
        };
        if let Some(timer) = timer {
            self.bus.runtime.watch.cancel(timer);
        }
        if waits {
            self.delivery().submit_resume_next();
        } else {
            let token = self.token();
            self.group.step(|cap| ((), cap.release(token)));
        }
    }

    fn watch(&self, after: Duration, lax: bool) {
        let claim = self.clone();
        let runtime = &self.bus.runtime;
        let at = clock::after(clock::now(), after);
        let timer = runtime.watch.at(at, move || claim.time_is_up(after, lax));
        let stale = {
            let mut state = self.event.state().lock();
            let waits = self.is_waiting(&state);
            match self.placed(&mut state).filter(|_| waits) {
                Some(placed) => placed.timer.replace(timer),
                None => Some(timer),
            }
        };
        if let Some(timer) = stale {
            runtime.watch.cancel(timer);
        }
    }

    /// It has waited long enough: in without a place, or failed. Nothing if its turn has come.
    fn time_is_up(&self, after: Duration, lax: bool) {
        let token = self.token();
        if lax {
            if let Some(turn) = self.group.step(|cap| (cap.go_in_anyway(token), Granted::new())) {
                turn();
            }
            return;
        }
        let Some(turn) = self.group.step(|cap| (cap.leave_line(token), Granted::new())) else { return };
        unwind::drop_quietly(turn);
        let failure = HandlerFailure::Failed(Box::new(self.group.timeout(after)));
        {
            let mut state = self.event.state().lock();
            if !self.is_waiting(&state) {
                return;
            }
            if let Some(delivery) = self.delivery().in_state_mut(&mut state) {
                let at = clock::now();
                delivery.end_record(self.invocation, Outcome::Failed(Arc::new(failure)), at);
            }
        }
        Duties { limits: true, goes_on: GoesOn::DrivenOn, ..Duties::default() }.carry_out(self.delivery());
    }
}

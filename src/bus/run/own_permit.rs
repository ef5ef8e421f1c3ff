//! Handlers that run under a permit of their own: what their event holds is not enough.

use crate::bus::core::BusCore;
use crate::bus::core::permit::{Home, Permit, Request, Taken, attempt_token};
use crate::bus::end::tree;
use crate::bus::permits::hand;
use crate::bus::run::attempt::{self, Returned};
use crate::bus::run::driver::{Driver, Via, Wanted};
use crate::bus::run::start::Invoked;
use crate::bus::thread::frame::Under;
use crate::event::{DeliveryPhase, HandlerMode, RecordPhase};
use crate::runtime::{GoOn, PermitKind};
use crate::sync::{Position, Token};
use crate::sys::clock;
use std::sync::Arc;

pub(crate) fn permit_for(bus: &Arc<BusCore>, mode: HandlerMode) -> Permit {
    let home = match mode {
        HandlerMode::GlobalSerial => Home::Runtime(Arc::clone(&bus.runtime)),
        _ => bus.home(),
    };
    Permit { home, kind: PermitKind::Handler }
}

impl Driver<'_> {
    /// Gets an invocation's own permit, and runs it. True if this thread goes on driving.
    pub(crate) fn with_permit(&mut self, wanted: Wanted) -> bool {
        let Wanted { invocation, attempt, mode } = wanted;
        let permit = permit_for(self.delivery.bus, mode);
        let token = attempt_token(self.delivery.event, self.delivery.index, invocation, attempt + 1);
        let grips = self.grips();
        let delivery = self.delivery;
        let live = || delivery.is_active();
        if self.via != Via::Inline {
            let position = if self.fixed.manner.jumped { Position::Front } else { Position::Entry };
            let job = || delivery.job(GoOn::WithPermit { invocation, mode, token });
            let request = Request { position, token, under: None, rank: delivery.bus.rank(delivery.event) };
            return match permit.take_or_queue(request, live, job) {
                Taken::Now => self.start_set_aside(invocation, Some((permit, token))),
                Taken::Later => {
                    self.delivery.note_set_aside();
                    // Parallel handlers may still be there to be run.
                    self.fixed.manner.parallel
                }
                Taken::Dead => false,
            };
        }
        if let Some(lent) = hand::lendable(&permit) {
            let mut with = grips.clone();
            with.push(lent);
            self.under = Under::Hand(with);
            let goes_on = self.start_set_aside(invocation, None);
            self.under = Under::Hand(grips);
            return goes_on;
        }
        let lender = hand::lender(&permit);
        if !permit.try_take(Position::Front, token, lender, live) {
            // Nobody stands in line for a handler permit with another one in hand; the turn, which comes before it, stays.
            hand::set_down_all_but(&grips);
            if !permit.stand(self.worker, Position::Front, token, lender, live) {
                permit.release(token);
                return self.delivery.is_active();
            }
            self.now = clock::now();
        }
        self.start_set_aside(invocation, Some((permit, token)))
    }

    /// Runs an invocation that was set aside for its permit. True if this thread goes on driving.
    pub(crate) fn start_set_aside(&mut self, invocation: usize, permit: Option<(Permit, Token)>) -> bool {
        let at = self.now;
        let mut doomed = false;
        let started = {
            let (worker, event) = (self.worker, self.delivery.event);
            let mut stack = Some(worker.stack());
            let mut state = event.state().lock();
            self.begin_step(&state);
            if state.started == 0 {
                state.started = at;
            }
            let delivery = self.delivery.in_state_mut(&mut state).filter(|d| d.phase == DeliveryPhase::Active);
            let started = delivery.is_some_and(|d| {
                if (self.is_off(d, invocation) || self.fixed.is_up())
                    && d.records[invocation].phase == RecordPhase::Delayed
                {
                    self.skip(d, invocation, at);
                    return false;
                }
                doomed = event.is_doomed();
                !doomed && self.start(stack.as_deref_mut(), d, Invoked { invocation, from: RecordPhase::Delayed, at })
            });
            if started {
                self.waits_no_more(&mut state);
            }
            started
        };
        if !started {
            self.settle();
            if let Some((permit, token)) = permit {
                permit.release(token);
            }
            if doomed {
                tree::end_doomed(self.delivery.event);
            }
            return self.delivery.is_active();
        }
        self.settle();
        let grips = self.grips();
        let hand = hand::hand_len();
        if let Some((permit, token)) = &permit {
            let own = hand::put_in_hand(self.delivery.hold_by(permit.clone(), *token));
            self.under = Under::Hand(grips.iter().copied().chain([own]).collect());
        }
        let mut returned = Returned::default();
        self.seat();
        attempt::call(self, &mut returned);
        self.now = clock::now();
        // Without a look at what comes next, since the permit goes first.
        self.unseat();
        let ended = {
            let mut state = self.delivery.event.state().lock();
            attempt::end(self, &mut state, &mut returned, self.now)
        };
        let goes_on = attempt::follow_up(self, ended, &mut returned);
        self.under = Under::Hand(grips);
        hand::cut_hand(hand);
        if let Some((permit, token)) = permit {
            permit.release(token);
        }
        self.settle();
        goes_on
    }
}

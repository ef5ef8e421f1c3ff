//! A delivery goes on after an attempt that has failed or was given up: at once, after a delay, or not at all.

use crate::bus::core::delivery::DeliveryRef;
use crate::bus::end::duties::{Duties, GoesOn, Leaves, Tickets, drop_failures};
use crate::bus::end::finish::finish;
use crate::bus::thread::frame;
use crate::event::{Delay, Delivery, DeliveryPhase, HandlerFailure, Retry};
use crate::sync::Position;
use crate::sys::clock::{self, Tick};
use crate::sys::sync::atomic::Ordering;
use crate::sys::{planted, random};
use std::sync::Arc;
use std::time::Duration;

/// How long after a failure the next attempt is due, if the user's filter wants one. A panic in it, which is answered, means no.
pub(crate) fn ask_filter(retry: &Retry, attempt: u32, failure: &HandlerFailure) -> Result<Option<Duration>, String> {
    let again = frame::callback(|| retry.retryable(failure))?;
    Ok(again.then(|| retry.delay_before(attempt + 1, random::fraction())))
}

impl DeliveryRef<'_> {
    /// Another attempt of an invocation that was set aside: at once, or `after` a delay that occupies no thread. True if it may start now.
    pub(crate) fn try_again(self, failed: Delay, after: Duration) -> bool {
        if !after.is_zero() {
            self.wait_for_next_attempt(failed, clock::after(clock::now(), after));
            return false;
        }
        let of = failed.of;
        frame::let_go(failed);
        self.event.state().lock().end_delay(of)
    }

    /// Has an invocation that was set aside with a delay start again at `at`; unless a shutdown drains, which waits for no delay.
    fn wait_for_next_attempt(self, delay: Delay, at: Tick) {
        let DeliveryRef { bus, event, index } = self;
        let (of, timed_out) = (delay.of, delay.timed_out);
        let (waits, gone) = {
            let mut state = event.state().lock();
            let delayed = state.delay(delay);
            if let Some(delivery) = self.in_state_mut(&mut state)
                && !(timed_out || delivery.manner.parallel)
            {
                // Its own thread has failed, and does not come back to it.
                delivery.leave_stack();
            }
            delayed
        };
        frame::let_go(gone);
        if !waits {
            return;
        }
        // First here, then the look: a shutdown looks the other way round.
        self.note_set_aside();
        if bus.hurries.load(Ordering::SeqCst) && !planted("delay_unseen_by_drain") {
            return self.cut_delays();
        }
        let (own, kept) = (Arc::clone(bus), event.clone());
        let timer = bus.runtime.watch.at(at, move || {
            let ready = kept.state().lock().end_delay(of);
            let delivery = own.delivery(&kept, index);
            match timed_out {
                _ if !ready => {}
                true => delivery.drive_on(),
                false => delivery.submit_resume(),
            }
        });
        if !event.state().lock().keep_timer(of, timer) {
            bus.runtime.watch.cancel(timer);
        }
    }

    /// No delay of a delivery is waited for any more: no further attempt is made, and the last failure is the result.
    pub(crate) fn cut_delays(self) {
        let DeliveryRef { bus, event, index } = self;
        let at = clock::now();
        let (cut, startable) = {
            let mut state = event.state().lock();
            let cut = state.cut_delays(index, at);
            if cut.is_empty() {
                return;
            }
            (cut, self.in_state_mut(&mut state).and_then(Delivery::startable).is_some())
        };
        for timer in cut.iter().filter_map(|delay| delay.timer) {
            bus.runtime.watch.cancel(timer);
        }
        // As after the delay: no thread is at the delivery.
        let resumes = startable && !cut.iter().any(|delay| delay.timed_out);
        let goes_on = if resumes { GoesOn::Resumed } else { GoesOn::DrivenOn };
        Duties { limits: true, goes_on, ..Duties::default() }.carry_out(self);
        drop_failures(bus, cut);
    }

    /// The delivery goes on without the handler that was given up, on a fresh worker.
    pub(crate) fn drive_on(self) {
        let at = clock::now();
        let mut state = self.event.state().lock();
        let Some(delivery) = self.in_state_mut(&mut state) else { return };
        if delivery.phase != DeliveryPhase::Active {
            return;
        }
        if delivery.left == 0 {
            let leaves = Leaves::Lines(delivery.manner.turn);
            let finish = finish(&mut state, self.event, self.index, at, self.bus.recorder.keeps());
            drop(state);
            return Duties { finish, leaves, ..Duties::default() }.carry_out(self);
        }
        let startable = delivery.startable().is_some();
        let (inline, parallel, limited) = (delivery.manner.inline, delivery.manner.parallel, delivery.limited);
        drop(state);
        if limited && !startable {
            self.set_down_in_line();
        }
        if startable && !inline {
            self.withdraw(Tickets::OfDelivery);
            if self.ensure_turn(Position::First) {
                self.submit_resume();
            }
        } else if parallel {
            self.set_down_if_all_wait();
        }
    }
}

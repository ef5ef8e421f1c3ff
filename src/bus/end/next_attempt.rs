//! A delivery goes on after an attempt that has failed or was given up: at once, after a delay, or not at all.

use crate::bus::core::BusCore;
use crate::bus::end::duties::{Duties, Leaves, drop_failures, withdraw};
use crate::bus::end::finish::finish;
use crate::bus::middleware::tell;
use crate::bus::permits::delivery::{ensure_turn, submit_resume};
use crate::bus::permits::limits;
use crate::bus::permits::set_down::{give_up_if_all_sit, set_down_in_line};
use crate::bus::thread::frame;
use crate::event::{AnyEvent, Delay, Delivery, DeliveryPhase};
use crate::sync::Position;
use crate::sys::clock::{self, Tick};
use crate::sys::planted;
use crate::sys::sync::atomic::Ordering;
use std::sync::Arc;

/// Has an invocation that was set aside with a delay start again at `at`, by `go_on`; unless a shutdown drains, which waits for no delay.
pub(crate) fn wait_for_next_attempt(
    bus: &Arc<BusCore>,
    event: &AnyEvent,
    delay: Delay,
    at: Tick,
    go_on: fn(&Arc<BusCore>, &AnyEvent, usize),
) {
    let of = delay.of;
    let (waits, gone) = event.state().lock().delay(delay);
    frame::let_go(gone);
    if !waits {
        return;
    }
    // First here, then the look: a shutdown looks the other way round.
    bus.note_set_aside(event, of.delivery);
    if bus.hurries.load(Ordering::SeqCst) && !planted("delay_unseen_by_drain") {
        return cut_delays(bus, event, of.delivery);
    }
    let (own, kept) = (Arc::clone(bus), event.clone());
    let timer = bus.runtime.watch.at(at, move || {
        let ready = kept.state().lock().end_delay(of);
        if ready {
            go_on(&own, &kept, of.delivery);
        }
    });
    if !event.state().lock().keep_timer(of, timer) {
        bus.runtime.watch.cancel(timer);
    }
}

/// No delay of a delivery is waited for any more: no further attempt is made, and the last failure is the result.
pub(crate) fn cut_delays(bus: &Arc<BusCore>, event: &AnyEvent, index: usize) {
    let at = clock::now();
    let (cut, startable) = {
        let mut state = event.state().lock();
        let cut = state.cut_delays(index, at);
        if cut.is_empty() {
            return;
        }
        (cut, state.deliveries.get_mut(index).and_then(Delivery::startable).is_some())
    };
    for timer in cut.iter().filter_map(|delay| delay.timer) {
        bus.runtime.watch.cancel(timer);
    }
    limits::settle(&bus.runtime, event);
    if startable && !cut.iter().any(|delay| delay.timed_out) {
        // As after the delay: no thread is at the delivery.
        submit_resume(bus, event, index);
    } else {
        drive_on(bus, event, index);
    }
    tell::deliver(bus, event);
    drop_failures(bus, cut);
}

/// The delivery goes on without the handler that was given up, on a fresh worker.
pub(crate) fn drive_on(bus: &Arc<BusCore>, event: &AnyEvent, index: usize) {
    let at = clock::now();
    let mut state = event.state().lock();
    let Some(delivery) = state.deliveries.get_mut(index) else { return };
    if delivery.phase != DeliveryPhase::Active {
        return;
    }
    if delivery.left == 0 {
        let leaves = Leaves::Lines(delivery.manner.turn);
        let finish = finish(&mut state, event, index, at, bus.recorder.keeps());
        drop(state);
        return Duties { finish, leaves, ..Duties::default() }.carry_out(bus, event, index);
    }
    let startable = delivery.startable().is_some();
    let (inline, parallel, limited) = (delivery.manner.inline, delivery.manner.parallel, delivery.limited);
    drop(state);
    if limited && !startable {
        set_down_in_line(bus, event, index);
    }
    if startable && !inline {
        withdraw(bus, event, index, false);
        if ensure_turn(bus, event, index, Position::First) {
            submit_resume(bus, event, index);
        }
    } else if parallel {
        give_up_if_all_sit(bus, event, index);
    }
}

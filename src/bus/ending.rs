//! Everything that ends a handler or a delivery other than its own return: deadlines, cancellation, a lost `first`; and completion.
//!
//! First the word under the event's lock, then what follows from it (`runtime/README.md`, 3.4 and 3.6).

use crate::bus::core::BusCore;
use crate::bus::counters::End;
use crate::bus::finish::{Finish, conclude, drop_failures, finish};
use crate::bus::frame;
use crate::bus::limits;
use crate::bus::overdue::give_up_worker;
use crate::bus::permit::{Home, Permit, attempt_token, delivery_token};
use crate::bus::recorder::Keeps;
use crate::bus::registry::mode_for;
use crate::bus::set_down;
use crate::bus::set_down::give_up_if_all_sit;
use crate::bus::tell;
use crate::bus::turn::{ensure_turn, release_delivery, submit_resume};
use crate::bus::waits_for;
use crate::event::{
    AnyEvent, AttemptKey, Cause, CauseKind, Completion, Delay, Delivery, DeliveryPhase, HandlerFailure, Hook, Manner,
    Outcome, Pause, RecordPhase, State, TypeSlot, Unrun, note_given_up,
};
use crate::runtime::{Job, PermitKind, Turn};
use crate::sync::{Place, Token};
use crate::sys::clock::{self, Stamp, Tick};
use crate::sys::sync::atomic::Ordering;
use crate::sys::{logging, planted, unwind};
use std::sync::Arc;
use std::time::Duration;

/// A delivery that was ended from outside, and what its ender owes.
struct Ended {
    event: AnyEvent,
    delivery: usize,
    bus: Option<Arc<BusCore>>,
    was_queued: bool,
    manner: Manner,
    finish: Option<Finish>,
    /// Attempts that were running, and the workers they are on.
    running: Vec<(AttemptKey, u64)>,
    hooks: Vec<Hook>,
    pauses: Vec<Pause>,
}

/// The event is complete: wake whoever waits, and count its parent down. A loop, since chains are long.
pub(crate) fn complete(event: &AnyEvent, completion: Completion) {
    // What it was the last open child of completes with it.
    let at = completion.at;
    let mut above = completion.tell(event);
    while let Some(parent) = above.take() {
        above = count_down(&parent, at);
        // It may be the last hold of it, and its payload may panic when it goes; and whoever came here owes more than this.
        if parent.is_kept_once() {
            frame::let_go(parent);
        } else {
            unwind::drop_quietly(parent);
        }
    }
}

/// One open child less; if it was the last, the event's parent.
fn count_down(event: &AnyEvent, at: Stamp) -> Option<AnyEvent> {
    let mut state = event.state().lock();
    let completion = state.count_down(at)?;
    event.publish_complete();
    let told = tell::watched_by(&state);
    let identity = state.deliveries.first().map(|d| Arc::clone(&d.bus));
    drop(state);
    tell::deliver_to(&told, event);
    if let Some(bus) = identity.and_then(|identity| BusCore::of(&identity)) {
        bus.forget_completed(event);
    }
    completion.tell(event)
}

/// A delivery is over, or something was queued below: parked waits look again.
pub(crate) fn ring_watchers(event: &AnyEvent) {
    event.state().lock().ring();
}

/// Ends whatever of the event is not done, and of what it emitted, from the top down. False if it was complete.
pub(crate) fn cancel(event: &AnyEvent, cause: &Cause) -> bool {
    if event.is_complete() {
        return false;
    }
    cancel_all(vec![event.clone()], cause);
    true
}

fn cancel_all(mut pending: Vec<AnyEvent>, cause: &Cause) {
    pending.reverse();
    let mut ended = Vec::new();
    while let Some(event) = pending.pop() {
        let at = clock::now();
        let slots = slots_of(&event);
        {
            let mut state = event.state().lock();
            if state.complete {
                continue;
            }
            state.ended = true;
            for delivery in 0..state.deliveries.len() {
                ended.extend(end_delivery(&mut state, &event, delivery, &slots, cause, at));
            }
            pending.extend(state.children().rev().map(|c| c.event.clone()).filter(|e| !e.is_complete()));
        }
    }
    // Only now: what follows from one end could start a sibling that is to end too.
    for ended in ended {
        follow_up(ended);
    }
}

/// Cancels what one invocation, or one delivery, has emitted.
pub(crate) fn cascade(event: &AnyEvent, delivery: usize, invocation: Option<usize>, cause: &Cause) {
    let theirs: Vec<AnyEvent> = {
        let state = event.state().lock();
        let of = |by: Option<(u32, u32)>| {
            by.is_some_and(|(d, i)| d as usize == delivery && invocation.is_none_or(|own| own == i as usize))
        };
        state.children().filter(|c| of(c.by) && !c.event.is_complete()).map(|c| c.event.clone()).collect()
    };
    cancel_all(theirs, cause);
}

/// The handlers of deliveries that were not claimed yet. Looked up outside of the event's lock: the type's options are the user's code.
type Slots = Vec<(usize, Arc<BusCore>, Arc<TypeSlot>)>;

fn slots_of(event: &AnyEvent) -> Slots {
    let unclaimed: Vec<_> = {
        let state = event.state().lock();
        let unclaimed = |d: &&Delivery| !d.is_fixed() && d.phase != DeliveryPhase::Done;
        let numbered = state.deliveries.iter().enumerate();
        numbered.filter(|(_, d)| unclaimed(d)).map(|(index, d)| (index, Arc::clone(&d.bus))).collect()
    };
    unclaimed
        .into_iter()
        .filter_map(|(index, identity)| {
            let bus = BusCore::of(&identity)?;
            let slot = bus.registry.slot(event.body(), &bus.defaults);
            Some((index, bus, slot))
        })
        .collect()
}

/// Under the event's lock: the delivery is done, with every record ended. `None` if it was already.
fn end_delivery(
    state: &mut State,
    event: &AnyEvent,
    index: usize,
    slots: &Slots,
    cause: &Cause,
    at: Stamp,
) -> Option<Ended> {
    let delivery = state.deliveries.get_mut(index)?;
    if delivery.phase == DeliveryPhase::Done {
        return None;
    }
    let was_queued = delivery.phase == DeliveryPhase::Queued;
    if !delivery.is_fixed()
        && let Some((_, bus, slot)) = slots.iter().find(|(of, ..)| *of == index)
    {
        // A result each, for the handlers that would have run.
        let own = event.head().options();
        delivery.fix_handlers(Arc::clone(slot), |slot, at| mode_for(own, slot, at, &bus.defaults));
    }
    let bus = BusCore::of(&delivery.bus);
    let mut running = Vec::new();
    let no_time = cause.kind == CauseKind::EventTimeout
        && cause.event == event.head().id()
        && cause.after == Some(Duration::ZERO);
    for invocation in 0..delivery.records.len() {
        let record = &delivery.records[invocation];
        let failure = match record.phase {
            RecordPhase::Ended => continue,
            RecordPhase::Started => {
                note_given_up();
                running.push((AttemptKey { delivery: index, invocation, attempt: record.attempt }, record.worker));
                let detail = bus.as_ref().and_then(|bus| waits_for::which_process(&bus.runtime, record.worker));
                HandlerFailure::Aborted { cause: cause.clone().with_detail(detail) }
            }
            // Between two attempts it has run, so it was not cancelled before it started.
            _ if record.started != 0 => HandlerFailure::Aborted { cause: cause.clone() },
            // As where a driver comes to it.
            _ if no_time => HandlerFailure::TimedOut { after: Duration::ZERO, detail: None },
            _ => HandlerFailure::Cancelled { cause: cause.clone() },
        };
        delivery.end_record(invocation, Outcome::Failed(Arc::new(failure)), at);
    }
    if !delivery.anything_started() && !no_time {
        delivery.unrun = if cause.kind == CauseKind::Dropped { Unrun::Dropped } else { Unrun::Cancelled };
    }
    let manner = delivery.manner;
    let (mut hooks, mut pauses) = (Vec::new(), Vec::new());
    for (key, _) in &running {
        let (h, p) = state.give_up(*key);
        hooks.extend(h);
        pauses.extend(p);
    }
    let keeps = bus.as_ref().map_or(Keeps::NOTHING, |bus| bus.recorder.keeps());
    let finish = finish(state, event, index, at, keeps);
    Some(Ended { event: event.clone(), delivery: index, bus, was_queued, manner, finish, running, hooks, pauses })
}

/// Outside all locks: what the end of a delivery from outside leaves to do.
fn follow_up(ended: Ended) {
    let Ended { event, delivery, bus, was_queued, manner, finish, running, hooks, pauses } = ended;
    let Some(bus) = bus else {
        tell::deliver_everywhere(&event);
        if let Some(completion) = finish.and_then(|f| f.completion) {
            complete(&event, completion);
        }
        return;
    };
    if was_queued {
        bus.note_claim(event.head().stamp());
        bus.note_stale();
    } else {
        for (key, worker) in running {
            release_attempt(&bus, &event, key);
            give_up_worker(&bus, worker);
        }
        end_pauses(&event, pauses);
        withdraw(&bus, &event, delivery, true);
        run_hooks(&bus, &event, hooks);
    }
    let carries_loop = finish.as_ref().is_some_and(|f| f.carries_loop);
    if let Some(finish) = finish {
        conclude(&bus, &event, finish);
    }
    if !was_queued {
        release_delivery(&bus, delivery_token(&event, delivery), manner.turn);
        if carries_loop && !planted("cancel_loses_loop") {
            bus.submit_loop();
        }
    }
}

/// The permits that one attempt held.
pub(crate) fn release_attempt(bus: &Arc<BusCore>, event: &AnyEvent, key: AttemptKey) {
    let token = attempt_token(event, key.delivery, key.invocation, key.attempt);
    Permit { home: bus.home(), kind: PermitKind::Handler }.release(token);
    Permit { home: Home::Runtime(Arc::clone(&bus.runtime)), kind: PermitKind::Handler }.release(token);
}

/// Takes a delivery's tickets out of every line it may stand in, and rings whoever stood there.
fn withdraw(bus: &Arc<BusCore>, event: &AnyEvent, delivery: usize, attempts: bool) {
    let token = delivery_token(event, delivery);
    let runtime = || Home::Runtime(Arc::clone(&bus.runtime));
    for permit in [
        Permit { home: bus.home(), kind: PermitKind::Event },
        Permit { home: bus.home(), kind: PermitKind::Handler },
        Permit { home: runtime(), kind: PermitKind::Event },
        Permit { home: runtime(), kind: PermitKind::Handler },
    ] {
        // The delivery's own, and those of its attempts if they are over too.
        let own = |t: Token| t == token || attempts && t.stamp == token.stamp && t.part >> 48 == token.part >> 48;
        let withdrawn = permit.step(|s| s.withdraw(token.stamp, own));
        for turn in withdrawn {
            if let (Turn::Ring(bell), false) = (turn, planted("withdraw_without_ring")) {
                bell.ring();
            }
        }
    }
}

pub(crate) fn run_hooks(bus: &Arc<BusCore>, event: &AnyEvent, hooks: Vec<Hook>) {
    for hook in hooks {
        let event = event.clone();
        bus.runtime.pool.submit_granted(Job::new(bus.lane, move |_| {
            if let Err(panic) = frame::callback_apart(event.head().context().cloned(), hook.run) {
                logging::later!(Error, of event; move || format!("an on_cancel hook panicked: {panic}"));
            }
        }));
    }
}

/// Buses that a jump kept from starting queued events go on.
pub(crate) fn end_pauses(event: &AnyEvent, pauses: Vec<Pause>) {
    for pause in pauses {
        if let Some(bus) = BusCore::of(&pause.bus) {
            let token = attempt_token(event, pause.of.delivery, pause.of.invocation, pause.of.attempt);
            let mut run = bus.run.lock();
            run.jumps.retain(|t| *t != token);
            let wake = run.takes_loop_up() && !planted("pause_ends_unseen");
            drop(run);
            if wake {
                bus.submit_loop();
            }
        }
    }
}

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
        let (carries_loop, turn) = (delivery.manner.carries_loop, delivery.manner.turn);
        let finish = finish(&mut state, event, index, at, bus.recorder.keeps());
        drop(state);
        withdraw(bus, event, index, true);
        if let Some(finish) = finish {
            conclude(bus, event, finish);
        }
        release_delivery(bus, delivery_token(event, index), turn);
        if carries_loop {
            bus.submit_loop();
        }
        return;
    }
    let startable = delivery.startable().is_some();
    let (inline, parallel, limited) = (delivery.manner.inline, delivery.manner.parallel, delivery.limited);
    drop(state);
    if limited && !startable {
        set_down::set_down_in_line(bus, event, index);
    }
    if startable && !inline {
        withdraw(bus, event, index, false);
        if ensure_turn(bus, event, index, Place::First) {
            submit_resume(bus, event, index);
        }
    } else if parallel {
        give_up_if_all_sit(bus, event, index);
    }
}

/// On the aftermath thread.
fn cap_passed(bus: &Arc<BusCore>, event: &AnyEvent, index: usize, cap: Tick) {
    let (workers, begun): (Vec<u64>, Tick) = {
        let state = event.state().lock();
        let Some(delivery) = state.deliveries.get(index).filter(|d| d.phase == DeliveryPhase::Active) else { return };
        let running = delivery.records.iter().filter(|r| r.phase == RecordPhase::Started);
        (running.map(|r| r.worker).collect(), delivery.begun)
    };
    let panics = |id: u64| bus.runtime.pool.worker(id)?.told_of_panic(begun);
    if let Some(soon) = workers.into_iter().filter_map(panics).min() {
        // One of its handlers has panicked, and is not timed out, however long that takes to be told.
        let (own, of) = (Arc::clone(bus), event.clone());
        bus.runtime.watch.at(soon, move || cap_passed(&own, &of, index, cap));
        return;
    }
    let at = clock::now();
    let mut state = event.state().lock();
    let begun = state.deliveries.get(index).map_or(cap, |d| d.begun);
    let cause = Cause::new(CauseKind::EventTimeout, event.head().id(), event.body().event_type())
        .with_after(Duration::from_nanos(cap.saturating_sub(begun)));
    let ended = end_delivery(&mut state, event, index, &Slots::new(), &cause, at);
    drop(state);
    if let Some(ended) = ended {
        cascade(event, index, None, &cause);
        follow_up(ended);
        let (of, label) = (event.clone(), Arc::clone(&bus.identity.label));
        logging::later!(Debug, of event; move || format!("{of} on {label} met its timeout"));
    }
}

/// The event's cap on one bus, whatever of it runs then.
pub(crate) fn watch_cap(bus: &Arc<BusCore>, event: &AnyEvent, index: usize, cap: Tick) {
    let (weak_bus, weak) = (Arc::downgrade(bus), event.downgrade());
    let timer = bus.runtime.watch.at(cap, move || {
        if let (Some(bus), Some(event)) = (weak_bus.upgrade(), weak.upgrade()) {
            cap_passed(&bus, &event, index, cap);
        }
    });
    let stale = {
        let mut state = event.state().lock();
        match state.deliveries.get_mut(index) {
            Some(delivery) if delivery.phase == DeliveryPhase::Active => {
                delivery.set_cap_timer(timer);
                false
            }
            _ => true,
        }
    };
    if stale {
        bus.runtime.watch.cancel(timer);
    }
}

/// `First` has its winner: the rest is cancelled or abandoned.
pub(crate) fn end_losers(bus: &Arc<BusCore>, event: &AnyEvent, index: usize, winner: usize, kind: CauseKind) {
    let at = clock::now();
    let mut losers = Vec::new();
    let (mut hooks, mut pauses) = (Vec::new(), Vec::new());
    let cause;
    {
        let mut state = event.state().lock();
        let Some(delivery) = state.deliveries.get_mut(index) else { return };
        if delivery.phase != DeliveryPhase::Active {
            return;
        }
        let Some(handler) = delivery.handler(winner).cloned() else { return };
        cause =
            Cause::new(kind, event.head().id(), event.body().event_type()).with_handler(handler.id(), handler.label());
        for invocation in 0..delivery.records.len() {
            let record = &delivery.records[invocation];
            let failure = match record.phase {
                RecordPhase::Ended => continue,
                RecordPhase::Pending if record.started == 0 => HandlerFailure::Cancelled { cause: cause.clone() },
                RecordPhase::Delayed if record.started == 0 => HandlerFailure::Cancelled { cause: cause.clone() },
                RecordPhase::Started => {
                    let detail = waits_for::which_process(&bus.runtime, record.worker);
                    HandlerFailure::Aborted { cause: cause.clone().with_detail(detail) }
                }
                _ => HandlerFailure::Aborted { cause: cause.clone() },
            };
            if record.phase == RecordPhase::Started {
                note_given_up();
                losers.push((AttemptKey { delivery: index, invocation, attempt: record.attempt }, record.worker));
            }
            delivery.end_record(invocation, Outcome::Failed(Arc::new(failure)), at);
        }
        for (key, _) in &losers {
            let (h, p) = state.give_up(*key);
            hooks.extend(h);
            pauses.extend(p);
        }
    }
    for (key, worker) in losers {
        release_attempt(bus, event, key);
        give_up_worker(bus, worker);
        cascade(event, index, Some(key.invocation), &cause);
    }
    limits::settle(&bus.runtime, event);
    end_pauses(event, pauses);
    run_hooks(bus, event, hooks);
    tell::deliver(bus, event);
}

/// A delivery that is queued, or waits and has had no attempt, falls out of a full queue.
pub(crate) fn end_unstarted(bus: &Arc<BusCore>, event: &AnyEvent, index: usize) {
    let at = clock::now();
    let cause = Cause::new(CauseKind::Dropped, event.head().id(), event.body().event_type())
        .with_place(format!("from the full queue of {}", bus.label()));
    let slots = slots_of(event);
    let ended = {
        let mut state = event.state().lock();
        match state.deliveries.get(index) {
            Some(d)
                if d.phase == DeliveryPhase::Queued || !d.anything_started() || planted("drops_what_has_started") =>
            {
                end_delivery(&mut state, event, index, &slots, &cause, at)
            }
            _ => None,
        }
    };
    if let Some(mut ended) = ended {
        if let Some(finish) = &mut ended.finish {
            finish.end = End::Dropped;
        }
        follow_up(ended);
        bus.tell_dropped(event);
    }
}

/// Went with the last handle of its bus.
fn gone(event: &AnyEvent, label: &str) -> Cause {
    Cause::new(CauseKind::Dropped, event.head().id(), event.body().event_type())
        .with_place(format!("with the last handle of {label}"))
}

/// The bus is gone, and took what it never claimed with it. False if it was over.
pub(crate) fn end_unclaimed(event: &AnyEvent, index: usize, label: &str) -> bool {
    let at = clock::now();
    let cause = gone(event, label);
    let mut state = event.state().lock();
    let ended = end_delivery(&mut state, event, index, &Slots::new(), &cause, at);
    drop(state);
    tell::deliver_everywhere(event);
    let Some(ended) = ended else { return false };
    if let Some(completion) = ended.finish.and_then(|f| f.completion) {
        complete(event, completion);
    }
    true
}

/// Ends one delivery for a shutdown; running handlers are aborted.
pub(crate) fn shut_down_delivery(event: &AnyEvent, index: usize) -> bool {
    give_up_delivery(event, index, &Cause::new(CauseKind::Shutdown, event.head().id(), event.body().event_type()))
}

/// The same with the last handle of a bus that only its application could run.
pub(crate) fn drop_delivery(event: &AnyEvent, index: usize, label: &str) -> bool {
    give_up_delivery(event, index, &gone(event, label))
}

fn give_up_delivery(event: &AnyEvent, index: usize, cause: &Cause) -> bool {
    let at = clock::now();
    let slots = slots_of(event);
    let ended = end_delivery(&mut event.state().lock(), event, index, &slots, cause, at);
    let Some(ended) = ended else { return false };
    cascade(event, index, None, cause);
    follow_up(ended);
    true
}

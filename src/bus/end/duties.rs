//! What a change to an event leaves to do, as one value; and the one place where that is done, with nothing locked.
//!
//! Every transition is a step under a lock, and the thread that makes it owes what follows: exactly one thread does. Here everything is in the
//! order in which it must come: threads that were given up are let go of before their permits go to others, a delivery leaves its lines before
//! it is told to be over, and its permits and the loop come last.

use crate::bus::core::BusCore;
use crate::bus::core::delivery::DeliveryRef;
use crate::bus::core::letters;
use crate::bus::core::permit::{Home, Permit, attempt_token};
use crate::bus::end::abandon::give_up_worker;
use crate::bus::end::complete::{complete, ring_watchers};
use crate::bus::end::finish::{Finish, Rare};
use crate::bus::middleware::tell;
use crate::bus::parts::counters::End;
use crate::bus::parts::verdict::Verdict;
use crate::bus::permits::limits;
use crate::bus::thread::frame;
use crate::event::{AnyEvent, AttemptKey, Delay, DeliveryPhase, Hook, Pause, State, TurnKind};
use crate::runtime::{Job, PermitKind, Wakeup, Worker, is_service_thread};
use crate::sync::Token;
use crate::sys::clock::{NEVER, Tick};
use crate::sys::sync::atomic::Ordering;
use crate::sys::{logging, planted, unwind};
use std::sync::Arc;

/// What a change to a delivery leaves to do.
#[derive(Default)]
pub(crate) struct Duties {
    /// So many threads are asked for beside this one.
    pub(crate) helpers: u32,
    /// When the watch must look at this thread, if earlier than it would.
    pub(crate) look: Option<Tick>,
    /// The delivery begins, and the event's cap counts from now on.
    pub(crate) cap: Option<Tick>,
    /// An invocation has ended that may have a place under a limit, or stand in a line for one.
    pub(crate) limits: bool,
    /// It comes to a line without a thread: what is over leaves the list of these, from time to time.
    pub(crate) sweeps: bool,
    /// Attempts were ended by another thread than their own.
    pub(crate) given_up: Option<Box<GivenUp>>,
    /// The delivery is not over.
    pub(crate) goes_on: GoesOn,
    /// The delivery is over.
    pub(crate) finish: Option<Finish>,
    /// What the delivery has to leave.
    pub(crate) leaves: Leaves,
}

/// Attempts that were ended while their threads were inside of them.
#[derive(Default)]
pub(crate) struct GivenUp {
    /// Each with the worker that it is on.
    pub(crate) attempts: Vec<(AttemptKey, u64)>,
    /// Buses that their jumps have kept from starting queued events.
    pub(crate) pauses: Vec<Pause>,
    /// Asks the user whether there is another attempt, and has the delivery go on.
    pub(crate) retry: Option<Job>,
    /// Run after a delivery has gone on: that has waited longer.
    pub(crate) hooks: Vec<Hook>,
}

impl GivenUp {
    /// Under the event's lock: what those attempts leave, each with the worker that it is on.
    pub(crate) fn of(state: &mut State, attempts: Vec<(AttemptKey, u64)>) -> Option<Box<GivenUp>> {
        if attempts.is_empty() {
            return None;
        }
        let mut given_up = GivenUp { attempts, ..GivenUp::default() };
        for (key, _) in &given_up.attempts {
            let (hooks, pauses) = state.give_up(*key);
            given_up.hooks.extend(hooks);
            given_up.pauses.extend(pauses);
        }
        Some(Box::new(given_up))
    }
}

/// How a delivery goes on that is not over, and which its driver has left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum GoesOn {
    /// Its driver sees to that.
    #[default]
    ByItself,
    /// See [`DeliveryRef::drive_on`].
    DrivenOn,
    /// A job resumes it.
    Resumed,
}

/// What a delivery leaves that was ended by another thread than the one that drives it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Leaves {
    /// Its driver sees to that.
    #[default]
    Nothing,
    /// What it was to come after.
    Hold,
    /// The queue of its bus.
    Queue,
    /// Lines in which it may stand, its permits with a turn of that kind, and the bus's loop, if it carries that.
    Lines(TurnKind),
}

impl Duties {
    /// Of the thread that drives the delivery, between two of its handlers.
    #[inline(always)]
    pub(crate) fn settle(&mut self, delivery: DeliveryRef<'_>, worker: &Arc<Worker>) {
        let DeliveryRef { bus, event, .. } = delivery;
        if let Some(at) = self.look.take() {
            bus.runtime.watch.look_at(at, worker);
        }
        if self.limits | self.sweeps | self.cap.is_some() | (self.helpers > 0) {
            self.settle_rare(delivery);
        }
        tell::deliver(bus, event);
    }

    #[cold]
    fn settle_rare(&mut self, delivery: DeliveryRef<'_>) {
        let DeliveryRef { bus, event, .. } = delivery;
        if let Some(cap) = self.cap.take() {
            delivery.watch_cap(cap);
        }
        if std::mem::take(&mut self.limits) && bus.has_limits() {
            limits::settle(&bus.runtime, event);
        }
        for _ in 0..std::mem::take(&mut self.helpers) {
            delivery.submit_helper();
        }
        if std::mem::take(&mut self.sweeps) {
            bus.sweep_set_aside();
        }
    }

    /// Of any other thread.
    pub(crate) fn carry_out(self, delivery: DeliveryRef<'_>) {
        let DeliveryRef { bus, event, .. } = delivery;
        let Duties { cap, limits, given_up, goes_on, finish, leaves, sweeps, .. } = self;
        let GivenUp { attempts, pauses, retry, hooks } = given_up.map_or_else(GivenUp::default, |given_up| *given_up);
        match leaves {
            Leaves::Hold => delivery.leaves_hold(),
            Leaves::Queue => delivery.leaves_queue(),
            Leaves::Lines(_) | Leaves::Nothing => {}
        }
        if let Some(cap) = cap {
            delivery.watch_cap(cap);
        }
        for (key, worker) in attempts {
            give_up_worker(bus, worker);
            if !planted("timeout_keeps_permit") {
                release_attempt(bus, event, key);
            }
        }
        if limits {
            limits::settle(&bus.runtime, event);
        }
        end_pauses(event, pauses);
        if let Leaves::Lines(_) = leaves {
            delivery.withdraw(Tickets::WithAttempts);
        }
        if finish.is_none() {
            tell::deliver(bus, event);
            match (retry, goes_on) {
                (Some(job), _) => bus.runtime.pool.submit_granted(job),
                (None, GoesOn::DrivenOn) => delivery.drive_on(),
                (None, GoesOn::Resumed) => delivery.submit_resume(),
                (None, GoesOn::ByItself) => {}
            }
        }
        run_hooks(bus, event, hooks);
        let carries_loop = finish.as_ref().is_some_and(|finish| finish.carries_loop);
        if let Some(finish) = finish {
            conclude(delivery, finish);
        }
        if let Leaves::Lines(turn) = leaves {
            delivery.release(turn);
            if carries_loop && !planted("cancel_loses_loop") {
                bus.submit_loop();
            }
        }
        if sweeps {
            bus.sweep_set_aside();
        }
    }
}

/// What follows from the end of a delivery, but for its permits and the loop.
pub(crate) fn conclude(delivery: DeliveryRef<'_>, finish: Finish) {
    let DeliveryRef { bus, event, .. } = delivery;
    if let Some(rare) = finish.rare {
        settle(bus, event, *rare);
    }
    if finish.limited {
        limits::settle(&bus.runtime, event);
    }
    match finish.verdict {
        Some(verdict) if verdict != Verdict::default() => {
            bus.recorder.completed(verdict, bus.counters.ended(End::Completed));
        }
        _ => {}
    }
    match finish.completion {
        Some(completion) => complete(event, completion),
        None => {
            tell::deliver(bus, event);
            if finish.watched {
                ring_watchers(event);
            }
            // What its handlers emitted and nobody waited for may jump from now on.
            bus.ring_above(event);
            if finish.lingers != NEVER {
                bus.note_lingering(event, finish.lingers);
            }
        }
    }
    if bus.trims && event.is_complete() {
        bus.forget_completed(event);
    }
    if finish.redrive {
        bus.ring_idlers();
    } else {
        bus.note_done(finish.end);
    }
    // Handlers that were removed meanwhile end here, before the permits are given back.
    if finish.slot.as_ref().is_some_and(|slot| Arc::strong_count(slot) == 1) {
        frame::let_go(finish.slot);
    } else {
        unwind::drop_quietly(finish.slot);
    }
}

#[cold]
fn settle(bus: &Arc<BusCore>, event: &AnyEvent, rare: Rare) {
    for timer in rare.timer.into_iter().chain(rare.delays.iter().filter_map(|delay| delay.timer)) {
        bus.runtime.watch.cancel(timer);
    }
    drop_failures(bus, rare.delays);
    if let Some(wait) = rare.wait {
        bus.wait_is_over(event, wait, None);
    }
    for failure in rare.letters {
        // It lets go of what a letter before it kept.
        let _ = frame::callback(|| letters::note(bus, event, failure));
    }
}

/// Delays are over, and what failed before them is the user's to drop: not on a thread that runs nothing of the user's.
pub(crate) fn drop_failures(bus: &Arc<BusCore>, delays: Vec<Delay>) {
    if !delays.is_empty() && is_service_thread() {
        bus.runtime.pool.submit_granted(Job::new(bus.lane, move |_| unwind::drop_each(delays)));
    } else {
        let _ = frame::callback(|| unwind::drop_each(delays));
    }
}

/// The permits that one attempt held.
fn release_attempt(bus: &Arc<BusCore>, event: &AnyEvent, key: AttemptKey) {
    let token = attempt_token(event, key.delivery, key.invocation, key.attempt);
    Permit { home: bus.home(), kind: PermitKind::Handler }.release(token);
    Permit { home: Home::Runtime(Arc::clone(&bus.runtime)), kind: PermitKind::Handler }.release(token);
}

/// Which tickets of a delivery are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tickets {
    /// Its own.
    OfDelivery,
    /// Those of its attempts, too, which are over.
    WithAttempts,
}

impl DeliveryRef<'_> {
    /// Another than the loop took it out of the queue.
    pub(crate) fn leaves_queue(self) {
        self.bus.note_claim(self.event.head().stamp());
        self.bus.note_stale();
    }

    /// It ended before all that it was to come after was complete.
    #[cold]
    fn leaves_hold(self) {
        let DeliveryRef { bus, event, .. } = self;
        let (hold, keeps) = bus.held.lock().remove(event.head().stamp());
        bus.note_claim(event.head().stamp());
        bus.counters.held.fetch_sub(1, Ordering::SeqCst);
        // It may be held on other buses too, which wait for the release.
        let goes_on = event.state().lock().deliveries.iter().any(|other| other.phase == DeliveryPhase::Held);
        let kept = hold.as_ref().filter(|_| !goes_on).and_then(|hold| hold.let_go());
        // Its hooks stay with what it was to come after, and do nothing any more.
        let _ = frame::callback(|| unwind::drop_quietly(kept));
        unwind::drop_quietly(keeps);
    }

    /// Takes a delivery's tickets out of every line it may stand in, and rings the threads that stood there.
    pub(crate) fn withdraw(self, tickets: Tickets) {
        let (bus, token) = (self.bus, self.token());
        let runtime = || Home::Runtime(Arc::clone(&bus.runtime));
        for permit in [
            Permit { home: bus.home(), kind: PermitKind::Event },
            Permit { home: bus.home(), kind: PermitKind::Handler },
            Permit { home: runtime(), kind: PermitKind::Event },
            Permit { home: runtime(), kind: PermitKind::Handler },
        ] {
            let of_attempt = |t: Token| t.stamp == token.stamp && t.part >> 48 == token.part >> 48;
            let own = |t: Token| t == token || tickets == Tickets::WithAttempts && of_attempt(t);
            let withdrawn = permit.step(|s| s.withdraw(token.stamp, own));
            for turn in withdrawn {
                if let (Wakeup::Ring(bell), false) = (turn, planted("withdraw_without_ring")) {
                    bell.ring();
                }
            }
        }
    }
}

fn run_hooks(bus: &Arc<BusCore>, event: &AnyEvent, hooks: Vec<Hook>) {
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

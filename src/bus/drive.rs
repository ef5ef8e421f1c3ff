//! Driving a delivery: one handler after another, or beside each other, until none is left (`runtime/README.md`, 3.3).

use crate::bus::attempt::{self, Attempt};
use crate::bus::core::BusCore;
use crate::bus::ending;
use crate::bus::frame;
use crate::bus::permit::{Home, Permit, Taken, attempt_token, delivery_token, is_active};
use crate::bus::registry::{TypeSlot, plan_for};
use crate::event::{
    AnyEvent, Completion, DeliveryPhase, HandlerEntry, HandlerList, HandlerMode, RecordPhase, TurnKind,
};
use crate::rules::handler_mode;
use crate::runtime::{Job, PermitKind, Worker};
use crate::sync::{Granted, Place, Token};
use crate::sys::clock::{self, Stamp, Tick};
use crate::sys::{thread, unwind};
use smallvec::SmallVec;
use std::sync::Arc;

/// Who drives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Via {
    /// The bus's loop: releases what the delivery held together with its next start.
    Loop,
    /// A pool job, which goes on as the loop if the delivery carried it.
    Job,
    /// The stack of a handler that waits, or of a caller of `emit_now`: it releases by itself.
    Inline,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// This call brought the delivery to its end.
    Done,
    /// Somebody else will, or has.
    Left,
}

/// A delivery has ended; what the one who ended it still owes.
pub(crate) struct Finish {
    pub(crate) completion: Option<Completion>,
    pub(crate) list: Option<HandlerList>,
    pub(crate) cap_timer: Option<u64>,
    pub(crate) carries_loop: bool,
    pub(crate) watched: bool,
}

/// One thread's part in a delivery.
pub(crate) struct Driver<'a> {
    pub(crate) bus: &'a Arc<BusCore>,
    pub(crate) worker: &'a Arc<Worker>,
    pub(crate) event: &'a AnyEvent,
    pub(crate) delivery: usize,
    pub(crate) slot: Arc<TypeSlot>,
    pub(crate) via: Via,
    /// Places in the hand that the delivery's handlers run under.
    pub(crate) under: SmallVec<[usize; 2]>,
    /// The end of the handler before is the start of the next, unless something blocked in between.
    pub(crate) now: Tick,
    turn: TurnKind,
}

enum Ran {
    Done { carries_loop: bool },
    Left,
}

enum Step {
    Run(Attempt),
    /// It needs a permit that the delivery does not hold.
    Permit {
        invocation: usize,
        attempt: u32,
        mode: HandlerMode,
        entry: Arc<HandlerEntry>,
    },
    Finished(Finish),
    Nothing,
}

/// Drives on from wherever the delivery stands.
pub(crate) fn advance(bus: &Arc<BusCore>, worker: &Arc<Worker>, event: &AnyEvent, delivery: usize, via: Via) -> After {
    advance_under(bus, worker, event, delivery, via, SmallVec::new())
}

/// The same on a stack that lends: `lent` are the places in its hand.
pub(crate) fn advance_under(
    bus: &Arc<BusCore>,
    worker: &Arc<Worker>,
    event: &AnyEvent,
    delivery: usize,
    via: Via,
    lent: SmallVec<[usize; 2]>,
) -> After {
    let slot = bus.registry.slot(event.body(), &bus.defaults);
    let now = clock::now();
    let mut driver = Driver { bus, worker, event, delivery, slot, via, under: lent, now, turn: TurnKind::Free };
    let hand = frame::hand_len();
    driver.prepare();
    let ran = driver.run();
    driver.leave(ran, hand)
}

impl Driver<'_> {
    /// Puts into the hand what the delivery holds.
    fn prepare(&mut self) {
        fix_handlers(self.bus, self.event, self.delivery, &self.slot, self.now);
        let mut state = self.event.state().lock();
        let Some(delivery) = state.deliveries.get_mut(self.delivery) else { return };
        delivery.manner.inline &= self.via == Via::Inline;
        let manner = delivery.manner;
        self.turn = manner.turn;
        drop(state);
        if self.via != Via::Inline {
            self.hold(manner.turn, manner.bus_handler, manner.parallel);
        }
    }

    pub(crate) fn hold(&mut self, turn: TurnKind, bus_handler: bool, shared: bool) {
        let token = delivery_token(self.event, self.delivery);
        if let Some(home) = self.bus.turn_home(turn) {
            self.under.push(frame::put_in_hand(home, PermitKind::Event, token, self.event, self.delivery, shared));
        }
        if bus_handler {
            let home = self.bus.home();
            self.under.push(frame::put_in_hand(home, PermitKind::Handler, token, self.event, self.delivery, shared));
        }
    }

    fn run(&mut self) -> Ran {
        loop {
            match self.step() {
                Step::Nothing => return Ran::Left,
                Step::Finished(finish) => {
                    let carries_loop = finish.carries_loop;
                    conclude(self.bus, self.event, finish);
                    return Ran::Done { carries_loop };
                }
                Step::Run(attempt) => {
                    if !self.attempt(attempt, None) {
                        return Ran::Left;
                    }
                }
                Step::Permit { invocation, attempt, mode, entry } => {
                    if !self.with_permit(invocation, attempt, mode, entry) {
                        return Ran::Left;
                    }
                }
            }
        }
    }

    /// Empties the hand; a job gives back what the delivery held, and goes on as the loop, if the delivery carried it.
    fn leave(&self, ran: Ran, hand: usize) -> After {
        if self.via != Via::Inline {
            frame::cut_hand(hand);
        }
        let Ran::Done { carries_loop } = ran else { return After::Left };
        if self.via == Via::Job {
            let token = delivery_token(self.event, self.delivery);
            if carries_loop {
                self.bus.run_loop(self.worker, Some((token, self.turn)));
            } else {
                release_delivery(self.bus, token, self.turn);
            }
        }
        After::Done
    }

    /// What comes next, in one look at the event.
    fn step(&mut self) -> Step {
        // The wall clock may be set back after the event was stamped.
        let at = clock::wall(self.now).max(self.event.head().stamp + 1);
        let mut helpers = 0;
        let mut state = self.event.state().lock();
        let Some(delivery) = state.deliveries.get_mut(self.delivery) else { return Step::Nothing };
        if delivery.phase != DeliveryPhase::Active {
            return Step::Nothing;
        }
        let Some(invocation) = delivery.startable() else {
            if delivery.left > 0 {
                return Step::Nothing;
            }
            return finish(&mut state, self.event, self.delivery, at).map_or(Step::Nothing, Step::Finished);
        };
        let Some(entry) = delivery.list.as_ref().map(|list| Arc::clone(&list[invocation])) else {
            return Step::Nothing;
        };
        let record = &delivery.records[invocation];
        let (mode, attempt) = (record.mode, record.attempt);
        let step = if needs_permit(mode, delivery.manner.bus_handler) {
            delivery.set_aside(invocation);
            Step::Permit { invocation, attempt, mode, entry }
        } else {
            match delivery.start(invocation, RecordPhase::Pending, self.worker.id, at) {
                Some(attempt) => Step::Run(Attempt::new(invocation, attempt, entry, delivery)),
                None => return Step::Nothing,
            }
        };
        if delivery.manner.parallel && delivery.helpers == 0 && delivery.startable().is_some() {
            // Somebody must be left to claim the next one; the first time, as many as can run.
            helpers = if invocation == 0 { thread::cores() } else { 1 };
            delivery.helpers += helpers;
        }
        if state.started == 0 && matches!(step, Step::Run(_)) {
            state.started = at;
        }
        drop(state);
        for _ in 0..helpers {
            submit_helper(self.bus, self.event, self.delivery);
        }
        step
    }

    /// Runs one attempt. True if this thread goes on driving.
    fn attempt(&mut self, attempt: Attempt, permit: Option<(Permit, Token)>) -> bool {
        let hand = frame::hand_len();
        let mut under = self.under.clone();
        if let Some((permit, token)) = &permit {
            let (home, kind) = (permit.home.clone(), permit.kind);
            under.push(frame::put_in_hand(home, kind, *token, self.event, self.delivery, false));
        }
        let goes_on = attempt::run(self, attempt, under);
        frame::cut_hand(hand);
        if let Some((permit, token)) = permit {
            permit.release(token);
        }
        goes_on
    }

    fn permit_for(&self, mode: HandlerMode) -> Permit {
        let home = match mode {
            HandlerMode::GlobalSerial => Home::Runtime(Arc::clone(&self.bus.runtime)),
            _ => self.bus.home(),
        };
        Permit { home, kind: PermitKind::Handler }
    }

    /// Gets an invocation's own permit, and runs it. True if this thread goes on driving.
    fn with_permit(&mut self, invocation: usize, attempt: u32, mode: HandlerMode, entry: Arc<HandlerEntry>) -> bool {
        let permit = self.permit_for(mode);
        let token = attempt_token(self.event, self.delivery, invocation, attempt + 1);
        let live = || is_active(self.event, self.delivery);
        let inline = self.via == Via::Inline;
        if inline && let Some(lent) = frame::lendable(&permit) {
            let under = self.under.clone();
            self.under.push(lent);
            let goes_on = self.start_set_aside(invocation, entry, None);
            self.under = under;
            return goes_on;
        }
        let lender = if inline { frame::lender(&permit) } else { None };
        let place = if inline || self.is_jumped() { Place::Front } else { Place::Entry };
        if inline {
            if !permit.try_take(place, token, lender, live) {
                // Nobody stands in line for a handler permit with another one in hand; the turn, which comes before it, stays.
                frame::set_down_all_but(&self.under);
                if !permit.stand(self.worker, place, token, lender, live) {
                    permit.release(token);
                    return is_active(self.event, self.delivery);
                }
                self.now = clock::now();
            }
        } else {
            let (bus, event, delivery) = (Arc::clone(self.bus), self.event.clone(), self.delivery);
            let job = move || {
                Job::new(move |worker| {
                    let slot = bus.registry.slot(event.body(), &bus.defaults);
                    let now = clock::now();
                    let (bus, event) = (&bus, &event);
                    let under = SmallVec::new();
                    let (turn, via) = (TurnKind::Free, Via::Job);
                    let mut driver = Driver { bus, worker, event, delivery, slot, via, under, now, turn };
                    driver.resume_with_permit(invocation, mode, entry, token);
                })
            };
            let entry = {
                let state = self.event.state().lock();
                state.deliveries[self.delivery].list.as_ref().map(|list| Arc::clone(&list[invocation]))
            };
            match (permit.take_or_queue(place, token, None, live, job), entry) {
                (Taken::Now, Some(entry)) => return self.start_set_aside(invocation, entry, Some((permit, token))),
                (Taken::Now, None) => permit.release(token),
                (Taken::Later, _) => self.bus.note_set_aside(self.event, self.delivery),
                (Taken::Dead, _) => return false,
            }
            return self.is_parallel();
        }
        self.start_set_aside(invocation, entry, Some((permit, token)))
    }

    /// A ticket's turn has come, on a thread of the pool.
    fn resume_with_permit(&mut self, invocation: usize, mode: HandlerMode, entry: Arc<HandlerEntry>, token: Token) {
        let permit = self.permit_for(mode);
        let hand = frame::hand_len();
        self.prepare();
        let goes_on = self.start_set_aside(invocation, entry, Some((permit, token)));
        let ran = if goes_on { self.run() } else { Ran::Left };
        self.leave(ran, hand);
    }

    fn start_set_aside(
        &mut self,
        invocation: usize,
        entry: Arc<HandlerEntry>,
        permit: Option<(Permit, Token)>,
    ) -> bool {
        let at = clock::wall(self.now);
        let started = {
            let mut state = self.event.state().lock();
            if state.started == 0 {
                state.started = at;
            }
            state.deliveries.get_mut(self.delivery).and_then(|delivery| {
                let attempt = delivery.start(invocation, RecordPhase::Delayed, self.worker.id, at)?;
                Some(Attempt::new(invocation, attempt, entry, delivery))
            })
        };
        match started {
            Some(attempt) => self.attempt(attempt, permit),
            None => {
                if let Some((permit, token)) = permit {
                    permit.release(token);
                }
                is_active(self.event, self.delivery)
            }
        }
    }

    fn is_jumped(&self) -> bool {
        self.event.state().lock().deliveries.get(self.delivery).is_some_and(|d| d.manner.jumped)
    }

    fn is_parallel(&self) -> bool {
        self.event.state().lock().deliveries.get(self.delivery).is_some_and(|d| d.manner.parallel)
    }
}

/// The first time: which handlers run, and until when. From here on the event's cap counts, also while it stands in line.
pub(crate) fn fix_handlers(bus: &Arc<BusCore>, event: &AnyEvent, index: usize, slot: &TypeSlot, now: Tick) {
    let own = event.head().options.as_deref();
    let mut state = event.state().lock();
    let wants_first = state.wants_first;
    let Some(delivery) = state.deliveries.get_mut(index) else { return };
    if delivery.list.is_some() || delivery.phase != DeliveryPhase::Active {
        return;
    }
    let plan = plan_for(event, slot, &bus.defaults);
    delivery.fix_handlers(&slot.handlers, |e| handler_mode(own, &slot.options, &e.options, &bus.defaults));
    delivery.manner.first = plan.first || wants_first;
    delivery.begun = now;
    let Some(after) = plan.event_timeout else { return };
    delivery.cap = clock::after(now, after);
    let cap = delivery.cap;
    drop(state);
    ending::watch_cap(bus, event, index, cap);
}

fn needs_permit(mode: HandlerMode, bus_handler: bool) -> bool {
    match mode {
        HandlerMode::GlobalSerial => true,
        HandlerMode::BusSerial => !bus_handler,
        HandlerMode::EventSerial | HandlerMode::Parallel => false,
    }
}

/// Releases a delivery's own permits.
pub(crate) fn release_delivery(bus: &Arc<BusCore>, token: Token, turn: TurnKind) {
    Permit { home: bus.home(), kind: PermitKind::Handler }.release(token);
    Permit { home: bus.home(), kind: PermitKind::Event }.release(token);
    if turn == TurnKind::Global {
        Permit { home: Home::Runtime(Arc::clone(&bus.runtime)), kind: PermitKind::Event }.release(token);
    }
}

fn submit_helper(bus: &Arc<BusCore>, event: &AnyEvent, delivery: usize) {
    let (bus, event, pool) = (Arc::clone(bus), event.clone(), Arc::clone(&bus.runtime.pool));
    pool.submit(Job::new(move |worker| {
        if let Some(d) = event.state().lock().deliveries.get_mut(delivery) {
            d.helpers = d.helpers.saturating_sub(1);
        }
        resume(&bus, worker, &event, delivery);
    }));
}

/// A job that drives a delivery on.
pub(crate) fn resume_job(bus: &Arc<BusCore>, event: &AnyEvent, delivery: usize) -> Job {
    let (bus, event) = (Arc::clone(bus), event.clone());
    Job::new(move |worker| resume(&bus, worker, &event, delivery))
}

pub(crate) fn submit_resume(bus: &Arc<BusCore>, event: &AnyEvent, delivery: usize) {
    bus.runtime.pool.submit_granted(resume_job(bus, event, delivery));
}

/// Drives a delivery on, with its turn, or queues for that.
fn resume(bus: &Arc<BusCore>, worker: &Arc<Worker>, event: &AnyEvent, delivery: usize) {
    let has_work = {
        let mut state = event.state().lock();
        state.deliveries.get_mut(delivery).is_some_and(|d| {
            d.phase == DeliveryPhase::Active && (d.left == 0 || d.list.is_none() || d.startable().is_some())
        })
    };
    if has_work && ensure_turn(bus, event, delivery, Place::Front) {
        advance(bus, worker, event, delivery, Via::Job);
    }
    if is_active(event, delivery) {
        // The turn may have come while all its handlers sit in waits that need it given up.
        ending::give_up_if_all_sit(bus, event, delivery);
    } else {
        // Or after the delivery's end, which found nothing to release.
        let turn = event.state().lock().deliveries.get(delivery).map_or(TurnKind::Free, |d| d.manner.turn);
        release_delivery(bus, delivery_token(event, delivery), turn);
    }
}

/// True if the delivery holds all that its handlers run under. False: it is in line, and a job drives on when its turn comes; or it is over.
pub(crate) fn ensure_turn(bus: &Arc<BusCore>, event: &AnyEvent, delivery: usize, place: Place) -> bool {
    let (manner, under) = match event.state().lock().deliveries.get(delivery) {
        Some(d) if d.phase == DeliveryPhase::Active => (d.manner, d.lender),
        _ => return false,
    };
    let token = delivery_token(event, delivery);
    let turn = bus.turn_home(manner.turn).map(|home| Permit { home, kind: PermitKind::Event });
    let handler = manner.bus_handler.then(|| Permit { home: bus.home(), kind: PermitKind::Handler });
    if let (Some(turn), Some(handler)) = (&turn, &handler)
        && !turn.step(|s| (s.holds(token), Granted::new()))
    {
        // Its handler was given up between setting down the one and the other. Nobody stands in line for a turn with a handler permit.
        handler.step(|s| ((), s.set_down(token)));
    }
    for permit in [turn, handler].into_iter().flatten() {
        let job = || resume_job(bus, event, delivery);
        match permit.take_or_queue(place, token, under, || is_active(event, delivery), job) {
            Taken::Now => {}
            Taken::Later => {
                bus.note_set_aside(event, delivery);
                return false;
            }
            Taken::Dead => return false,
        }
    }
    true
}

/// Marks a delivery done, under the event's lock. `None` if it was already.
pub(crate) fn finish(state: &mut crate::event::State, event: &AnyEvent, delivery: usize, at: Stamp) -> Option<Finish> {
    if !state.finish_delivery(delivery) {
        return None;
    }
    let watched = state.has_watchers();
    let d = &mut state.deliveries[delivery];
    let (list, cap_timer, carries_loop, counted) =
        (d.list.take(), d.cap_timer.take(), d.manner.carries_loop, d.counted);
    let completion = if counted { state.count_down(at) } else { None };
    if completion.is_some() {
        event.publish_complete();
    }
    Some(Finish { completion, list, cap_timer, carries_loop, watched })
}

/// What follows from the end of a delivery, but for its permits and the loop.
pub(crate) fn conclude(bus: &Arc<BusCore>, event: &AnyEvent, finish: Finish) {
    if let Some(timer) = finish.cap_timer {
        bus.runtime.watch.cancel(timer);
    }
    match finish.completion {
        Some(completion) => ending::complete(event, completion),
        None => {
            if finish.watched {
                ending::ring_watchers(event);
            }
            // What its handlers emitted and nobody waited for may jump from now on.
            bus.ring_above(event);
        }
    }
    if bus.options.max_history == Some(0) && event.is_completed() {
        bus.forget_completed(event);
    }
    bus.note_done();
    // Handlers that were removed meanwhile end here.
    unwind::drop_quietly(finish.list);
}

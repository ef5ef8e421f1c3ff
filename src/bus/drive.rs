//! Driving a delivery: one handler after another, or beside each other, until none is left (`runtime/README.md`, 3.3).

use crate::bus::attempt::{self, Lost, Returned};
use crate::bus::core::BusCore;
use crate::bus::ending;
use crate::bus::frame::{self, Frame, Holding, Places, Under};
use crate::bus::limits;
use crate::bus::permit::{Home, Permit, Taken, attempt_token, delivery_token, is_active};
use crate::bus::recorder::{Verdict, is_own};
use crate::bus::registry::{mode_for, plan_for, timing_for};
use crate::bus::tell;
use crate::event::{
    AnyEvent, Completion, ContextMap, Delivery, DeliveryPhase, HandlerFailure, HandlerInfo, HandlerMode, Manner,
    Outcome, Record, RecordPhase, State, TurnKind, TypeSlot,
};
use crate::rules;
use crate::runtime::{Job, Overdue, PermitKind, Slot, Stack, Worker};
use crate::sync::{Granted, Place, Token};
use crate::sys::clock::{self, NEVER, Stamp, Tick};
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
    /// This call brought the delivery to its end, at that time.
    Done(Tick),
    /// Somebody else will, or has.
    Left,
}

/// A delivery has ended; what the one who ended it still owes.
pub(crate) struct Finish {
    pub(crate) completion: Option<Completion>,
    pub(crate) slot: Option<Arc<TypeSlot>>,
    cap_timer: Option<u64>,
    timers: Vec<u64>,
    pub(crate) carries_loop: bool,
    pub(crate) watched: bool,
    /// `None` if it was cancelled before a handler started, and for a redrive.
    verdict: Option<Verdict>,
    redrive: bool,
    limited: bool,
    /// Other buses have it, too.
    forwarded: bool,
    /// Failures to be kept.
    letters: Vec<Failure>,
}

/// A handler that failed for good.
struct Failure {
    handler: HandlerInfo,
    attempts: u32,
    error: Arc<HandlerFailure>,
    at: Stamp,
}

/// A delivery whose handlers are fixed.
#[derive(Clone, Copy)]
pub(crate) struct Fixed {
    pub(crate) manner: Manner,
    pub(crate) cap: Tick,
    pub(crate) begun: Tick,
}

/// One thread's part in a delivery.
pub(crate) struct Driver<'a> {
    pub(crate) bus: &'a Arc<BusCore>,
    pub(crate) worker: &'a Arc<Worker>,
    pub(crate) event: &'a AnyEvent,
    pub(crate) delivery: usize,
    pub(crate) slot: &'a TypeSlot,
    pub(crate) fixed: Fixed,
    pub(crate) via: Via,
    /// The end of the handler before is the start of the next, unless something blocked in between.
    pub(crate) now: Tick,
    /// What the delivery's handlers run under, while no frame of this driver has it.
    under: Under,
    /// This driver's frame is on the thread, and its slot on the worker's stack; with the context it found there.
    seated: Option<Option<Arc<ContextMap>>>,
    on_stack: bool,
    /// The frame's own hold of the bus, while it is not seated.
    pub(crate) spare: Option<Arc<BusCore>>,
    /// What a locked step leaves to do afterwards; here, since moving it through return values takes longer than the step.
    owed: Owed,
}

#[derive(Default)]
struct Owed {
    helpers: u32,
    /// When the watch must look, if earlier than it would.
    look: Option<Tick>,
    finish: Option<Finish>,
}

enum Ran {
    Done { carries_loop: bool },
    Left,
}

/// A started attempt: `number` is its lease.
#[derive(Clone, Copy)]
pub(crate) struct Attempt {
    pub(crate) invocation: usize,
    pub(crate) number: u32,
    pub(crate) since: Tick,
    deadline: Tick,
}

#[derive(Clone, Copy)]
enum Step {
    Run(Attempt),
    /// It needs a place under its handler's limit.
    Limit(Wanted),
    /// It needs a permit that the delivery does not hold.
    Permit(Wanted),
    /// The delivery is done, and what that brings with it is owed.
    Finished,
    Nothing,
}

#[derive(Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) invocation: usize,
    /// How often it was tried.
    pub(crate) attempt: u32,
    mode: HandlerMode,
}

/// Drives on from wherever the delivery stands.
pub(crate) fn advance(bus: &Arc<BusCore>, worker: &Arc<Worker>, event: &AnyEvent, delivery: usize, via: Via) -> After {
    let now = clock::now();
    let Some((slot, fixed)) = fix_handlers(bus, event, delivery, now) else { return After::Left };
    let under = Under::Delivery;
    Driver::new(bus, worker, event, delivery, &slot, fixed, via, under, now).drive(None)
}

/// The same on the stack of a handler that waits, or of a caller of `emit_now`: `places` is where in its hand the permits are.
pub(crate) fn advance_inline(
    bus: &Arc<BusCore>,
    worker: &Arc<Worker>,
    event: &AnyEvent,
    delivery: usize,
    places: Places,
) -> After {
    let now = clock::now();
    let Some((slot, fixed)) = fix_handlers(bus, event, delivery, now) else { return After::Left };
    Driver::new(bus, worker, event, delivery, &slot, fixed, Via::Inline, Under::Hand(places), now).drive(None)
}

impl<'a> Driver<'a> {
    #[expect(clippy::too_many_arguments, reason = "the parts of one struct, by the one function that puts it together")]
    pub(crate) fn new(
        bus: &'a Arc<BusCore>,
        worker: &'a Arc<Worker>,
        event: &'a AnyEvent,
        delivery: usize,
        slot: &'a TypeSlot,
        fixed: Fixed,
        via: Via,
        under: Under,
        now: Tick,
    ) -> Self {
        let (seated, on_stack, spare, owed) = (None, false, None, Owed::default());
        Driver { bus, worker, event, delivery, slot, fixed, via, now, under, seated, on_stack, spare, owed }
    }

    /// `started`: its first handler, if the claim has started it.
    pub(crate) fn drive(&mut self, started: Option<Attempt>) -> After {
        self.on_stack = started.is_some();
        let ran = self.run(started.map(Step::Run));
        self.leave(ran)
    }

    fn run(&mut self, mut first: Option<Step>) -> Ran {
        let mut returned = None;
        loop {
            let step = match (first.take(), returned.take()) {
                (Some(step), _) => step,
                (None, None) => self.step(),
                (None, Some((attempt, returned))) => self.end_and_step(attempt, returned),
            };
            match step {
                Step::Run(attempt) => {
                    self.seat(attempt);
                    returned = Some((attempt, attempt::call(self, attempt)));
                    self.now = clock::now();
                    continue;
                }
                Step::Limit(wanted) => {
                    self.unseat();
                    if !limits::take(self, wanted) {
                        return Ran::Left;
                    }
                }
                Step::Permit(wanted) => {
                    self.unseat();
                    if !self.with_permit(wanted) {
                        return Ran::Left;
                    }
                }
                Step::Finished => {
                    self.unseat();
                    let Some(finish) = self.owed.finish.take() else { return Ran::Left };
                    let carries_loop = finish.carries_loop;
                    conclude(self.bus, self.event, finish);
                    return Ran::Done { carries_loop };
                }
                Step::Nothing => {
                    self.unseat();
                    return Ran::Left;
                }
            }
        }
    }

    /// Empties the hand; a job gives back what the delivery held, and goes on as the loop, if the delivery carried it.
    fn leave(&self, ran: Ran) -> After {
        if self.via != Via::Inline
            && let Under::Hand(places) = &self.under
            && let Some(first) = places.first()
        {
            frame::cut_hand(*first);
        }
        let Ran::Done { carries_loop } = ran else { return After::Left };
        if self.via == Via::Job {
            let token = delivery_token(self.event, self.delivery);
            let turn = self.fixed.manner.turn;
            if carries_loop {
                self.bus.run_loop(self.worker, Some((token, turn)));
            } else {
                release_delivery(self.bus, token, turn);
            }
        }
        After::Done(self.now)
    }

    /// What comes next, in one look at the event.
    fn step(&mut self) -> Step {
        let (worker, event) = (self.worker, self.event);
        let mut stack = worker.stack();
        let mut state = event.state().lock();
        let step = self.next(&mut stack, &mut state);
        drop(state);
        drop(stack);
        self.settle();
        step
    }

    /// The end of an attempt, if it is still ours to end, and what comes next, in the same look.
    fn end_and_step(&mut self, attempt: Attempt, returned: Returned) -> Step {
        let (worker, event, index) = (self.worker, self.event, self.delivery);
        let mut stack = worker.stack();
        let mut state = event.state().lock();
        let gone = match attempt::end(self, &mut state, attempt, returned) {
            Ok(None) => {
                let step = self.next(&mut stack, &mut state);
                drop(state);
                drop(stack);
                self.settle();
                return step;
            }
            Ok(Some(ended)) => {
                drop(state);
                drop(stack);
                self.unseat();
                ended.follow_up(self, attempt);
                None
            }
            Err(lost) => {
                drop(state);
                drop(stack);
                self.unseat();
                Some(lost)
            }
        };
        match gone {
            Some(Lost { outcome }) => {
                attempt::note_lost(self, outcome);
                // A handler was given up: its ender drives on. On a stack that waits for the delivery, this thread does.
                let state = event.state().lock();
                let stays =
                    state.deliveries.get(index).is_some_and(|d| d.manner.inline && d.phase == DeliveryPhase::Active);
                drop(state);
                if stays { self.step() } else { Step::Nothing }
            }
            None => self.step(),
        }
    }

    /// Under the stack's lock and the event's.
    fn next(&mut self, stack: &mut Stack, state: &mut State) -> Step {
        let step = self.next_step(stack, state);
        tell::note(self.bus, state, self.event);
        if self.on_stack && !matches!(step, Step::Run(_)) {
            // Not the last hold of the event: this driver has one.
            drop(stack.pop());
            self.on_stack = false;
        }
        step
    }

    fn next_step(&mut self, stack: &mut Stack, state: &mut State) -> Step {
        // The wall clock may be set back after the event was stamped.
        let at = clock::wall(self.now).max(self.event.head().stamp + 1);
        let Some(delivery) = state.deliveries.get_mut(self.delivery) else { return Step::Nothing };
        if delivery.phase != DeliveryPhase::Active {
            return Step::Nothing;
        }
        delivery.manner.inline &= self.via == Via::Inline;
        let Some(invocation) = delivery.startable() else {
            if delivery.left > 0 {
                return Step::Nothing;
            }
            self.owed.finish = finish(state, self.event, self.delivery, at, self.bus.options.dead_letters > 0);
            return if self.owed.finish.is_some() { Step::Finished } else { Step::Nothing };
        };
        let record = &delivery.records[invocation];
        let (mode, attempt) = (record.mode, record.attempt);
        let limited = self.slot.handlers[invocation].entry.limit.is_some() && !record.placed;
        let step = if limited {
            delivery.set_aside(invocation);
            Step::Limit(Wanted { invocation, attempt, mode })
        } else if needs_permit(mode, delivery.manner.bus_handler) {
            delivery.set_aside(invocation);
            Step::Permit(Wanted { invocation, attempt, mode })
        } else {
            match self.start(stack, delivery, invocation, RecordPhase::Pending, at) {
                Some(attempt) => Step::Run(attempt),
                None => return Step::Nothing,
            }
        };
        if delivery.manner.parallel && delivery.helpers == 0 && delivery.startable().is_some() {
            // Somebody must be left to claim the next one; the first time, as many as can run.
            self.owed.helpers = if invocation == 0 { thread::cores() as u32 } else { 1 };
            delivery.helpers += self.owed.helpers;
        }
        if state.started == 0 && matches!(step, Step::Run(_)) {
            state.started = at;
        }
        step
    }

    fn start(
        &mut self,
        stack: &mut Stack,
        delivery: &mut Delivery,
        invocation: usize,
        from: RecordPhase,
        at: Stamp,
    ) -> Option<Attempt> {
        let start = Start {
            bus: self.bus,
            worker: self.worker,
            event: self.event,
            delivery: self.delivery,
            slot: self.slot,
            now: self.now,
        };
        let on_stack = std::mem::replace(&mut self.on_stack, true);
        let (attempt, earlier) =
            start.start(stack, on_stack, delivery, self.fixed, invocation, from, at).or_else(|| {
                self.on_stack = on_stack;
                None
            })?;
        self.owed.look = earlier;
        Some(attempt)
    }

    /// Puts the frame on the thread, or turns the one of the handler before into this one's.
    fn seat(&mut self, attempt: Attempt) {
        let Attempt { invocation, number, deadline, .. } = attempt;
        if self.seated.is_some() {
            frame::local(|local| {
                let Some((frame, below)) = local.frames.split_last_mut() else { return };
                frame.invocation = invocation;
                frame.attempt = number;
                frame.handler = self.slot.handlers[invocation].id;
                frame.deadline = deadline.min(below.last().map_or(NEVER, |f| f.deadline));
            });
            return;
        }
        let mut frame = Frame {
            event: self.event.clone(),
            bus: self.spare.take().unwrap_or_else(|| Arc::clone(self.bus)),
            delivery: self.delivery,
            invocation,
            attempt: number,
            deadline,
            handler: self.slot.handlers[invocation].id,
            holding: Holding::of(self.fixed.manner),
            under: std::mem::replace(&mut self.under, Under::Delivery),
        };
        let context = self.event.head().context().cloned();
        self.seated = frame::local(|local| {
            frame.deadline = deadline.min(local.frames.last().map_or(NEVER, |f| f.deadline));
            local.frames.push(frame);
            std::mem::replace(&mut local.context, context)
        });
    }

    /// Takes the frame off the thread, and the slot off the stack.
    fn unseat(&mut self) {
        if self.on_stack {
            let gone = self.worker.stack().pop();
            self.on_stack = false;
            drop(gone);
        }
        let Some(context) = self.seated.take() else { return };
        let gone = frame::local(|local| {
            let context = std::mem::replace(&mut local.context, context);
            (local.frames.pop(), context)
        });
        if let Some((Some(frame), context)) = gone {
            self.under = frame.under;
            self.spare = Some(frame.bus);
            drop(context);
        }
    }

    /// What the delivery's handlers run under, in the hand.
    fn places(&mut self) -> Places {
        match &self.under {
            Under::Hand(places) => places.clone(),
            Under::Delivery => {
                let holding = Holding::of(self.fixed.manner);
                let places = frame::hold(holding, self.bus, self.event, self.delivery);
                self.under = Under::Hand(places.clone());
                places
            }
        }
    }

    fn permit_for(&self, mode: HandlerMode) -> Permit {
        let home = match mode {
            HandlerMode::GlobalSerial => Home::Runtime(Arc::clone(&self.bus.runtime)),
            _ => self.bus.home(),
        };
        Permit { home, kind: PermitKind::Handler }
    }

    /// Gets an invocation's own permit, and runs it. True if this thread goes on driving.
    fn with_permit(&mut self, wanted: Wanted) -> bool {
        let Wanted { invocation, attempt, mode } = wanted;
        let permit = self.permit_for(mode);
        let token = attempt_token(self.event, self.delivery, invocation, attempt + 1);
        let places = self.places();
        let (event, delivery) = (self.event, self.delivery);
        let live = || is_active(event, delivery);
        if self.via != Via::Inline {
            let place = if self.fixed.manner.jumped { Place::Front } else { Place::Entry };
            let job = || self.job_with_permit(wanted, token);
            return match permit.take_or_queue(place, token, None, live, job) {
                Taken::Now => self.start_set_aside(invocation, Some((permit, token))),
                Taken::Later => {
                    self.bus.note_set_aside(self.event, self.delivery);
                    // Parallel handlers may still be there to be run.
                    self.fixed.manner.parallel
                }
                Taken::Dead => false,
            };
        }
        if let Some(lent) = frame::lendable(&permit) {
            let mut with = places.clone();
            with.push(lent);
            self.under = Under::Hand(with);
            let goes_on = self.start_set_aside(invocation, None);
            self.under = Under::Hand(places);
            return goes_on;
        }
        let lender = frame::lender(&permit);
        if !permit.try_take(Place::Front, token, lender, live) {
            // Nobody stands in line for a handler permit with another one in hand; the turn, which comes before it, stays.
            frame::set_down_all_but(&places);
            if !permit.stand(self.worker, Place::Front, token, lender, live) {
                permit.release(token);
                return is_active(self.event, self.delivery);
            }
            self.now = clock::now();
        }
        self.start_set_aside(invocation, Some((permit, token)))
    }

    /// A ticket's turn has come, on a thread of the pool.
    fn job_with_permit(&self, wanted: Wanted, token: Token) -> Job {
        let (bus, event, delivery) = (Arc::clone(self.bus), self.event.clone(), self.delivery);
        Job::new(move |worker| {
            let Wanted { invocation, mode, .. } = wanted;
            let now = clock::now();
            let home =
                if mode == HandlerMode::GlobalSerial { Home::Runtime(Arc::clone(&bus.runtime)) } else { bus.home() };
            let permit = Permit { home, kind: PermitKind::Handler };
            let Some((slot, fixed)) = fix_handlers(&bus, &event, delivery, now) else {
                permit.release(token);
                return;
            };
            let under = Under::Delivery;
            let mut driver = Driver::new(&bus, worker, &event, delivery, &slot, fixed, Via::Job, under, now);
            let goes_on = driver.start_set_aside(invocation, Some((permit, token)));
            let ran = if goes_on { driver.run(None) } else { Ran::Left };
            driver.leave(ran);
        })
    }

    /// Runs an invocation that was set aside for its permit. True if this thread goes on driving.
    fn start_set_aside(&mut self, invocation: usize, permit: Option<(Permit, Token)>) -> bool {
        let at = clock::wall(self.now);
        let started = {
            let (worker, event) = (self.worker, self.event);
            let mut stack = worker.stack();
            let mut state = event.state().lock();
            if state.started == 0 {
                state.started = at;
            }
            let delivery = state.deliveries.get_mut(self.delivery);
            let started = delivery.and_then(|d| self.start(&mut stack, d, invocation, RecordPhase::Delayed, at));
            tell::note(self.bus, &state, self.event);
            started
        };
        let Some(attempt) = started else {
            if let Some((permit, token)) = permit {
                permit.release(token);
            }
            return is_active(self.event, self.delivery);
        };
        self.settle();
        let places = self.places();
        let hand = frame::hand_len();
        if let Some((permit, token)) = &permit {
            let own = frame::put_in_hand(permit.clone(), *token, self.event, self.delivery, false);
            self.under = Under::Hand(places.iter().copied().chain([own]).collect());
        }
        self.seat(attempt);
        let returned = attempt::call(self, attempt);
        self.now = clock::now();
        let goes_on = self.end_alone(attempt, returned);
        self.under = Under::Hand(places);
        frame::cut_hand(hand);
        if let Some((permit, token)) = permit {
            permit.release(token);
        }
        tell::deliver(self.bus, self.event);
        goes_on
    }

    /// Ends an attempt without a look at what comes next, since its permit goes first. True if this thread goes on driving.
    fn end_alone(&mut self, attempt: Attempt, returned: Returned) -> bool {
        self.unseat();
        let event = self.event;
        let mut state = event.state().lock();
        match attempt::end(self, &mut state, attempt, returned) {
            Ok(ended) => {
                drop(state);
                if let Some(ended) = ended {
                    ended.follow_up(self, attempt);
                }
                true
            }
            Err(Lost { outcome }) => {
                let stays = state
                    .deliveries
                    .get(self.delivery)
                    .is_some_and(|d| d.manner.inline && d.phase == DeliveryPhase::Active);
                drop(state);
                attempt::note_lost(self, outcome);
                stays
            }
        }
    }

    /// What a locked step left to do.
    #[inline]
    fn settle(&mut self) {
        if let Some(at) = self.owed.look.take() {
            self.bus.runtime.watch.look_at(at, self.worker);
        }
        for _ in 0..std::mem::take(&mut self.owed.helpers) {
            submit_helper(self.bus, self.event, self.delivery);
        }
        tell::deliver(self.bus, self.event);
    }
}

/// What starting a handler takes.
pub(crate) struct Start<'a> {
    pub(crate) bus: &'a BusCore,
    pub(crate) worker: &'a Worker,
    pub(crate) event: &'a AnyEvent,
    pub(crate) delivery: usize,
    pub(crate) slot: &'a TypeSlot,
    pub(crate) now: Tick,
}

impl Start<'_> {
    /// The first handler of a delivery that was just claimed, if it needs nothing that the delivery does not hold. With the time
    /// that the watch must be told, after unlocking.
    pub(crate) fn first(&self, stack: &mut Stack, state: &mut State, fixed: Fixed) -> Option<(Attempt, Option<Tick>)> {
        let at = clock::wall(self.now).max(self.event.head().stamp + 1);
        let delivery = state.deliveries.get_mut(self.delivery)?;
        let mode = delivery.records.first()?.mode;
        let limited = self.slot.handlers.first()?.entry.limit.is_some();
        if fixed.manner.parallel || limited || needs_permit(mode, fixed.manner.bus_handler) {
            return None;
        }
        let started = self.start(stack, false, delivery, fixed, 0, RecordPhase::Pending, at)?;
        if state.started == 0 {
            state.started = at;
        }
        Some(started)
    }

    /// Starts an attempt and shows it to the watch, in one step, so that whoever ends it finds it on this stack.
    #[expect(clippy::too_many_arguments, reason = "one locked step over three structures")]
    fn start(
        &self,
        stack: &mut Stack,
        on_stack: bool,
        delivery: &mut Delivery,
        fixed: Fixed,
        invocation: usize,
        from: RecordPhase,
        at: Stamp,
    ) -> Option<(Attempt, Option<Tick>)> {
        let number = delivery.start(invocation, from, self.worker.id, at)?;
        let own = self.event.head().options();
        let timing = timing_for(own, self.slot, invocation, &self.bus.defaults);
        let since = self.now;
        let deadline = since.saturating_add(timing.timeout).min(fixed.cap);
        let slow = timing.slow_at(since);
        let look = if on_stack {
            stack.change(|top| {
                top.invocation = invocation;
                top.attempt = number;
                top.since = since;
                top.deadline = deadline;
                top.slow = slow;
            })
        } else {
            let slow_after = match own {
                Some(_) => rules::slow_event(own, &self.slot.options, &self.bus.defaults),
                None => self.slot.slow_event,
            };
            let slow_event = fixed.begun.saturating_add(slow_after);
            stack.push(Slot {
                event: self.event.clone(),
                delivery: self.delivery,
                invocation,
                attempt: number,
                since,
                deadline,
                slow,
                slow_event: if slow_event <= since { NEVER } else { slow_event },
                overdue: ending::overdue as fn(&_, &_, Overdue),
            })
        };
        if number > 1 && !delivery.redrive {
            self.bus.recorder.retried();
        }
        Some((Attempt { invocation, number, since, deadline }, look))
    }
}

/// Which handlers run, and until when; settled the first time. From here on the event's cap counts, also while it stands in line.
/// `None` if the delivery is over.
pub(crate) fn fix_handlers(
    bus: &Arc<BusCore>,
    event: &AnyEvent,
    index: usize,
    now: Tick,
) -> Option<(Arc<TypeSlot>, Fixed)> {
    {
        let state = event.state().lock();
        let delivery = state.deliveries.get(index).filter(|d| d.phase == DeliveryPhase::Active)?;
        if let Some(slot) = delivery.slot() {
            return Some((Arc::clone(slot), Fixed::of(delivery)));
        }
    }
    // The type's options are the user's code: asked outside of the lock.
    let slot = bus.registry.slot(event.body(), &bus.defaults);
    let (slot, fixed, capped) = {
        let mut state = event.state().lock();
        let wants_first = state.wants_first;
        let delivery = state.deliveries.get_mut(index).filter(|d| d.phase == DeliveryPhase::Active)?;
        let capped = !delivery.is_fixed() && fix(bus, event, delivery, wants_first, &slot, now);
        let fixed = (Arc::clone(delivery.slot()?), Fixed::of(delivery), capped);
        tell::note(bus, &state, event);
        fixed
    };
    tell::deliver(bus, event);
    if capped {
        ending::watch_cap(bus, event, index, fixed.cap);
    }
    Some((slot, fixed))
}

/// How long a delivery that is just claimed was in the queue: since its event was made, or since it was forwarded.
pub(crate) fn queued_for(event: &AnyEvent, delivery: &Delivery, now: Tick) -> Tick {
    match delivery.begun {
        0 => clock::wall(now).saturating_sub(event.head().stamp),
        forwarded => now.saturating_sub(forwarded),
    }
}

/// The same under the event's lock. True if the event has a cap, which the caller has the watch watch.
pub(crate) fn fix(
    bus: &BusCore,
    event: &AnyEvent,
    delivery: &mut Delivery,
    wants_first: bool,
    slot: &Arc<TypeSlot>,
    now: Tick,
) -> bool {
    let own = event.head().options();
    delivery.fix_handlers(slot, |at| mode_for(own, slot, at, &bus.defaults));
    delivery.manner.first |= wants_first;
    delivery.begun = now;
    let timeout = match own {
        Some(_) => plan_for(event, slot, &bus.defaults).event_timeout,
        None => slot.plan.event_timeout,
    };
    if let Some(after) = timeout {
        delivery.set_cap(clock::after(now, after));
    }
    timeout.is_some()
}

impl Fixed {
    pub(crate) fn of(delivery: &Delivery) -> Fixed {
        Fixed { manner: delivery.manner, cap: delivery.cap(), begun: delivery.begun }
    }
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
            d.phase == DeliveryPhase::Active && (!d.is_fixed() || d.left == 0 || d.startable().is_some())
        })
    };
    if has_work && ensure_turn(bus, event, delivery, Place::Front) {
        advance(bus, worker, event, delivery, Via::Job);
    }
    if is_active(event, delivery) {
        // The turn may have come while all its handlers sit in waits that need it given up.
        ending::give_up_if_all_sit(bus, event, delivery);
        if bus.has_limits() {
            limits::set_down_in_line(bus, event, delivery);
        }
    } else {
        // Or after the delivery's end, which found nothing to release.
        let turn = event.state().lock().deliveries.get(delivery).map_or(TurnKind::Free, |d| d.manner.turn);
        release_delivery(bus, delivery_token(event, delivery), turn);
    }
}

/// True if the delivery holds all that its handlers run under. False: it is in line, and a job drives on when its turn comes; or it is over.
pub(crate) fn ensure_turn(bus: &Arc<BusCore>, event: &AnyEvent, delivery: usize, place: Place) -> bool {
    let (manner, under) = match event.state().lock().deliveries.get(delivery) {
        Some(d) if d.phase == DeliveryPhase::Active => (d.manner, d.lender()),
        _ => return false,
    };
    let token = delivery_token(event, delivery);
    let permits: SmallVec<[Permit; 2]> = Holding::of(manner).permits(bus).collect();
    if let [turn, handler] = &permits[..]
        && !turn.step(|s| (s.holds(token), Granted::new()))
    {
        // Its handler was given up between setting down the one and the other. Nobody stands in line for a turn with a handler permit.
        handler.step(|s| ((), s.set_down(token)));
    }
    for permit in permits {
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
pub(crate) fn finish(
    state: &mut State,
    event: &AnyEvent,
    delivery: usize,
    at: Stamp,
    keeps_letters: bool,
) -> Option<Finish> {
    if !state.finish_delivery(delivery) {
        return None;
    }
    let watched = state.has_watchers();
    let timers = state.take_timers(delivery);
    let d = state.deliveries.get_mut(delivery)?;
    let verdict = (!d.cancelled).then(|| verdict(event, d));
    let letters = if keeps_letters && verdict.is_some_and(|v| v.failed) { failures(event, d) } else { Vec::new() };
    let (redrive, limited, verdict) = (d.redrive, d.limited, verdict.filter(|_| !d.redrive));
    let (slot, cap_timer, carries_loop, counted) =
        (d.retire_handlers(), d.take_cap_timer(), d.manner.carries_loop, d.counted);
    let completion = if counted { state.count_down(at) } else { None };
    if completion.is_some() {
        event.publish_complete();
    }
    let forwarded = state.deliveries.len() > 1;
    Some(Finish {
        completion,
        slot,
        cap_timer,
        timers,
        carries_loop,
        watched,
        verdict,
        redrive,
        limited,
        forwarded,
        letters,
    })
}

fn verdict(event: &AnyEvent, delivery: &Delivery) -> Verdict {
    if delivery.any_failed || delivery.records.is_empty() {
        return Verdict::of(event.head().id, delivery.records.iter().map(|record| &record.outcome));
    }
    Verdict::default()
}

fn failures(event: &AnyEvent, delivery: &Delivery) -> Vec<Failure> {
    let failed = |(at, record): (usize, &Record)| match &record.outcome {
        Outcome::Failed(error) if is_own(event.head().id, error) => {
            let (handler, error) = (delivery.handler(at)?.clone(), Arc::clone(error));
            Some(Failure { handler, attempts: record.attempt, error, at: record.ended })
        }
        _ => None,
    };
    delivery.records.iter().enumerate().filter_map(failed).collect()
}

/// What follows from the end of a delivery, but for its permits and the loop.
pub(crate) fn conclude(bus: &Arc<BusCore>, event: &AnyEvent, finish: Finish) {
    for timer in finish.cap_timer.into_iter().chain(finish.timers) {
        bus.runtime.watch.cancel(timer);
    }
    if finish.limited {
        limits::settle(&bus.runtime, event);
    }
    match finish.verdict {
        Some(verdict) if verdict != Verdict::default() => bus.recorder.completed(verdict),
        _ => {}
    }
    for Failure { handler, attempts, error, at } in finish.letters {
        let gone = bus.dead_letters.lock().note(event, &handler, attempts, error, at);
        unwind::drop_quietly(gone);
    }
    if finish.forwarded {
        tell::deliver_everywhere(event);
    } else {
        tell::deliver(bus, event);
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
    if finish.redrive {
        bus.ring_idlers();
    } else {
        bus.note_done();
    }
    // Handlers that were removed meanwhile end here.
    unwind::drop_quietly(finish.slot);
}

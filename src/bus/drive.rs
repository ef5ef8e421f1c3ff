//! Driving a delivery: one handler after another, or beside each other, until none is left (`runtime/README.md`, 3.3).

use crate::bus::attempt::{self, Ended, Returned};
use crate::bus::core::BusCore;
use crate::bus::finish::{Finish, conclude, finish};
use crate::bus::frame::{self, Frame, Holding, Places, Under};
use crate::bus::hand;
use crate::bus::helpers::{other_cores, starts_alone, submit_helper};
use crate::bus::limits;
use crate::bus::permit::delivery_token;
use crate::bus::start::{Attempt, Fixed, Start, fix_handlers, needs_permit};
use crate::bus::tell;
use crate::bus::turn::{release_delivery, submit_resume};
use crate::event::{
    AnyEvent, Cause, CauseKind, ContextMap, Delivery, DeliveryPhase, HandlerFailure, HandlerMode, Outcome, RecordPhase,
    State, TypeSlot,
};
use crate::rules::{ALONE, QUICK};
use crate::runtime::{Stack, Worker};
use crate::sys::clock::{self, NEVER, Stamp, Tick};
use crate::sys::unwind;
use std::sync::Arc;
use std::time::Duration;

mod own_permit;
pub(crate) use own_permit::go_on_with_permit;

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
    /// Since when this thread has been at it.
    since: Tick,
    /// What was started last.
    pub(crate) attempt: Attempt,
    /// What the delivery's handlers run under, while no frame of this driver has it.
    under: Under,
    /// On top of something else, and none of its frames on the thread: what user code does here is a callback's.
    between: bool,
    /// This driver's frame is on the thread, and its slot on the worker's stack; with the context it found there.
    seated: Option<Option<Arc<ContextMap>>>,
    on_stack: bool,
    /// The frame's own hold of the bus, while it is not seated.
    pub(crate) spare: Option<Arc<BusCore>>,
    /// What the delivery held of its handlers, once it is over; the loop's driver leaves it to the loop.
    pub(crate) held: Option<Arc<TypeSlot>>,
    /// What a locked step leaves to do afterwards; here, since moving it through return values takes longer than the step.
    owed: Owed,
}

#[derive(Default)]
struct Owed {
    helpers: u32,
    /// When the watch must look, if earlier than it would.
    look: Option<Tick>,
    finish: Option<Finish>,
    /// An invocation was skipped that may have had a place under a limit.
    skipped: bool,
}

enum Ran {
    Done { carries_loop: bool },
    Left,
}

#[derive(Clone, Copy)]
enum Step {
    /// The attempt that was started.
    Run,
    /// It needs a place under its handler's limit.
    Limit(Wanted),
    /// It needs a permit that the delivery does not hold.
    Permit(Wanted),
    /// The delivery is done, and what that brings with it is owed.
    Finished,
    /// Other jobs stand in line, and this one has had its turn: it goes on after them.
    GiveWay,
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
    let after = Driver::new(bus, worker, event, delivery, &slot, fixed, via, under, now).drive(None);
    // It may be the last to know a handler that was removed meanwhile.
    unwind::drop_quietly(slot);
    after
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
    let under = Under::Hand(places);
    let after = Driver::new(bus, worker, event, delivery, &slot, fixed, Via::Inline, under, now).drive(None);
    // The same, and what it ran under has yet to be given back.
    frame::let_go(slot);
    after
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
        Driver {
            bus,
            worker,
            event,
            delivery,
            slot,
            fixed,
            via,
            now,
            since: now,
            attempt: Attempt::default(),
            under,
            between: false,
            seated: None,
            on_stack: false,
            spare: None,
            held: None,
            owed: Owed::default(),
        }
    }

    /// `started`: its first handler, if the claim has started it.
    pub(crate) fn drive(&mut self, started: Option<Attempt>) -> After {
        self.on_stack = started.is_some();
        let first = started.map(|attempt| {
            self.attempt = attempt;
            Step::Run
        });
        let ran = self.run(first);
        if std::mem::take(&mut self.between) {
            frame::local(|local| local.callbacks -= 1);
        }
        self.leave(ran)
    }

    /// What it calls for every handler is inlined: calls of its own cost 5 % of the instructions of a trivial one.
    fn run(&mut self, first: Option<Step>) -> Ran {
        let mut returned = Returned::default();
        let mut step = first.unwrap_or_else(|| self.step());
        loop {
            step = match step {
                Step::Run => {
                    self.seat();
                    attempt::call(self, &mut returned);
                    self.now = clock::now();
                    self.end_and_step(&mut returned)
                }
                Step::Limit(wanted) => {
                    self.unseat();
                    if !limits::take(self, wanted) {
                        return Ran::Left;
                    }
                    self.step()
                }
                Step::Permit(wanted) => {
                    self.unseat();
                    if !self.with_permit(wanted) {
                        return Ran::Left;
                    }
                    self.step()
                }
                Step::Finished => {
                    self.unseat();
                    let Some(mut finish) = self.owed.finish.take() else { return Ran::Left };
                    if self.fixed.manner.parallel {
                        self.slot.took(self.now.saturating_sub(self.fixed.begun));
                    }
                    let carries_loop = finish.carries_loop;
                    if self.via == Via::Loop {
                        self.held = finish.slot.take();
                    }
                    conclude(self.bus, self.event, finish);
                    return Ran::Done { carries_loop };
                }
                Step::GiveWay => {
                    self.unseat();
                    self.bus.note_set_aside(self.event, self.delivery);
                    submit_resume(self.bus, self.event, self.delivery);
                    return Ran::Left;
                }
                Step::Nothing => {
                    self.unseat();
                    return Ran::Left;
                }
            };
        }
    }

    /// Empties the hand; a job gives back what the delivery held, and goes on as the loop, if the delivery carried it.
    fn leave(&self, ran: Ran) -> After {
        if self.via != Via::Inline
            && let Under::Hand(places) = &self.under
            && let Some(first) = places.first()
        {
            hand::cut_hand(*first);
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
        // The one lock before the other.
        let mut stack = (!self.on_stack).then(|| worker.stack());
        let mut state = event.state().lock();
        self.begin_step(&state);
        let step = self.next(stack.as_deref_mut(), &mut state, self.now);
        drop(state);
        drop(stack);
        self.settle();
        step
    }

    /// The end of an attempt, if it is still ours to end, and what comes next, in the same look.
    fn end_and_step(&mut self, returned: &mut Returned) -> Step {
        let event = self.event;
        let mut state = event.state().lock();
        let at = self.now;
        let ended = attempt::end(self, &mut state, returned, at);
        if let Ended::Quietly = ended {
            let step = self.next(None, &mut state, at);
            drop(state);
            self.settle();
            return step;
        }
        if !matches!(ended, Ended::Lost) {
            self.worker.rest_top();
        }
        drop(state);
        self.unseat();
        if attempt::follow_up(self, ended, returned) { self.step() } else { Step::Nothing }
    }

    /// Under the event's lock: what it starts, which may be at the time at which the step before ended something, is told after that.
    fn begin_step(&self, state: &State) {
        if let Some(delivery) = state.deliveries.get(self.delivery) {
            delivery.begin_step();
        }
    }

    /// Under the event's lock, and the stack's if the delivery is not on it.
    #[inline(always)]
    fn next(&mut self, stack: Option<&mut Stack>, state: &mut State, at: Stamp) -> Step {
        let step = self.next_step(stack, state, at);
        if self.on_stack && !matches!(step, Step::Run) {
            self.worker.rest_top();
        }
        step
    }

    #[inline(always)]
    fn next_step(&mut self, stack: Option<&mut Stack>, state: &mut State, at: Stamp) -> Step {
        // The wall clock may be set back after the event was stamped.
        let at = at.max(self.event.head().stamp() + 1);
        let Some(delivery) = state.deliveries.get_mut(self.delivery) else { return Step::Nothing };
        if delivery.phase != DeliveryPhase::Active {
            return Step::Nothing;
        }
        delivery.manner.inline &= self.via == Via::Inline;
        let invocation = loop {
            let Some(invocation) = delivery.startable() else {
                if delivery.left > 0 {
                    return Step::Nothing;
                }
                self.owed.finish = finish(state, self.event, self.delivery, at, self.bus.recorder.keeps());
                return if self.owed.finish.is_some() { Step::Finished } else { Step::Nothing };
            };
            if !self.is_off(delivery, invocation) && !self.fixed.is_up() {
                break invocation;
            }
            self.skip(delivery, invocation, at);
        };
        if self.bus.runtime.pool.is_pressed() && self.gives_way() {
            return Step::GiveWay;
        }
        let record = &delivery.records[invocation];
        let (mode, attempt) = (record.mode, record.attempt);
        if self.slot.handlers[invocation].limited {
            return self.limited_step(stack, state, invocation, at);
        }
        let step = if needs_permit(mode, delivery.manner.bus_handler) {
            delivery.set_aside(invocation);
            Step::Permit(Wanted { invocation, attempt, mode })
        } else {
            if !self.start(stack, delivery, invocation, RecordPhase::Pending, at) {
                return Step::Nothing;
            }
            Step::Run
        };
        if delivery.manner.parallel {
            self.beside(state, step, invocation);
        }
        if state.started == 0 && matches!(step, Step::Run) {
            state.started = at;
        }
        step
    }

    /// `off` has ended its registration before its first attempt.
    #[inline]
    fn is_off(&self, delivery: &Delivery, invocation: usize) -> bool {
        !self.slot.handlers[invocation].entry.info.is_registered() && delivery.records[invocation].attempt == 0
    }

    /// Under the event's lock: it does not start any more.
    #[cold]
    fn skip(&mut self, delivery: &mut Delivery, invocation: usize, at: Stamp) {
        let failure = if self.fixed.is_up() {
            HandlerFailure::TimedOut { after: Duration::ZERO, detail: None }
        } else {
            let (head, info) = (self.event.head(), &self.slot.handlers[invocation].entry.info);
            let cause = Cause::new(CauseKind::Off, head.id(), self.event.event_type());
            HandlerFailure::Cancelled { cause: cause.with_handler(info.id(), info.label()) }
        };
        delivery.end_record(invocation, Outcome::Failed(Arc::new(failure)), at);
        self.owed.skipped = true;
    }

    /// The same for a handler with a limit.
    #[cold]
    fn limited_step(&mut self, stack: Option<&mut Stack>, state: &mut State, invocation: usize, at: Stamp) -> Step {
        let in_use = state.place_is_in_use(self.delivery, invocation);
        let Some(delivery) = state.deliveries.get_mut(self.delivery) else { return Step::Nothing };
        let record = &mut delivery.records[invocation];
        record.placed &= !in_use;
        let (mode, attempt, placed) = (record.mode, record.attempt, record.placed);
        let wanted = Wanted { invocation, attempt, mode };
        let step = if !placed {
            delivery.set_aside(invocation);
            Step::Limit(wanted)
        } else if needs_permit(mode, delivery.manner.bus_handler) {
            delivery.set_aside(invocation);
            Step::Permit(wanted)
        } else if self.start(stack, delivery, invocation, RecordPhase::Pending, at) {
            Step::Run
        } else {
            return Step::Nothing;
        };
        if delivery.manner.parallel {
            self.beside(state, step, invocation);
        } else if matches!(step, Step::Run) {
            self.waits_no_more(state);
        }
        if state.started == 0 && matches!(step, Step::Run) {
            state.started = at;
        }
        step
    }

    /// What a step means for the handlers beside this one.
    fn beside(&mut self, state: &mut State, step: Step, invocation: usize) {
        let runs = matches!(step, Step::Run);
        if runs {
            self.waits_no_more(state);
        }
        if let Some(delivery) = state.deliveries.get_mut(self.delivery)
            && !(runs && self.is_enough(invocation))
        {
            // Somebody must be left to claim the next one; the first time, as many as can run.
            self.owed.helpers = delivery.ask_for_helpers(if invocation == 0 { other_cores() } else { 1 });
        }
    }

    /// Something of it runs.
    pub(super) fn waits_no_more(&self, state: &mut State) {
        if let Some(wait) = state.end_wait(self.delivery) {
            self.bus.wait_is_over(self.event, wait, Some(self.fixed.begun));
        }
    }

    /// Not on the stack of a handler that waits: that one would have to wait for its turn, too.
    #[cold]
    fn gives_way(&self) -> bool {
        let worked = self.now.saturating_sub(self.since);
        self.via != Via::Inline && self.bus.manual.is_none() && self.bus.runtime.pool.gives_way(worked)
    }

    /// Nobody else is needed, after so many handlers. See [`TypeSlot::is_quick`].
    fn is_enough(&self, handlers: usize) -> bool {
        let time = self.now.saturating_sub(self.fixed.begun);
        starts_alone(self.bus, self.event, self.slot) && time <= ALONE + QUICK * handlers as Tick
    }

    /// True if it was started, as `attempt`.
    #[inline(always)]
    fn start(
        &mut self,
        stack: Option<&mut Stack>,
        delivery: &mut Delivery,
        invocation: usize,
        from: RecordPhase,
        at: Stamp,
    ) -> bool {
        let Driver { bus, worker, event, slot, now, .. } = *self;
        let start = Start { bus, worker, event, delivery: self.delivery, slot, now };
        let started = start.start(stack, delivery, self.fixed, invocation, from, at);
        let Some((attempt, earlier)) = started else { return false };
        self.on_stack = true;
        self.attempt = attempt;
        self.owed.look = earlier;
        true
    }

    /// Puts the frame on the thread, or turns the one of the handler before into this one's.
    #[inline(always)]
    fn seat(&mut self) {
        let Attempt { invocation, number, deadline, given_up, .. } = self.attempt;
        if self.seated.is_some() {
            frame::local(|local| {
                let Some((frame, below)) = local.frames.split_last_mut() else { return };
                frame.invocation = invocation;
                frame.attempt = number;
                frame.given_up = given_up;
                frame.handler = self.slot.handlers[invocation].id;
                frame.link = None;
                let below = below.get(local.floor..).and_then(<[Frame]>::last);
                frame.deadline = deadline.min(below.map_or(NEVER, |f| f.deadline));
            });
            return;
        }
        let context = self.event.head().context().cloned();
        let between = std::mem::take(&mut self.between);
        self.seated = frame::local(|local| {
            local.callbacks -= u32::from(between);
            let deadline = deadline.min(local.below().map_or(NEVER, |f| f.deadline));
            local.frames.push(Frame {
                event: self.event.clone(),
                bus: self.spare.take().unwrap_or_else(|| Arc::clone(self.bus)),
                delivery: self.delivery,
                invocation,
                attempt: number,
                given_up,
                deadline,
                handler: self.slot.handlers[invocation].id,
                link: None,
                holding: Holding::of(self.fixed.manner),
                under: std::mem::replace(&mut self.under, Under::Delivery),
            });
            std::mem::replace(&mut local.context, context)
        });
    }

    /// Takes the frame off the thread, and the slot off the stack.
    fn unseat(&mut self) {
        if self.on_stack {
            // Not the last hold of the event: this driver has one.
            drop(self.worker.pop());
            self.on_stack = false;
        }
        let Some(context) = self.seated.take() else { return };
        self.between = self.via == Via::Inline;
        let gone = frame::local(|local| {
            local.callbacks += u32::from(self.between);
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
                let places = hand::hold(holding, self.bus, self.event, self.delivery);
                self.under = Under::Hand(places.clone());
                places
            }
        }
    }

    /// What a locked step left to do.
    #[inline]
    fn settle(&mut self) {
        if let Some(at) = self.owed.look.take() {
            self.bus.runtime.watch.look_at(at, self.worker);
        }
        if std::mem::take(&mut self.owed.skipped) && self.bus.has_limits() {
            limits::settle(&self.bus.runtime, self.event);
        }
        for _ in 0..std::mem::take(&mut self.owed.helpers) {
            submit_helper(self.bus, self.event, self.delivery);
        }
        tell::deliver(self.bus, self.event);
    }
}

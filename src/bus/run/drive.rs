//! Driving a delivery: one handler after another, or beside each other, until none is left (`README.md`, *Driving a delivery*).

use crate::bus::core::delivery::DeliveryRef;
use crate::bus::core::helpers::{other_cores, starts_alone};
use crate::bus::end::duties::conclude;
use crate::bus::end::finish::finish;
use crate::bus::end::tree;
use crate::bus::permits::hand;
use crate::bus::run::attempt::{self, Ended, Returned};
use crate::bus::run::driver::{After, Driver, Ran, Via, Wanted};
use crate::bus::run::limited;
use crate::bus::run::own_permit::permit_for;
use crate::bus::run::start::{Begun, Invoked, Start, fix_handlers, needs_permit};
use crate::bus::thread::frame::{self, Grips, Under};
use crate::event::{DeliveryPhase, HandlerMode, RecordPhase, State};
use crate::rules::{ALONE, QUICK};
use crate::runtime::{Stack, Worker};
use crate::sync::Token;
use crate::sys::clock::{self, Stamp, Tick};
use crate::sys::sync::atomic::Ordering;
use crate::sys::{planted, unwind};
use std::sync::Arc;

#[derive(Clone, Copy)]
enum Step {
    /// The attempt that was started.
    Run,
    /// It needs a place under its handler's limit.
    Limit(Wanted),
    /// It needs a permit that the delivery does not hold.
    Permit(Wanted),
    /// What is above it was cancelled: it ends before its next handler starts.
    Doomed,
    /// The delivery is done, and what that brings with it is owed.
    Finished,
    /// Other jobs stand in line, and this one has had its turn: it goes on after them.
    GiveWay,
    Nothing,
}

/// Drives on from wherever the delivery stands.
pub(crate) fn advance(delivery: DeliveryRef<'_>, worker: &Arc<Worker>, via: Via) -> After {
    let now = clock::now();
    let Some((slot, fixed, cap)) = fix_handlers(delivery, now) else { return After::Left };
    let start = Start { delivery, worker, slot: &slot, now };
    let mut driver = Driver::new(start, fixed, via, Under::Delivery);
    driver.owed.cap = cap;
    let after = driver.drive();
    // It may be the last to know a handler that was removed meanwhile.
    unwind::drop_quietly(slot);
    after
}

/// Drives a delivery that its claim has begun, on the stack of the caller, from its first handler on.
#[inline]
pub(crate) fn drive_begun(start: Start<'_>, begun: &Begun, under: Under) -> After {
    let mut driver = Driver::new(start, begun.fixed, Via::Inline, under);
    driver.take_over(begun);
    driver.drive()
}

/// Drives on, on the stack of a handler that waits or of a caller of `emit_now`: `grips` is where in its hand the permits are.
pub(crate) fn advance_inline(delivery: DeliveryRef<'_>, worker: &Arc<Worker>, grips: Grips) -> After {
    let now = clock::now();
    let Some((slot, fixed, cap)) = fix_handlers(delivery, now) else { return After::Left };
    let start = Start { delivery, worker, slot: &slot, now };
    let mut driver = Driver::new(start, fixed, Via::Inline, Under::Hand(grips));
    driver.owed.cap = cap;
    let after = driver.drive();
    // It may be the last to know a handler that was removed, and what it ran under has yet to be given back.
    frame::let_go(slot);
    after
}

/// A ticket's turn has come, on a thread of the pool: the invocation's permit, which `token` holds, is there.
pub(crate) fn go_on_with_permit(
    delivery: DeliveryRef<'_>,
    worker: &Arc<Worker>,
    invocation: usize,
    mode: HandlerMode,
    token: Token,
) {
    let (now, permit) = (clock::now(), permit_for(delivery.bus, mode));
    let Some((slot, fixed, cap)) = fix_handlers(delivery, now) else {
        permit.release(token);
        return;
    };
    let mut driver = Driver::new(Start { delivery, worker, slot: &slot, now }, fixed, Via::Job, Under::Delivery);
    driver.owed.cap = cap;
    let goes_on = driver.start_set_aside(invocation, Some((permit, token)));
    let ran = if goes_on { driver.run(None) } else { Ran::Left };
    driver.leave(ran);
}

impl Driver<'_> {
    pub(crate) fn drive(&mut self) -> After {
        let ran = self.run(self.on_stack.then_some(Step::Run));
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
                    if !limited::take(self, wanted) {
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
                    let limited = finish.limited;
                    if limited {
                        self.is_leaving(!carries_loop);
                    }
                    if self.via == Via::Loop {
                        self.held = finish.slot.take();
                    }
                    conclude(self.delivery, finish);
                    if limited {
                        self.is_leaving(false);
                    }
                    return Ran::Done { carries_loop };
                }
                Step::Doomed => {
                    self.unseat();
                    tree::end_doomed(self.delivery.event);
                    return Ran::Left;
                }
                Step::GiveWay => {
                    self.unseat();
                    self.delivery.note_set_aside();
                    self.delivery.submit_resume();
                    return Ran::Left;
                }
                Step::Nothing => {
                    self.unseat();
                    return Ran::Left;
                }
            };
        }
    }

    /// A turn that comes while its delivery is concluded is for this thread, if its job is over then.
    #[cold]
    fn is_leaving(&self, leaves: bool) {
        self.worker.is_leaving.store(leaves && self.via == Via::Job, Ordering::Relaxed);
    }

    /// Empties the hand; a job gives back what the delivery held, and goes on as the loop, if the delivery carried it.
    fn leave(&self, ran: Ran) -> After {
        if self.via != Via::Inline
            && let Under::Hand(grips) = &self.under
            && let Some(first) = grips.first()
        {
            hand::cut_hand(*first);
        }
        let Ran::Done { carries_loop } = ran else { return After::Left };
        if self.via == Via::Job {
            let turn = self.fixed.manner.turn;
            if carries_loop {
                self.delivery.bus.run_loop(self.worker, Some((self.delivery.token(), turn)));
            } else {
                self.delivery.release(turn);
            }
        }
        After::Done(self.now)
    }

    /// What comes next, in one look at the event.
    fn step(&mut self) -> Step {
        let (worker, event) = (self.worker, self.delivery.event);
        // The one lock before the other.
        let mut stack = (!self.on_stack).then(|| worker.stack());
        let mut state = event.state().lock();
        self.begin_step(&state);
        let step = self.next(stack.as_deref_mut(), &mut state, self.now);
        drop(state);
        drop(stack);
        self.settled(step)
    }

    /// With nothing locked, what a step left to do; the end of the delivery has duties of its own.
    #[inline(always)]
    fn settled(&mut self, step: Step) -> Step {
        if !matches!(step, Step::Finished) {
            self.settle();
        }
        step
    }

    /// The end of an attempt, if it is still ours to end, and what comes next, in the same look.
    fn end_and_step(&mut self, returned: &mut Returned) -> Step {
        let event = self.delivery.event;
        let mut state = event.state().lock();
        let at = self.now;
        let ended = attempt::end(self, &mut state, returned, at);
        if let Ended::Quietly = ended {
            let step = self.next(None, &mut state, at);
            drop(state);
            return self.settled(step);
        }
        if !matches!(ended, Ended::Lost) {
            self.worker.end_top();
        }
        drop(state);
        self.unseat();
        if attempt::follow_up(self, ended, returned) { self.step() } else { Step::Nothing }
    }

    /// Under the event's lock: what it starts, which may be at the time at which the step before ended something, is told after that.
    pub(crate) fn begin_step(&self, state: &State) {
        if let Some(delivery) = self.delivery.in_state(state) {
            delivery.begin_step();
        }
    }

    /// Under the event's lock, and the stack's if the delivery is not on it.
    #[inline(always)]
    fn next(&mut self, stack: Option<&mut Stack>, state: &mut State, at: Stamp) -> Step {
        let step = self.next_step(stack, state, at);
        if self.on_stack && !matches!(step, Step::Run) {
            self.worker.end_top();
        }
        step
    }

    #[inline(always)]
    fn next_step(&mut self, stack: Option<&mut Stack>, state: &mut State, at: Stamp) -> Step {
        // The wall clock may be set back after the event was stamped.
        let at = at.max(self.delivery.event.head().stamp() + 1);
        let Some(delivery) = self.delivery.in_state_mut(state) else { return Step::Nothing };
        if delivery.phase != DeliveryPhase::Active {
            return Step::Nothing;
        }
        delivery.manner.inline &= self.via == Via::Inline;
        let invocation = loop {
            let Some(invocation) = delivery.startable() else {
                if delivery.left > 0 {
                    if !planted("leaves_and_seems_to_stay") {
                        // Whoever makes something startable finds no thread at it.
                        delivery.leave_stack();
                    }
                    return Step::Nothing;
                }
                self.owed.finish =
                    finish(state, self.delivery.event, self.delivery.index, at, self.delivery.bus.recorder.keeps());
                return if self.owed.finish.is_some() { Step::Finished } else { Step::Nothing };
            };
            if !self.is_off(delivery, invocation) && !self.fixed.is_up() {
                break invocation;
            }
            self.skip(delivery, invocation, at);
        };
        if self.delivery.bus.runtime.pool.is_pressed() && self.gives_way() {
            return Step::GiveWay;
        }
        if self.delivery.event.is_doomed() && !planted("doomed_goes_on") {
            return Step::Doomed;
        }
        let record = &delivery.records[invocation];
        let (mode, attempt) = (record.mode, record.attempt);
        if self.slot.handlers[invocation].limited {
            return self.limited_step(stack, state, invocation, at);
        }
        let step = if needs_permit(mode, delivery.manner) {
            delivery.set_aside(invocation);
            Step::Permit(Wanted { invocation, attempt, mode })
        } else {
            if !self.start(stack, delivery, Invoked { invocation, from: RecordPhase::Pending, at }) {
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

    /// The next step of a handler with a limit.
    #[cold]
    fn limited_step(&mut self, stack: Option<&mut Stack>, state: &mut State, invocation: usize, at: Stamp) -> Step {
        let in_use = state.place_is_in_use(self.delivery.index, invocation);
        let Some(delivery) = self.delivery.in_state_mut(state) else { return Step::Nothing };
        let record = &mut delivery.records[invocation];
        record.placed &= !in_use;
        let (mode, attempt, placed) = (record.mode, record.attempt, record.placed);
        let wanted = Wanted { invocation, attempt, mode };
        let step = if !placed {
            delivery.set_aside(invocation);
            Step::Limit(wanted)
        } else if needs_permit(mode, delivery.manner) {
            delivery.set_aside(invocation);
            Step::Permit(wanted)
        } else if self.start(stack, delivery, Invoked { invocation, from: RecordPhase::Pending, at }) {
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
        if let Some(delivery) = self.delivery.in_state_mut(state)
            && !(runs && self.is_enough(invocation))
        {
            // Somebody must be left to claim the next one; the first time, as many as can run.
            self.owed.helpers = delivery.ask_for_helpers(if invocation == 0 { other_cores() } else { 1 });
        }
    }

    /// Not on the stack of a handler that waits: that one would have to wait for its turn, too.
    #[cold]
    fn gives_way(&self) -> bool {
        let worked = self.now.saturating_sub(self.since);
        self.via != Via::Inline && self.delivery.bus.is_pooled() && self.delivery.bus.runtime.pool.gives_way(worked)
    }

    /// Nobody else is needed, after so many handlers. See [`TypeSlot::is_quick`].
    fn is_enough(&self, handlers: usize) -> bool {
        let time = self.now.saturating_sub(self.fixed.begun);
        starts_alone(self.delivery.bus, self.delivery.event, self.slot) && time <= ALONE + QUICK * handlers as Tick
    }
}

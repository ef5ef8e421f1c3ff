//! One thread's part in a delivery: its frame on the thread, its slot on the worker's stack, and what it starts.

use crate::bus::core::BusCore;
use crate::bus::core::delivery::DeliveryRef;
use crate::bus::end::duties::Duties;
use crate::bus::end::off::off;
use crate::bus::permits::asleep::{Holder, Sleeps};
use crate::bus::permits::hand;
use crate::bus::run::start::{Attempt, Begun, Fixed, Invoked, Start};
use crate::bus::thread::frame::{self, Frame, Grips, Holding, Under};
use crate::event::{AttemptKey, ContextMap, Delivery, HandlerFailure, HandlerMode, Outcome, State, TypeSlot};
use crate::runtime::{Stack, Worker};
use crate::sys::clock::{NEVER, Stamp, Tick};
use std::sync::Arc;
use std::time::Duration;

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
    pub(crate) delivery: DeliveryRef<'a>,
    pub(crate) worker: &'a Arc<Worker>,
    pub(crate) slot: &'a TypeSlot,
    pub(crate) fixed: Fixed,
    pub(crate) via: Via,
    /// The end of the handler before is the start of the next, unless something blocked in between.
    pub(crate) now: Tick,
    /// Since when this thread has been at it.
    pub(crate) since: Tick,
    /// What was started last.
    pub(crate) attempt: Attempt,
    /// What the delivery's handlers run under, while no frame of this driver has it.
    pub(crate) under: Under,
    /// On top of something else, and none of its frames on the thread: what user code does here is a callback's.
    pub(crate) between: bool,
    /// This driver's frame is on the thread, and its slot on the worker's stack; with the context it found there.
    pub(crate) seated: Option<Option<Arc<ContextMap>>>,
    pub(crate) on_stack: bool,
    /// The frame's own hold of the bus, while it is not seated.
    pub(crate) spare: Option<Arc<BusCore>>,
    /// What the delivery held of its handlers, once it is over; the loop's driver leaves it to the loop.
    pub(crate) held: Option<Arc<TypeSlot>>,
    /// What a locked step leaves to do afterwards; here, since moving it through return values takes longer than the step.
    pub(crate) owed: Duties,
    /// The handler below has a place under a limit, and waits while this driver's frame is on top of it.
    pub(crate) beneath: Option<Box<Sleeps>>,
}

/// What became of a drive.
pub(crate) enum Ran {
    Done { carries_loop: bool },
    Left,
}

/// An invocation that needs more than its delivery holds.
#[derive(Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) invocation: usize,
    /// How often it was tried.
    pub(crate) attempt: u32,
    pub(crate) mode: HandlerMode,
}

impl<'a> Driver<'a> {
    pub(crate) fn new(start: Start<'a>, fixed: Fixed, via: Via, under: Under) -> Self {
        let Start { delivery, worker, slot, now } = start;
        Driver {
            delivery,
            worker,
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
            owed: Duties::default(),
            beneath: None,
        }
    }

    /// Takes over a delivery that its claim has begun, and does what that has left to do.
    #[inline(always)]
    pub(crate) fn take_over(&mut self, begun: &Begun) {
        if let Some((attempt, look)) = begun.started {
            (self.attempt, self.owed.look, self.on_stack) = (attempt, look, true);
        }
        self.owed.cap = begun.fixed.cap_ahead();
        self.owed.sweeps = begun.lines_up;
        self.settle();
    }

    /// Of what was started last.
    #[inline(always)]
    pub(crate) fn key(&self) -> AttemptKey {
        let Attempt { invocation, number, .. } = self.attempt;
        AttemptKey { delivery: self.delivery.index, invocation, attempt: number }
    }

    /// `off` has ended its registration before its first attempt.
    #[inline]
    pub(crate) fn is_off(&self, delivery: &Delivery, invocation: usize) -> bool {
        !self.slot.handlers[invocation].entry.info.is_registered() && delivery.records[invocation].attempt == 0
    }

    /// Under the event's lock: it does not start any more.
    #[cold]
    pub(crate) fn skip(&mut self, delivery: &mut Delivery, invocation: usize, at: Stamp) {
        let failure = if self.fixed.is_up() {
            HandlerFailure::TimedOut { after: Duration::ZERO, detail: None }
        } else {
            off(self.delivery.event, &self.slot.handlers[invocation].entry.info)
        };
        delivery.end_record(invocation, Outcome::Failed(Arc::new(failure)), at);
        self.owed.limits = true;
    }

    /// Something of it runs.
    pub(crate) fn waits_no_more(&self, state: &mut State) {
        if let Some(wait) = state.end_wait(self.delivery.index) {
            self.delivery.bus.wait_is_over(self.delivery.event, wait, Some(self.fixed.begun));
        }
    }

    /// True if it was started, as `attempt`.
    #[inline(always)]
    pub(crate) fn start(&mut self, stack: Option<&mut Stack>, delivery: &mut Delivery, invoked: Invoked) -> bool {
        let start = Start { delivery: self.delivery, worker: self.worker, slot: self.slot, now: self.now };
        let started = start.start(stack, delivery, self.fixed, invoked);
        let Some((attempt, earlier)) = started else { return false };
        self.on_stack = true;
        self.attempt = attempt;
        self.owed.look = earlier;
        true
    }

    /// Puts the frame on the thread, or turns the one of the handler before into this one's.
    #[inline(always)]
    pub(crate) fn seat(&mut self) {
        let Attempt { invocation, number, deadline, given_up, .. } = self.attempt;
        if self.seated.is_some() {
            frame::local(|local| {
                let Some((frame, below)) = local.frames.split_last_mut() else { return };
                frame.invocation = invocation;
                frame.attempt = number;
                frame.given_up = given_up;
                frame.handler = self.slot.handlers[invocation].id;
                frame.limited = self.slot.handlers[invocation].limited;
                frame.link = None;
                let below = below.get(local.floor..).and_then(<[Frame]>::last);
                frame.deadline = deadline.min(below.map_or(NEVER, |f| f.deadline));
            });
            return;
        }
        let context = self.delivery.event.head().context().cloned();
        let between = std::mem::take(&mut self.between);
        let mut is_above_a_place = false;
        self.seated = frame::local(|local| {
            local.callbacks -= u32::from(between);
            let deadline = deadline.min(local.below().map_or(NEVER, |f| f.deadline));
            is_above_a_place = local.frames.last().is_some_and(|below| below.limited);
            local.frames.push(Frame {
                event: self.delivery.event.clone(),
                bus: self.spare.take().unwrap_or_else(|| Arc::clone(self.delivery.bus)),
                delivery: self.delivery.index,
                invocation,
                attempt: number,
                given_up,
                deadline,
                handler: self.slot.handlers[invocation].id,
                limited: self.slot.handlers[invocation].limited,
                lends: false,
                link: None,
                holding: Holding::of(self.fixed.manner),
                under: std::mem::replace(&mut self.under, Under::Delivery),
            });
            std::mem::replace(&mut local.context, context)
        });
        if is_above_a_place {
            self.lies_above_a_place();
        }
    }

    #[cold]
    fn lies_above_a_place(&mut self) {
        let below = frame::local(|local| Holder::of(local.frames.iter().rev().nth(1)?)).flatten();
        self.beneath = below.and_then(|holder| holder.sleeps(self.worker, Some(self.delivery.event)));
    }

    /// Takes the frame off the thread, and the slot off the stack.
    pub(crate) fn unseat(&mut self) {
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
            (local.pop(), context)
        });
        if let Some((Some(frame), context)) = gone {
            self.under = frame.under;
            self.spare = Some(frame.bus);
            drop(context);
        }
        if self.beneath.is_some() {
            self.beneath = None;
        }
    }

    /// What the delivery's handlers run under, in the hand.
    pub(crate) fn grips(&mut self) -> Grips {
        match &self.under {
            Under::Hand(grips) => grips.clone(),
            Under::Delivery => {
                let holding = Holding::of(self.fixed.manner);
                let grips = hand::hold(holding, self.delivery);
                self.under = Under::Hand(grips.clone());
                grips
            }
        }
    }

    /// What a locked step left to do.
    #[inline(always)]
    pub(crate) fn settle(&mut self) {
        self.owed.settle(self.delivery, self.worker);
    }
}

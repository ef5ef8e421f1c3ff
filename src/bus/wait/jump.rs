//! Waiting: outside of handlers a park; inside of one the queue-jump (`README.md`, *A wait inside a handler*).

use crate::bus::core::BusCore;
use crate::bus::core::delivery::DeliveryRef;
use crate::bus::core::hold::beside;
use crate::bus::core::permit::attempt_token;
use crate::bus::end::cancel::cascade;
use crate::bus::end::duties::end_pauses;
use crate::bus::end::tree;
use crate::bus::middleware::tell;
use crate::bus::parts::for_event::{plan_for, timing_for};
use crate::bus::parts::recorder::By;
use crate::bus::permits::asleep;
use crate::bus::permits::delivery::give_back_grants;
use crate::bus::permits::hand;
use crate::bus::run::start;
use crate::bus::thread::ancestry;
use crate::bus::thread::ancestry::is_below;
use crate::bus::thread::forbid::may_block;
use crate::bus::thread::frame::{self, Barred, Frame};
use crate::bus::thread::parking::Rested;
use crate::bus::wait::child;
use crate::bus::wait::claimable;
use crate::bus::wait::here::{is_parallel, lender, manner, run_here};
use crate::bus::wait::outside::wait_outside;
use crate::bus::wait::parked::Parked;
use crate::bus::wait::take_back::take_back;
use crate::bus::wait::told;
use crate::bus::wait::waiting::{Waiting, deregister, register};
use crate::event::{
    AnyEvent, AttemptKey, Cause, CauseKind, DeliveryPhase, EmitError, Pause, Plan, TurnKind, TypeSlot, Unrun, WaitError,
};
use crate::runtime::{Needs, Serves, Worker};
use crate::sync::{Position, Token};
use crate::sys::clock::{self, NEVER, Tick};
use crate::sys::{logging, planted};
use smallvec::SmallVec;
use std::sync::Arc;

#[track_caller]
pub(crate) fn wait(event: &AnyEvent, waiting: Waiting) -> Result<(), WaitError> {
    let deadline = waiting.timeout.map_or(NEVER, |timeout| clock::after(clock::now(), timeout));
    if !waiting.is_over(event) {
        let barred = frame::barred();
        if let Some(Barred::Callback) = barred {
            return Err(WaitError::Deadlock(format!("a callback that is not a handler waits for {event}")));
        }
        if waiting.first_value {
            event.state().lock().links().value_wanted = true;
        }
        if waiting == Waiting::JUMP && child::run(event) {
            return Ok(());
        }
        if barred.is_some() {
            may_block(|| format!("waits for {event}"))?;
        }
        match (Worker::current(), frame::top()) {
            (Some(worker), Some(frame)) => {
                let jump = Jump { worker, frame, waiting, deadline };
                let waited = jump.wait(event);
                jump.worker.ends_wait();
                waited?;
            }
            (Some(worker), None) => {
                let waited = wait_outside(event, Some(&worker), waiting, deadline);
                worker.ends_wait();
                waited?;
            }
            // The thread is ending, and its locals are gone.
            (None, _) => wait_outside(event, None, waiting, deadline)?,
        }
    }
    let state = event.state().lock();
    if let Some(error) = state.rejected() {
        let error: EmitError = error.clone();
        return Err(WaitError::Rejected(error));
    }
    let unrun = state.unrun();
    let watched = if state.complete { tell::watched_by(&state) } else { SmallVec::new() };
    drop(state);
    if !watched.is_empty() {
        told::wait_told(event, &watched, deadline);
    }
    match unrun {
        Unrun::No => Ok(()),
        Unrun::Cancelled => Err(WaitError::Cancelled),
        Unrun::Dropped => Err(WaitError::Dropped),
    }
}

/// A wait inside a handler.
pub(crate) struct Jump {
    pub(crate) worker: Arc<Worker>,
    pub(crate) frame: Frame,
    pub(crate) waiting: Waiting,
    pub(crate) deadline: Tick,
}

impl Jump {
    fn wait(&self, event: &AnyEvent) -> Result<(), WaitError> {
        if let Some(chain) = ancestry::is_above(event, &self.frame) {
            return Err(WaitError::Deadlock(chain));
        }
        let before = self.go_deeper(event)?;
        let ended = self.wait_for(event);
        if ended.is_err() {
            // Nobody waits on from here.
            event.head().set_wait_depth(before);
        }
        ended
    }

    /// One more handler waits, unless that would be one too many. What it was before.
    fn go_deeper(&self, event: &AnyEvent) -> Result<u32, WaitError> {
        let limit = self.frame.bus.runtime.max_wait_depth;
        let (before, above) = (event.head().wait_depth(), self.frame.event.head().wait_depth());
        if above >= limit {
            let chain = ancestry::kinds_above(&self.frame.event, event);
            // Or those above, which wait for what this handler has emitted, would run it, and its handlers emit the next.
            let Frame { event: own, delivery, invocation, .. } = &self.frame;
            let cause = Cause::new(CauseKind::Cancelled, own.head().id(), own.body().event_type());
            cascade(own, *delivery, Some(*invocation), &cause);
            return Err(WaitError::TooDeep { limit: limit as usize, chain });
        }
        event.head().set_wait_depth(before.max(above + 1));
        Ok(before)
    }

    fn wait_for(&self, event: &AnyEvent) -> Result<(), WaitError> {
        if self.frame.holding.shared {
            // What it waits for may need the handlers beside it.
            self.frame.bus.delivery(&self.frame.event, self.frame.delivery).call_helpers();
        }
        let ended = self.process(event);
        self.end_pauses();
        if self.frame.bus.has_limits() {
            take_back(&self.worker, &self.frame, event);
        }
        if !hand::take_back(&self.worker, &self.frame) {
            // Whoever ended this handler has seen to its permits.
            return Err(WaitError::Aborted);
        }
        ended
    }

    fn process(&self, event: &AnyEvent) -> Result<(), WaitError> {
        loop {
            if self.waiting.is_over(event) {
                return Ok(());
            }
            if !self.frame.is_live() {
                return Err(WaitError::Aborted);
            }
            if self.deadline != NEVER && clock::now() >= self.deadline {
                return Err(WaitError::Timeout(self.waiting.timeout.unwrap_or_default()));
            }
            if !self.waiting.in_order && self.run_what_is_queued(event)? {
                continue;
            }
            self.park(event, &|| self.waiting.is_over(event))?;
        }
    }

    /// One round over what is claimable. False if there was nothing.
    fn run_what_is_queued(&self, event: &AnyEvent) -> Result<bool, WaitError> {
        // By far the commonest: a child that was just emitted.
        if let Some(index) = first_queued(event) {
            self.run(event, index, event)?;
            return Ok(true);
        }
        let targets = claimable::claimable(event, &self.frame.bus.runtime);
        let any = !targets.is_empty();
        for (target, index) in targets {
            if self.waiting.is_over(event) || !self.frame.is_live() {
                break;
            }
            self.run(&target, index, event)?;
        }
        Ok(any)
    }

    /// Claims a queued delivery, if nobody else has, and sees it through to its end.
    fn run(&self, target: &AnyEvent, index: usize, awaited: &AnyEvent) -> Result<(), WaitError> {
        let identity = target.state().lock().deliveries.get(index).map(|d| Arc::clone(&d.bus));
        let Some(bus) = identity.and_then(|identity| BusCore::of(&identity)) else { return Ok(()) };
        let slot = bus.registry.slot(target.body(), &bus.defaults);
        let plan = plan_for(target, &slot, &bus.defaults);
        let inside = bus.go_inside_in_wait(&self.worker);
        let foreign = matches!(inside, Some(None));
        if foreign {
            self.check_attached(&bus, target)?;
        } else if inside.is_some() && self.worker.is_deep() {
            // Nobody but this thread could, and its stack is used up.
            return Err(WaitError::NoThread(1));
        }
        let delivery = bus.delivery(target, index);
        let elsewhere = foreign || self.must_run_elsewhere(delivery, &slot, plan, awaited);
        let lender = lender(&bus, plan);
        let needs = plan.turn != TurnKind::Free || plan.bus_handler;
        let keeps = || hand::attached_to(&self.worker).is_some_and(|own| Arc::ptr_eq(&own, &bus));
        if elsewhere && needs && self.worker.is_deep() && keeps() {
            // It needs the turn of this handler, whose own thread most likely stands still and cannot give it up.
            return Err(WaitError::NoThread(1));
        }
        {
            let mut state = target.state().lock();
            if target.is_doomed() {
                drop(state);
                tree::end_doomed(target);
                return Ok(());
            }
            let Some(delivery) = delivery.in_state_mut(&mut state) else { return Ok(()) };
            if delivery.phase != DeliveryPhase::Queued && !planted("jump_claims_again") {
                return Ok(());
            }
            delivery.phase = DeliveryPhase::Active;
            let queued = start::queued_for(target, delivery, clock::now());
            bus.recorder.queued_for(queued, By::Anybody, || bus.counters.claimed());
            delivery.begun = 0;
            delivery.manner = manner(plan, !elsewhere);
            // On another thread it would run beside whatever this one runs next.
            delivery.set_lender(lender.filter(|_| !elsewhere));
        }
        delivery.leaves_queue();
        if !Arc::ptr_eq(&bus, &self.frame.bus) && plan.turn != TurnKind::Free {
            self.pause(&bus);
        }
        if elsewhere {
            if delivery.ensure_turn(Position::Front) {
                delivery.submit_resume();
            }
        } else {
            run_here(delivery, &self.worker, plan, is_parallel(&bus, target, &slot));
        }
        drop(inside);
        self.until_done(delivery)
    }

    /// A delivery that goes on without this thread: parks until it is done, and claims what it needs meanwhile.
    pub(crate) fn until_done(&self, delivery: DeliveryRef<'_>) -> Result<(), WaitError> {
        let target = delivery.event;
        while delivery.is_active() && self.frame.is_live() {
            if self.deadline != NEVER && clock::now() >= self.deadline {
                return Ok(());
            }
            let needed = claimable::claimable(target, &self.frame.bus.runtime);
            if needed.is_empty() {
                self.park(target, &|| !delivery.is_active())?;
            }
            for (needed, index) in needed {
                self.run(&needed, index, target)?;
            }
        }
        Ok(())
    }

    /// Inside `attach`: the handler's own thread most likely stands still until this one is through, so what only that thread can run
    /// would never come.
    pub(crate) fn check_attached(&self, bus: &BusCore, target: &AnyEvent) -> Result<(), WaitError> {
        let own = &self.frame.bus;
        if own.runs_on(&self.worker) || !own.shares_pump_thread(bus) {
            return Ok(());
        }
        Err(WaitError::Deadlock(format!(
            "a thread attached to {} waits for {target}, which only the thread of that handler can run, the pump thread of {}",
            self.frame.label(),
            bus.label()
        )))
    }

    /// "Here or over there?" in DESIGN.md: wherever something could end the target earlier than this frame.
    fn must_run_elsewhere(&self, delivery: DeliveryRef<'_>, slot: &TypeSlot, plan: Plan, awaited: &AnyEvent) -> bool {
        let DeliveryRef { bus, event: target, .. } = delivery;
        let below = is_below(target, &self.frame.event) || is_below(awaited, &self.frame.event);
        if self.waiting.timeout.is_some() || plan.first || !below || self.worker.is_deep() {
            return true;
        }
        if !self.frame.bus.runtime.pool.has_thread_to_spare() {
            // Better late than never: what could be ended earlier than this frame ends with it.
            return false;
        }
        let now = clock::now();
        let own = target.head().options();
        let cap = plan.event_timeout.map_or(NEVER, |after| clock::after(now, after));
        let earliest = (0..slot.handlers.len())
            .map(|at| now.saturating_add(timing_for(own, slot, at, &bus.defaults).timeout))
            .fold(cap, Tick::min);
        earliest < self.frame.deadline || target.state().lock().wants_first
    }

    /// Another serial bus starts nothing queued for the length of the jump.
    fn pause(&self, bus: &Arc<BusCore>) {
        let key = self.key();
        let pause = Pause { of: key, bus: Arc::clone(&bus.identity) };
        let token = self.token();
        let mut run = bus.run.lock();
        let mut state = self.frame.event.state().lock();
        let live = state.deliveries.get(key.delivery).is_some_and(|d| d.is_live(key.invocation, key.attempt));
        if live && !run.jumps.contains(&token) {
            run.jumps.push(token);
            state.links().pauses.push(pause);
        }
    }

    pub(crate) fn end_pauses(&self) {
        let pauses = {
            let mut state = self.frame.event.state().lock();
            let key = self.key();
            state.links_if_any().map(|l| l.pauses.extract_if(.., |p| p.of == key).collect::<Vec<_>>())
        };
        end_pauses(&self.frame.event, pauses.unwrap_or_default());
    }

    fn key(&self) -> AttemptKey {
        let Frame { delivery, invocation, attempt, .. } = self.frame;
        AttemptKey { delivery, invocation, attempt }
    }

    fn token(&self) -> Token {
        attempt_token(&self.frame.event, self.frame.delivery, self.frame.invocation, self.frame.attempt)
    }

    /// Nothing is left to do here: sit until something happens.
    fn park(&self, event: &AnyEvent, is_over: &dyn Fn() -> bool) -> Result<(), WaitError> {
        let runtime = &self.frame.bus.runtime;
        if !register(event, &self.worker.bell) {
            return Ok(());
        }
        let beside = if planted("beside_unseen") { Vec::new() } else { beside(event) };
        let goes_on = beside.iter().filter(|before| !register(before, &self.worker.bell)).count() > 0;
        hand::set_down_all();
        let parked = Parked::enter(&self.worker, &self.frame, event, self.waiting.in_order);
        if self.frame.bus.has_limits() {
            asleep::lend(runtime, event, parked.foreign);
        }
        // From here on an emit below rings; what came before must be seen now.
        let look_again = goes_on
            || is_over()
            || !self.frame.is_live()
            || !self.waiting.in_order
                && !planted("park_without_look")
                && !claimable::claimable(event, runtime).is_empty();
        let mut result = Ok(());
        if !look_again {
            match parked.find_cycle().filter(|_| !planted("cycle_unseen")) {
                Some(chain) => result = Err(WaitError::Deadlock(chain)),
                None if self.worker.has_pumps()
                    && self.worker.lacks_stack_to_serve()
                    && self.worker.pump_is_awaited() =>
                {
                    // Nobody but this thread could, and its stack is used up.
                    result = Err(WaitError::NoThread(1));
                }
                None => {
                    let in_order = self.waiting.in_order;
                    let needs = || Needs { can_fail: true, ..claimable::needs_of(event, in_order, runtime) };
                    let rested = self.worker.suspended(runtime, self.deadline, needs, || {
                        let (worker, frame, event) = (Arc::clone(&self.worker), self.frame.clone(), event.clone());
                        logging::later!(Debug, of frame.event; move || {
                            format!("{} parks: {} on {} waits for {event}", worker.name, frame.label(), frame.event)
                        });
                        // In order: what it waits for may be queued on another manual bus of this thread.
                        let serves = if in_order { Serves::All } else { Serves::Awaited };
                        self.worker.serve_or_park(self.deadline, serves)
                    });
                    if rested == Rested::NoThread {
                        // This thread must get back what it set down for them.
                        give_back_grants(runtime, &claimable::needs_of(event, in_order, runtime));
                        result = Err(WaitError::NoThread(runtime.pool.settings().hard_limit));
                    }
                }
            }
        }
        drop(parked);
        deregister(event, &self.worker.bell);
        beside.iter().for_each(|before| deregister(before, &self.worker.bell));
        result
    }
}

fn first_queued(event: &AnyEvent) -> Option<usize> {
    event.state().lock().deliveries.iter().position(|d| d.phase == DeliveryPhase::Queued)
}

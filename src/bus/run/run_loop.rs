//! The loop of a bus: who starts queued events, in which order (`README.md`, *The loop*).

use crate::bus::core::{BusCore, Entry, NOWHERE, Run};
use crate::bus::end::duties::Duties;
use crate::bus::end::tree::end_soon;
use crate::bus::parts::for_event::plan_for;
use crate::bus::parts::history::SPENT;
use crate::bus::parts::recorder::By;
use crate::bus::permits::delivery::release_delivery;
use crate::bus::run::driver::{After, Driver, Via};
use crate::bus::run::snapshot::Snapshot;
use crate::bus::run::start::{Begun, Permits, Start};
use crate::bus::thread::frame::Under;
use crate::event::{AnyEvent, DeliveryPhase, TurnKind};
use crate::runtime::{GoOn, Wakeup, Worker, hand_over};
use crate::sync::{Granted, Position, Ticket, Token};
use crate::sys::clock::{self, NEVER, Tick};
use crate::sys::planted;
use crate::sys::sync::MutexGuard;
use crate::sys::sync::atomic::Ordering;
use crate::sys::thread;
use crate::sys::unwind;
use std::sync::Arc;

/// How often a loop says that it has been working.
const BUSY: Tick = 100_000;

/// What a finished delivery leaves to be released.
pub(crate) type Finished = (Token, TurnKind);

pub(super) enum Claimed {
    /// It is the pass's `ready`.
    ToRun,
    /// The bus's handler permit is with somebody else; a job goes on when its turn comes.
    InLine(Entry),
    BySomebodyElse(Entry),
    /// It is among the pass's `doomed`.
    Doomed,
}

/// A claimed delivery; its slot is the pass's newest.
pub(super) struct Ready {
    entry: Entry,
    begun: Begun,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The pass's `ready`.
    Run,
    Leave,
}

/// The loop has it, under a token of its own.
struct GlobalTurn;

/// What the loop keeps from one event to the next.
#[derive(Default)]
pub(super) struct Pass {
    /// To be released together with the next claim.
    finished: Option<Finished>,
    /// When the event before ended: the start of the next, if nothing blocked in between.
    pub(super) now: Option<Tick>,
    /// Since when one event has followed the other.
    busy_since: Option<Tick>,
    /// When the last event began.
    begun: Tick,
    /// When its turn among the buses began, as far as it was asked: there were jobs in line.
    turn_since: Option<Tick>,
    /// It runs on top of a wait that needs one event of it.
    on_top: bool,
    pub(super) slots: Snapshot,
    /// What the last frame held, for the next one.
    spare: Option<Arc<BusCore>>,
    /// What only this loop kept: given back to the emitters together.
    spent: Vec<AnyEvent>,
    gave_back: bool,
    /// Taken out of the queue, where a worker that ends them would not find them.
    doomed: Vec<Entry>,
    /// What was claimed last and is to be run; here, since handing it on takes longer than claiming it.
    ready: Option<Ready>,
}

impl Pass {
    /// On that thread; `finished`: what it ran before.
    pub(super) fn begins(worker: &Worker, finished: Option<Finished>) -> Pass {
        Pass { finished, on_top: worker.on_top.load(Ordering::Relaxed), ..Pass::default() }
    }
}

impl BusCore {
    /// Starts one queued event after another, until there is none or something is in the way.
    pub(crate) fn run_loop(self: &Arc<Self>, worker: &Arc<Worker>, finished: Option<Finished>) {
        let mut pass = Pass::begins(worker, finished);
        self.run_queued(worker, &mut pass);
        unwind::drop_each(pass.spent);
        if pass.gave_back {
            // Nobody may emit for a long time.
            let spent = self.inlet.lock().history.clear_spent();
            unwind::drop_each(spent);
        }
    }

    fn run_queued(self: &Arc<Self>, worker: &Arc<Worker>, pass: &mut Pass) {
        loop {
            if self.is_spent(pass)
                && let Some((token, turn)) = pass.finished.take()
            {
                release_delivery(self, token, turn);
                return self.submit_loop();
            }
            if self.next(worker, pass) == Next::Leave {
                return;
            }
            let Some((after, entry)) = self.run_ready(worker, pass, Via::Loop) else { return };
            if let After::Done(at) = after {
                pass.finished = Some((self.delivery_of(&entry).token(), entry.turn));
                // One nanosecond later, so that the times of two events that follow each other differ.
                pass.now = Some(at.saturating_add(1));
            }
            self.put_away(pass, entry);
            if after == After::Left {
                return;
            }
        }
    }

    /// An event that this loop is through with. It may be the last hold of it, and the payload may panic when it goes.
    #[inline]
    fn put_away(&self, pass: &mut Pass, entry: Entry) {
        if !(self.gives_back && entry.event.is_kept_once()) {
            return unwind::drop_quietly(entry);
        }
        pass.spent.push(entry.event);
        if pass.spent.len() < SPENT {
            return;
        }
        // Waiting for the emitters here would have them wait for each other at every batch.
        if let Some(mut inlet) = self.inlet.try_lock() {
            pass.gave_back = true;
            inlet.history.take_back(&mut pass.spent);
        } else if pass.spent.len() < 2 * SPENT {
            return;
        }
        unwind::drop_each(pass.spent.drain(..));
    }

    /// No other event may be started here now: the loop, or the runner of parallel events, waits for its turn among other jobs.
    #[inline]
    pub(super) fn is_spent(&self, pass: &mut Pass) -> bool {
        if !self.is_pooled() {
            return self.has_pumped_enough();
        }
        self.runtime.pool.is_pressed() && self.has_had_its_turn(pass) || pass.on_top
    }

    #[cold]
    fn has_had_its_turn(&self, pass: &mut Pass) -> bool {
        let now = pass.now.unwrap_or_else(clock::now);
        let since = *pass.turn_since.get_or_insert(pass.begun);
        self.runtime.pool.gives_way(now.saturating_sub(since))
    }

    #[inline]
    pub(super) fn run_ready(
        self: &Arc<Self>,
        worker: &Arc<Worker>,
        pass: &mut Pass,
        via: Via,
    ) -> Option<(After, Entry)> {
        let Ready { entry, begun } = pass.ready.take()?;
        pass.begun = begun.fixed.begun;
        let slot = pass.slots.slot.as_ref()?;
        let start = Start { delivery: self.delivery_of(&entry), worker, slot, now: begun.fixed.begun };
        let mut driver = Driver::new(start, begun.fixed, via, Under::Delivery);
        driver.spare = pass.spare.take();
        driver.take_over(&begun);
        if !pass.slots.old.is_empty() {
            unwind::drop_each(pass.slots.old.drain(..));
        }
        let after = driver.drive();
        pass.spare = driver.spare.take();
        pass.slots.take_back(driver.held.take());
        Some((after, entry))
    }

    /// The end of the last delivery and the start of the next are one step.
    fn next(self: &Arc<Self>, worker: &Arc<Worker>, pass: &mut Pass) -> Next {
        let mut stale = Vec::new();
        let mut run = self.run.lock();
        let mut granted = Granted::new();
        if let Some((token, turn)) = pass.finished.take() {
            // By far the commonest: nobody else wants the permits, and the next event takes them over.
            if turn == TurnKind::Bus
                && run.passes_on(token)
                && let Some(entry) = self.take(&mut run, |next| next.turn == TurnKind::Bus)
            {
                match self.claim(&mut run, worker, entry, pass, Some(token)) {
                    Claimed::ToRun => {
                        drop(run);
                        return Next::Run;
                    }
                    Claimed::InLine(entry) | Claimed::BySomebodyElse(entry) => {
                        run.lanes.refund();
                        stale.push(entry);
                    }
                    Claimed::Doomed => run.lanes.refund(),
                }
            }
            granted = run.event.release(token);
            granted.extend(run.handler.release(token));
            if turn == TurnKind::Global && self.give_global_turn_back(&mut run, token, &mut granted) {
                drop(run);
                self.after_next(granted, None, pass, stale);
                unwind::drop_each(pass.slots.old.drain(..));
                return Next::Leave;
            }
        }
        // Whatever the loop's own token holds there and does not pass on is given back at the end.
        let mut global_turn = std::mem::take(&mut run.loop_in_global_line);
        let mut in_line = None;
        let next = loop {
            if !run.is_startable() {
                run.loop_set_aside = true;
                break Next::Leave;
            }
            let Some(entry) = self.take(&mut run, |_| true) else {
                pass.slots.forget();
                pass.now = None;
                if let Some(since) = pass.busy_since.take() {
                    thread::has_worked(clock::now().saturating_sub(since));
                }
                if self.leaves_to_next_round(&run) {
                    drop(run);
                    self.after_next(granted, global_turn.then_some(GlobalTurn), pass, stale);
                    self.submit_loop();
                    return Next::Leave;
                }
                match self.hand_back(run, &mut pass.slots) {
                    Some(locked) => run = locked,
                    None => {
                        self.after_next(granted, global_turn.then_some(GlobalTurn), pass, stale);
                        return Next::Leave;
                    }
                }
                continue;
            };
            let global = entry.turn == TurnKind::Global;
            if global && !self.take_global_turn(&mut run, &entry.event) {
                run.lanes.push_front(entry.event.head().priority, entry);
                break Next::Leave;
            }
            match self.claim(&mut run, worker, entry, pass, None) {
                Claimed::ToRun => {
                    let claimed = pass.ready.as_ref().map(|ready| &ready.entry);
                    global_turn |= global && !claimed.is_some_and(|entry| self.hand_on_global_turn(entry));
                    break Next::Run;
                }
                // The delivery has taken the loop along.
                Claimed::InLine(entry) => {
                    global_turn |= global && !self.hand_on_global_turn(&entry);
                    in_line = Some(entry);
                    break Next::Leave;
                }
                Claimed::BySomebodyElse(entry) => {
                    run.lanes.refund();
                    global_turn |= global;
                    stale.push(entry);
                }
                Claimed::Doomed => {
                    run.lanes.refund();
                    global_turn |= global;
                }
            }
        };
        drop(run);
        self.after_next(granted, global_turn.then_some(GlobalTurn), pass, stale);
        if let Some(entry) = &in_line {
            self.stands(entry);
        }
        if next == Next::Leave {
            unwind::drop_each(pass.slots.old.drain(..));
        }
        next
    }

    /// What a claim that stands in line leaves to do outside of the lock.
    pub(super) fn stands(self: &Arc<Self>, entry: &Entry) {
        let delivery = self.delivery_of(entry);
        let cap = delivery.read(|d| d.cap()).filter(|cap| *cap != NEVER);
        Duties { cap, sweeps: true, ..Duties::default() }.carry_out(delivery);
    }

    fn after_next(
        self: &Arc<Self>,
        mut granted: Granted<Wakeup>,
        turn: Option<GlobalTurn>,
        pass: &mut Pass,
        stale: Vec<Entry>,
    ) {
        if let Some(GlobalTurn) = turn {
            granted.extend(self.release_global_turn());
        }
        hand_over(&self.runtime.pool, granted);
        self.end_doomed(pass);
        unwind::drop_each(stale);
    }

    /// What is doomed and has left the queue ends. With nothing locked.
    #[inline]
    pub(super) fn end_doomed(self: &Arc<Self>, pass: &mut Pass) {
        if !pass.doomed.is_empty() {
            let doomed = pass.doomed.drain(..).map(|entry| entry.event).collect();
            end_soon(self, doomed);
        }
    }

    /// Nothing is queued: spin shortly, then give the loop up. `None` if it was given up.
    fn hand_back<'a>(&'a self, run: MutexGuard<'a, Run>, slots: &mut Snapshot) -> Option<MutexGuard<'a, Run>> {
        drop(run);
        unwind::drop_each(slots.old.drain(..));
        if self.is_pooled() && self.spin.until(NEVER, || !self.arrivals.is_empty()) {
            return Some(self.run.lock());
        }
        let run = self.run.lock();
        let mut inlet = self.inlet.lock();
        // Emits send under this lock, so an empty channel stays empty until it is released.
        if self.arrivals.is_empty() && run.lanes.len() == 0 || planted("hand_back_without_look") {
            inlet.active = NOWHERE;
            return None;
        }
        drop(inlet);
        Some(run)
    }

    /// Queued to Active, with the turn in hand, its handlers fixed, and the first one started. `before`: who has the bus's permits, to
    /// pass them on.
    pub(super) fn claim(
        self: &Arc<Self>,
        run: &mut Run,
        worker: &Arc<Worker>,
        entry: Entry,
        pass: &mut Pass,
        before: Option<Token>,
    ) -> Claimed {
        let claimed = self.delivery_of(&entry);
        let token = claimed.token();
        pass.slots.look_up(self, &entry.event);
        let Some(slot) = &pass.slots.slot else { return Claimed::BySomebodyElse(entry) };
        let now = pass.now.unwrap_or_else(clock::now);
        let busy = now.saturating_sub(*pass.busy_since.get_or_insert(now));
        if busy > BUSY {
            thread::has_worked(busy);
            pass.busy_since = Some(now);
        }
        let mut short = false;
        let held = || pass.slots.spare.take().unwrap_or_else(|| Arc::clone(slot));
        let start = Start { delivery: claimed, worker, slot, now };
        let mut doomed = true;
        let begun = start.claim(held, By::Loop, |state| {
            doomed = false;
            let delivery = claimed.in_state_mut(state).filter(|d| d.phase == DeliveryPhase::Queued)?;
            delivery.phase = DeliveryPhase::Active;
            let turn = delivery.manner.turn;
            let bus_handler = plan_for(&entry.event, slot, &self.defaults).bus_handler;
            delivery.manner.bus_handler = bus_handler;
            delivery.manner.carries_loop = turn != TurnKind::Free;
            match before {
                Some(before) => {
                    run.event.pass_on(token);
                    if bus_handler && run.handler.holds(before) {
                        run.handler.pass_on(token);
                    } else if bus_handler {
                        run.handler.try_take(Position::First, token, None);
                    } else {
                        run.handler.release(before);
                    }
                }
                None => {
                    if turn == TurnKind::Bus {
                        run.event.try_take(Position::First, token, None);
                    }
                    short = bus_handler && !run.handler.try_take(Position::Entry, token, None);
                }
            }
            Some(if short { Permits::InLine } else { Permits::Held })
        });
        let Some(begun) = begun else {
            self.counters.stale.fetch_sub(1, Ordering::Relaxed);
            if doomed {
                pass.doomed.push(entry);
                return Claimed::Doomed;
            }
            return Claimed::BySomebodyElse(entry);
        };
        self.note_claim_under_run(run, entry.event.head().stamp());
        if begun.lines_up {
            self.delivery_of(&entry).note_in_list();
        }
        if !short {
            pass.ready = Some(Ready { entry, begun });
            return Claimed::ToRun;
        }
        // In this same section, so that events come to the handlers in the order of the bus. What stands in line is as good as
        // started: its handlers are fixed, and its time counts.
        let turn = Wakeup::Job(self.delivery_of(&entry).job(GoOn::Resume));
        let granted =
            run.handler.stand(Position::Entry, Ticket { token, under: None, rank: self.rank(&entry.event), turn });
        debug_assert!(granted.is_empty(), "a permit that could not be taken was granted");
        Claimed::InLine(entry)
    }
}

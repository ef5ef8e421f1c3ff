//! The loop of a bus: who starts queued events, in which order (`runtime/README.md`, 3.2).

use crate::bus::core::{BusCore, Entry, Run};
use crate::bus::drive::{After, Via, advance, fix_handlers, resume_job};
use crate::bus::permit::{Home, delivery_token};
use crate::event::{AnyEvent, DeliveryPhase, Manner, TurnKind};
use crate::runtime::{Drive, Job, Turn, Worker, hand_over};
use crate::sync::{Granted, Place, Ticket, Token};
use crate::sys::clock;
use crate::sys::sync::MutexGuard;
use crate::sys::sync::atomic::Ordering;
use crate::sys::unwind;
use std::sync::Arc;

impl Drive for BusCore {
    fn drive(self: Arc<Self>, worker: &Arc<Worker>) {
        self.run_loop(worker, None);
    }
}

/// What a finished delivery leaves to be released.
pub(crate) type Finished = (Token, TurnKind);

enum Claimed {
    ToRun(Entry),
    /// The bus's handler permit is with somebody else; a job goes on when its turn comes.
    InLine(Entry),
    BySomebodyElse(Entry),
}

enum Next {
    Run(Entry),
    Leave,
}

impl BusCore {
    /// Starts one queued event after another, until there is none or something is in the way.
    pub(crate) fn run_loop(self: &Arc<Self>, worker: &Arc<Worker>, mut finished: Option<Finished>) {
        while let Next::Run(entry) = self.next(finished.take()) {
            let delivery = entry.delivery as usize;
            let after = advance(self, worker, &entry.event, delivery, Via::Loop);
            finished = (after == After::Done).then(|| (delivery_token(&entry.event, delivery), entry.plan.turn));
            // It may be the last of the event, whose payload may panic when it goes.
            unwind::drop_quietly(entry);
            if after == After::Left {
                return;
            }
        }
    }

    /// The end of the last delivery and the start of the next are one step.
    fn next(self: &Arc<Self>, finished: Option<Finished>) -> Next {
        let mut stale = Vec::new();
        let mut run = self.run.lock();
        let mut granted = Granted::new();
        if let Some((token, turn)) = finished {
            granted = run.event.release(token);
            granted.extend(run.handler.release(token));
            if turn == TurnKind::Global {
                let global = self.runtime.global.lock().event.release(token);
                granted.extend(global);
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
            self.fetch(&mut run);
            let Some(entry) = run.lanes.pop() else {
                match self.hand_back(run) {
                    Some(locked) => run = locked,
                    None => {
                        self.after_next(granted, global_turn, stale);
                        return Next::Leave;
                    }
                }
                continue;
            };
            let global = entry.plan.turn == TurnKind::Global;
            if global && !self.take_global_turn(&mut run) {
                run.lanes.push_front(entry.event.head().priority, entry);
                break Next::Leave;
            }
            match self.claim(&mut run, entry, true) {
                Claimed::ToRun(entry) => {
                    if global {
                        // Not before the claim: a jump that claims instead must not find its token holding.
                        let token = delivery_token(&entry.event, entry.delivery as usize);
                        self.runtime.global.lock().event.rename(self.loop_token(), token);
                    }
                    break Next::Run(entry);
                }
                // The delivery has taken the loop along.
                Claimed::InLine(entry) => {
                    in_line = Some(entry);
                    break Next::Leave;
                }
                Claimed::BySomebodyElse(entry) => {
                    global_turn |= global;
                    stale.push(entry);
                }
            }
        };
        drop(run);
        self.after_next(granted, global_turn, stale);
        self.fix_in_line(in_line);
        next
    }

    /// What stands in line for the handler permit is as good as started: its handlers are fixed, and its time counts.
    fn fix_in_line(self: &Arc<Self>, entries: impl IntoIterator<Item = Entry>) {
        for entry in entries {
            let slot = self.registry.slot(entry.event.body(), &self.defaults);
            fix_handlers(self, &entry.event, entry.delivery as usize, &slot, clock::now());
        }
    }

    fn after_next(&self, mut granted: Granted<Turn>, global_turn: bool, stale: Vec<Entry>) {
        if global_turn {
            granted.extend(self.runtime.global.lock().event.release(self.loop_token()));
        }
        hand_over(&self.runtime.pool, granted);
        unwind::drop_each(stale);
    }

    /// From the channel into the lanes.
    pub(crate) fn fetch(&self, run: &mut Run) {
        while let Ok(entry) = self.arrivals.try_recv() {
            let priority = entry.event.head().priority;
            match entry.plan.turn {
                TurnKind::Free => run.free.push_back(priority, entry),
                TurnKind::Bus | TurnKind::Global => run.lanes.push_back(priority, entry),
            }
        }
    }

    /// Nothing is queued: spin shortly, then give the loop up. `None` if it was given up.
    fn hand_back<'a>(&'a self, run: MutexGuard<'a, Run>) -> Option<MutexGuard<'a, Run>> {
        drop(run);
        if self.spin.until(|| !self.arrivals.is_empty()) {
            return Some(self.run.lock());
        }
        let run = self.run.lock();
        let mut inlet = self.inlet.lock();
        // Emits send under this lock, so an empty channel stays empty until it is released.
        if self.arrivals.is_empty() && run.lanes.len() == 0 {
            inlet.active = false;
            return None;
        }
        drop(inlet);
        Some(run)
    }

    /// Queued to Active, with the turn in hand.
    fn claim(self: &Arc<Self>, run: &mut Run, entry: Entry, carries_loop: bool) -> Claimed {
        let index = entry.delivery as usize;
        let token = delivery_token(&entry.event, index);
        let mut short = false;
        {
            let mut state = entry.event.state().lock();
            let queued = state.deliveries.get_mut(index).filter(|d| d.phase == DeliveryPhase::Queued);
            let Some(delivery) = queued else {
                self.counters.stale.fetch_sub(1, Ordering::Relaxed);
                drop(state);
                return Claimed::BySomebodyElse(entry);
            };
            let plan = entry.plan;
            delivery.phase = DeliveryPhase::Active;
            delivery.manner = Manner {
                turn: plan.turn,
                first: plan.first,
                bus_handler: plan.bus_handler,
                carries_loop,
                ..Manner::PLAIN
            };
            if plan.turn == TurnKind::Bus {
                run.event.try_take(Place::First, token, None);
            }
            if plan.bus_handler {
                short = !run.handler.try_take(Place::Entry, token, None);
            }
        }
        self.note_claim(entry.event.head().stamp);
        if !short {
            return Claimed::ToRun(entry);
        }
        // In this same section, so that events come to the handlers in the order of the bus.
        self.note_set_aside(&entry.event, index);
        let turn = Turn::Job(resume_job(self, &entry.event, index));
        let granted = run.handler.stand(Place::Entry, Ticket { token, under: None, turn });
        debug_assert!(granted.is_empty(), "a permit that could not be taken was granted");
        Claimed::InLine(entry)
    }

    /// For a global-serial head of the queue. False: the loop stands in the runtime's line, and comes back with its turn.
    fn take_global_turn(self: &Arc<Self>, run: &mut Run) -> bool {
        let own = self.loop_token();
        let mut global = self.runtime.global.lock();
        if global.event.try_take(Place::Entry, own, None) {
            return true;
        }
        run.loop_in_global_line = true;
        let turn = Turn::Job(Job::Loop(Arc::clone(self) as Arc<dyn Drive>));
        let granted = global.event.stand(Place::Entry, Ticket { token: own, under: None, turn });
        drop(global);
        debug_assert!(granted.is_empty(), "a permit that could not be taken was granted");
        false
    }

    /// One runner for parallel events: takes them in order, as long as there are any.
    pub(crate) fn run_free(self: &Arc<Self>, worker: &Arc<Worker>) {
        loop {
            let (mut stale, mut in_line) = (Vec::new(), Vec::new());
            let mut run = self.run.lock();
            if run.paused > 0 {
                return;
            }
            self.fetch(&mut run);
            let entry = loop {
                let Some(entry) = run.free.pop() else { break None };
                match self.claim(&mut run, entry, false) {
                    Claimed::ToRun(entry) => break Some(entry),
                    Claimed::InLine(entry) => in_line.push(entry),
                    Claimed::BySomebodyElse(entry) => stale.push(entry),
                }
            };
            // Serial events that came along: their loop is active since their emit, and looks into the lanes.
            drop(run);
            self.fix_in_line(in_line);
            unwind::drop_each(stale);
            let Some(entry) = entry else { return };
            advance(self, worker, &entry.event, entry.delivery as usize, Via::Job);
            unwind::drop_quietly(entry);
        }
    }

    /// Somebody else than the loop took a delivery out of the queue. Its entry is skipped later; too many are swept out.
    pub(crate) fn note_stale(self: &Arc<Self>) {
        let stale = self.counters.stale.fetch_add(1, Ordering::Relaxed) + 1;
        if stale < 64 || stale < i64::try_from(self.pending()).unwrap_or(i64::MAX) {
            return;
        }
        let mut run = self.run.lock();
        self.fetch(&mut run);
        let queued = |entry: &Entry| crate::bus::permit::is_queued(&entry.event, entry.delivery as usize);
        let mut swept = run.lanes.sift(queued);
        swept.extend(run.free.sift(queued));
        drop(run);
        self.counters.stale.fetch_sub(i64::try_from(swept.len()).unwrap_or(0), Ordering::Relaxed);
        unwind::drop_each(swept);
    }

    pub(crate) fn home(self: &Arc<Self>) -> Home {
        Home::Bus(Arc::clone(self))
    }

    /// Where the event permit of a turn lives.
    pub(crate) fn turn_home(self: &Arc<Self>, turn: TurnKind) -> Option<Home> {
        match turn {
            TurnKind::Free => None,
            TurnKind::Bus => Some(self.home()),
            TurnKind::Global => Some(Home::Runtime(Arc::clone(&self.runtime))),
        }
    }

    /// The oldest queued event of the lowest occupied priority ends, unless all are above `arriving`.
    pub(crate) fn drop_oldest(self: &Arc<Self>, arriving: crate::event::Priority) -> bool {
        let mut run = self.run.lock();
        self.fetch(&mut run);
        let is_queued = |entry: &&Entry| crate::bus::permit::is_queued(&entry.event, entry.delivery as usize);
        let serial = run.lanes.iter_from_lowest().find(is_queued);
        let free = run.free.iter_from_lowest().find(is_queued);
        let oldest = match (serial, free) {
            (Some(a), Some(b)) => {
                let key = |e: &Entry| (e.event.head().priority, e.event.head().stamp);
                Some(if key(a) <= key(b) { a } else { b })
            }
            (a, b) => a.or(b),
        };
        let victim: Option<(AnyEvent, usize)> = oldest
            .filter(|entry| entry.event.head().priority <= arriving)
            .map(|entry| (entry.event.clone(), entry.delivery as usize));
        drop(run);
        let Some((event, delivery)) = victim else { return false };
        crate::bus::ending::end_queued(self, &event, delivery);
        true
    }
}

//! Who waits for whom: what a jump may claim, and waits that can never end (`runtime/README.md`, 3.7).

use crate::bus::below::is_below;
use crate::bus::core::BusCore;
use crate::bus::frame::{self, Frame};
use crate::bus::in_flight::Sitting;
use crate::bus::limits;
use crate::bus::permit::delivery_token;
use crate::bus::sits;
use crate::event::{AnyEvent, BusId, BusIdentity, Delivery, DeliveryPhase, LimitGroup, Placed, RecordPhase, TurnKind};
use crate::runtime::{Needs, ParkedWait, RuntimeCore, Worker};
use crate::sync::Token;
use crate::sys::sync::atomic::Ordering;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// If this handler is inside `event`: why a wait for it can never end.
pub(crate) fn is_above(event: &AnyEvent, frame: &Frame) -> Option<String> {
    let handler = frame.label();
    if frame.event.same(event) {
        return Some(format!("{handler} waits for its own event {event}"));
    }
    let mut chain = format!("{handler} on {} waits for {event}", frame.event);
    let mut at = Some(frame.event.clone());
    while let Some(below) = at {
        if below.head().stamp() < event.head().stamp() {
            break;
        }
        at = below.state().lock().parent.clone();
        if let Some(above) = &at {
            if chain.len() < 400 {
                chain.push_str(&format!(", {above} waits for its child {below}"));
            }
            if above.same(event) {
                return Some(chain);
            }
        }
    }
    let on_stack = frame::local(|local| local.frames.iter().any(|f| f.event.same(event))).unwrap_or(false);
    on_stack.then(|| format!("{handler} on {} waits for {event}, which is below it on its own thread", frame.event))
}

/// Which kinds of events wait for which, from a handler of `from` that would wait for `event` upwards: what comes back again and again is said once.
#[cold]
pub(crate) fn kinds_above(from: &AnyEvent, event: &AnyEvent) -> String {
    const SHOWN: usize = 8;
    let mut words = format!("{} for {}", from.event_type(), event.event_type());
    let mut pairs = vec![(from.event_type().to_owned(), event.event_type().to_owned())];
    let (mut at, mut levels, mut first) = (from.clone(), 1usize, from.event_type().to_owned());
    loop {
        let above = at.state().lock().parent.clone();
        let Some(above) = above else { break };
        let (outer, inner) = (above.event_type().to_owned(), at.event_type().to_owned());
        first.clone_from(&outer);
        if pairs.len() < SHOWN && !pairs.iter().any(|(o, i)| (o, i) == (&outer, &inner)) {
            words.push_str(&format!(", {outer} for {inner}"));
            pairs.push((outer, inner));
        }
        levels += 1;
        at = above;
    }
    format!("{words}, over {levels} levels up to {first}")
}

/// Queued deliveries that `event` needs: its own in path order, then those below in emit order; and what running handlers among them wait
/// for in their turn.
pub(crate) fn claimable(event: &AnyEvent, runtime: &RuntimeCore) -> Vec<(AnyEvent, usize)> {
    let mut found = Vec::new();
    let mut seen = HashSet::new();
    let mut pending = vec![event.clone()];
    while let Some(event) = pending.pop() {
        if event.is_complete() || !seen.insert(event.head().stamp()) {
            continue;
        }
        let mut workers = Vec::new();
        let mut below = Vec::new();
        let in_line;
        {
            let state = event.state().lock();
            for (index, delivery) in state.deliveries.iter().enumerate() {
                match delivery.phase {
                    DeliveryPhase::Queued => found.push((event.clone(), index)),
                    DeliveryPhase::Active => {
                        let running = delivery.records.iter().filter(|r| r.phase == RecordPhase::Started);
                        workers.extend(running.map(|r| r.worker));
                    }
                    DeliveryPhase::Done => {}
                }
            }
            // While its handlers run they decide what they wait for; what nobody waited for jumps afterwards.
            if !state.deliveries.iter().any(|d| d.phase == DeliveryPhase::Active) {
                below.extend(state.children().map(|c| c.event.clone()).filter(|e| !e.is_complete()));
            }
            in_line = limits::lines_of(&state);
        }
        // What stands in line needs whoever has the places.
        workers.extend(in_line.iter().flat_map(|group| limits::holders(runtime, group)));
        if !workers.is_empty() && runtime.parked_count.load(Ordering::SeqCst) > 0 {
            let parked = runtime.parked.lock();
            // A jump among them claims for itself; only who waits in order needs help.
            let waits = workers.iter().filter_map(|w| parked.get(w)).filter(|p| p.in_order);
            below.extend(waits.map(|p| p.event.clone()));
        }
        pending.extend(below.into_iter().rev());
    }
    found
}

/// The jobs that a wait for `event` needs, when no thread comes for them: what goes on with the event, with what is below it, and with what
/// running handlers among those wait for; and what holds the turns and permits that these stand in line for. `in_order`: it leaves queued
/// events to their buses, so it needs all that these do.
pub(crate) fn needs_of(event: &AnyEvent, in_order: bool, runtime: &RuntimeCore) -> Needs {
    let mut needs = Needs::default();
    let mut pending = vec![(event.clone(), in_order)];
    while let Some((event, in_order)) = pending.pop() {
        if event.is_complete() || !needs.events.insert(event.head().stamp()) {
            continue;
        }
        let mut workers = Vec::new();
        let mut waits_on = Vec::new();
        let in_line;
        {
            let state = event.state().lock();
            for delivery in state.deliveries.iter() {
                let running = delivery.records.iter().filter(|r| r.phase == RecordPhase::Started);
                let before = workers.len();
                workers.extend(running.map(|r| r.worker));
                let stands = delivery.phase == DeliveryPhase::Active && workers.len() == before;
                if stands || in_order && delivery.phase == DeliveryPhase::Queued {
                    waits_on.push((Arc::clone(&delivery.bus), delivery.manner, delivery.phase));
                }
            }
            pending.extend(state.children().map(|c| (c.event.clone(), in_order)));
            in_line = limits::lines_of(&state);
        }
        for (bus, manner, phase) in waits_on {
            // Read where the modes of its handlers need not be known: any of them may be global.
            needs.all_holders |= manner.turn == TurnKind::Global;
            let Some(bus) = BusCore::of(&bus) else { continue };
            if phase == DeliveryPhase::Queued {
                needs.buses.push(bus.lane);
            } else {
                needs.holders.push(bus.lane);
            }
        }
        needs.all_holders |= !in_line.is_empty();
        workers.extend(in_line.iter().flat_map(|group| limits::holders(runtime, group)));
        if !workers.is_empty() && runtime.parked_count.load(Ordering::SeqCst) > 0 {
            let parked = runtime.parked.lock();
            pending
                .extend(workers.iter().filter_map(|w| parked.get(w)).map(|wait| (wait.event.clone(), wait.in_order)));
        }
        for identity in workers.iter().filter_map(|worker| sits::idle_wait(runtime, *worker)) {
            needs.buses.extend(BusCore::of(&identity).map(|bus| bus.lane));
            needs.holders.extend(BusCore::of(&identity).map(|bus| bus.lane));
        }
    }
    if needs.all_holders {
        let holders: Vec<Token> = runtime.global.lock().event.holders().collect();
        needs.buses.extend(BusCore::loops_among(&holders, runtime));
    }
    needs
}

/// A wait of this worker, while it is parked.
pub(crate) struct Parked<'a> {
    worker: &'a Arc<Worker>,
    frame: &'a Frame,
    event: AnyEvent,
    in_order: bool,
    /// What a handler further down on this thread is parked for, which runs this one in its park.
    below: Option<ParkedWait>,
    /// In order: the queue must go on without its handlers.
    _sits: Option<Sitting>,
}

impl<'a> Parked<'a> {
    pub(crate) fn enter(worker: &'a Arc<Worker>, frame: &'a Frame, event: &AnyEvent, in_order: bool) -> Self {
        let runtime = &frame.bus.runtime;
        runtime.parked_count.fetch_add(1, Ordering::SeqCst);
        let wait = ParkedWait { event: event.clone(), in_order, bell: Arc::clone(&worker.bell) };
        let below = runtime.parked.lock().insert(worker.id, wait);
        if in_order {
            // A jump above claims what this one would wait for in vain; or one that waits for what stands in line behind this handler.
            // No others: waits in order that rang each other would never both stay parked, nor be found by a search.
            let events: Vec<AnyEvent> =
                frame::local(|local| local.frames.iter().map(|f| f.event.clone()).collect()).unwrap_or_default();
            let limited = frame.bus.has_limits();
            runtime.ring_parked(|wait| {
                !wait.in_order && (limited || events.iter().any(|event| is_below(event, &wait.event)))
            });
        }
        let _sits = in_order.then(Sitting::begin);
        Parked { worker, frame, event: event.clone(), in_order, below, _sits }
    }

    /// Why this wait can never end, if that is so.
    pub(crate) fn find_cycle(&self) -> Option<String> {
        let runtime = &self.frame.bus.runtime;
        let parked = runtime.parked.lock();
        let (me, own) = (self.worker.id, Standing::of_this_thread());
        let search = Search { parked: &parked, runtime, me, own, awaited: Some(&self.event) };
        let chain = search.run(&self.event, self.in_order, !self.in_order, false, &mut Vec::new())?;
        Some(format!("{} on {} waits for {}{chain}", self.frame.label(), self.frame.event, self.event))
    }
}

/// Why a bus can never be idle while the handler on this thread, which is entered among those that sit, waits for that.
pub(crate) fn never_idle(worker: &Worker, frame: &Frame, bus: &Arc<BusIdentity>) -> Option<String> {
    let runtime = &frame.bus.runtime;
    let parked = runtime.parked.lock();
    let search = Search { parked: &parked, runtime, me: worker.id, own: Standing::of_this_thread(), awaited: None };
    let mut trail = Trail::default();
    let steps = search.until_idle(bus, &mut trail, 0, "", false, false);
    let chain = search.go(steps, trail, &mut Vec::new())?;
    Some(format!("{} on {} waits for {} to be idle{chain}", frame.label(), frame.event, bus.label))
}

impl Drop for Parked<'_> {
    fn drop(&mut self) {
        let runtime = &self.frame.bus.runtime;
        let gone = {
            let mut parked = runtime.parked.lock();
            match self.below.take() {
                Some(below) => parked.insert(self.worker.id, below),
                None => parked.remove(&self.worker.id),
            }
        };
        runtime.parked_count.fetch_sub(1, Ordering::SeqCst);
        drop(gone);
    }
}

/// What a thread's handlers keep from starting until they end.
#[derive(Default)]
struct Standing {
    /// Buses whose loop, or turn, is with one of them.
    buses: Vec<BusId>,
    /// The events they handle; jumps of these may keep other buses waiting.
    stamps: Vec<u64>,
    /// One of them has the runtime's event permit, or will take it back.
    global: bool,
}

impl Standing {
    fn of_this_thread() -> Standing {
        let frames = frame::local(|local| local.frames.clone()).unwrap_or_default();
        Standing::of(frames.iter().map(|f| (&f.event, f.delivery)))
    }

    fn of<'a>(handled: impl Iterator<Item = (&'a AnyEvent, usize)>) -> Standing {
        let mut standing = Standing::default();
        for (event, delivery) in handled {
            standing.stamps.push(event.head().stamp());
            let state = event.state().lock();
            let Some(delivery) = state.deliveries.get(delivery).filter(|d| d.phase == DeliveryPhase::Active) else {
                continue;
            };
            match delivery.manner.turn {
                TurnKind::Free => {}
                TurnKind::Bus => standing.buses.push(delivery.bus.id),
                TurnKind::Global => {
                    standing.buses.push(delivery.bus.id);
                    standing.global = true;
                }
            }
        }
        standing
    }

    fn keeps(&self, queue: &Queue) -> bool {
        self.buses.contains(&queue.bus.id)
            || self.global && queue.global
            || queue.jumps.iter().any(|stamp| self.stamps.contains(stamp))
    }
}

/// What a queued delivery depends on.
struct Queue {
    bus: Arc<BusIdentity>,
    /// It, or what is before it, needs the runtime's event permit.
    global: bool,
    jumps: Vec<u64>,
}

impl Queue {
    fn of(bus: &Arc<BusIdentity>, turn: TurnKind) -> Queue {
        let (mut global, mut jumps) = (turn == TurnKind::Global, Vec::new());
        if let Some(core) = BusCore::of(bus) {
            let run = core.run.lock();
            global |= run.loop_in_global_line;
            jumps.extend(run.jumps.iter().map(|t| t.stamp));
        }
        Queue { bus: Arc::clone(bus), global, jumps }
    }

    /// The deliveries that have started and keep it waiting, standing in line for a place under a limit. Global turns keep all buses waiting.
    fn in_line(&self, runtime: &RuntimeCore) -> Vec<(AnyEvent, usize)> {
        if !runtime.has_limits.load(Ordering::Relaxed) {
            return Vec::new();
        }
        // Let go of after the locks: one may be the last hold of its bus.
        let cores: Vec<Arc<BusCore>> =
            if self.global { BusCore::all_of(runtime) } else { BusCore::of(&self.bus).into_iter().collect() };
        let mut found = Vec::new();
        for core in &cores {
            for event in core.set_aside() {
                let stand: Vec<(usize, bool)> = {
                    let state = event.state().lock();
                    let here = |d: &&Delivery| d.phase == DeliveryPhase::Active && d.bus.id == core.identity.id;
                    let delivery = |placed: &Placed| {
                        let delivery = state.deliveries.get(placed.delivery).filter(here)?;
                        Some((placed.delivery, delivery.manner.carries_loop))
                    };
                    limits::in_line(&state).filter_map(delivery).collect()
                };
                for (delivery, carries_loop) in stand {
                    // One that was lent its turn may have none by now.
                    let token = delivery_token(&event, delivery);
                    let keeps = core.identity.id == self.bus.id && (carries_loop || core.run.lock().event.keeps(token));
                    if keeps || self.global && runtime.global.lock().event.keeps(token) {
                        found.push((event.clone(), delivery));
                    }
                }
            }
        }
        found
    }
}

/// How far a search has come, and what lies on the way.
struct Step {
    event: AnyEvent,
    /// The end of this one delivery is enough; the event got it, maybe, when it was complete.
    delivery: Option<usize>,
    /// Its last hop in the trail; 0 is none.
    hop: usize,
    /// Whether who waits for the event leaves its queued deliveries to their buses.
    in_order: bool,
    jump: bool,
    queue: bool,
}

impl Step {
    fn past(wait: &ParkedWait, hop: usize, jump: bool, queue: bool) -> Step {
        let (event, in_order) = (wait.event.clone(), wait.in_order);
        Step { event, delivery: None, hop, in_order, jump: jump || !in_order, queue }
    }
}

/// The hops of a search, each with the one before it. Put into words only when a cycle was found: chains may be thousands long.
#[derive(Default)]
struct Trail(Vec<(usize, String)>);

impl Trail {
    fn add(&mut self, before: usize, words: String) -> usize {
        self.0.push((before, words));
        self.0.len()
    }

    /// The chain up to a hop; of a long one, its ends.
    fn words(&self, last: usize) -> String {
        let mut hops = Vec::new();
        let mut at = last;
        while let Some((before, words)) = at.checked_sub(1).and_then(|at| self.0.get(at)) {
            hops.push(words.as_str());
            at = *before;
        }
        hops.reverse();
        if hops.len() > 12 {
            let left_out = format!(", and so on over {} more", hops.len() - 12);
            let (first, rest) = hops.split_at(6);
            return [&first.concat(), &left_out, &rest[rest.len() - 6..].concat()].map(String::as_str).concat();
        }
        hops.concat()
    }
}

struct Search<'a> {
    parked: &'a HashMap<u64, ParkedWait>,
    runtime: &'a RuntimeCore,
    me: u64,
    own: Standing,
    /// The event that this worker waits for; `None` if it is no event.
    awaited: Option<&'a AnyEvent>,
}

impl Search<'_> {
    /// From an event along what it needs, until that is this worker.
    ///
    /// A way over a queue is no dead end if a jump lies on it: that one claims what is queued.
    fn run(
        &self,
        start: &AnyEvent,
        in_order: bool,
        jump: bool,
        queue: bool,
        lines: &mut Vec<Arc<LimitGroup>>,
    ) -> Option<String> {
        let start = Step { event: start.clone(), delivery: None, hop: 0, in_order, jump, queue };
        self.go(vec![start], Trail::default(), lines)
    }

    /// What a thread that waits for a bus to be idle needs: the end of each delivery there.
    fn until_idle(
        &self,
        bus: &BusIdentity,
        trail: &mut Trail,
        hop: usize,
        who: &str,
        jump: bool,
        queue: bool,
    ) -> Vec<Step> {
        let mut steps = Vec::new();
        for (event, delivery) in sits::unfinished(bus) {
            let words = match who {
                "" => format!(", which needs {event} there"),
                who => format!(", where {who} waits for {} to be idle, which needs {event} there", bus.label),
            };
            let hop = trail.add(hop, words);
            // It leaves what is queued to the bus.
            steps.push(Step { event, delivery: Some(delivery), hop, in_order: true, jump, queue });
        }
        steps
    }

    fn go(&self, mut pending: Vec<Step>, mut trail: Trail, lines: &mut Vec<Arc<LimitGroup>>) -> Option<String> {
        let mut seen = HashSet::new();
        while let Some(step) = pending.pop() {
            let Step { event, delivery: only, hop, in_order, jump, queue } = step;
            let is_over = only.is_none() && event.is_complete();
            if is_over || !seen.insert((event.head().stamp(), only, in_order, jump, queue)) {
                continue;
            }
            let needed = |index| only.is_none_or(|only| only == index);
            let (mut workers, mut queued, mut children) = (Vec::new(), Vec::new(), Vec::new());
            let in_line;
            {
                let state = event.state().lock();
                for (_, delivery) in state.deliveries.iter().enumerate().filter(|(index, _)| needed(*index)) {
                    let running = delivery.records.iter().enumerate().filter(|(_, r)| r.phase == RecordPhase::Started);
                    let label = |at| delivery.handler(at).map(|info| info.label()).unwrap_or_default();
                    workers.extend(running.map(|(at, r)| (r.worker, label(at))));
                    if delivery.phase == DeliveryPhase::Queued && delivery.manner.turn != TurnKind::Free {
                        queued.push((Arc::clone(&delivery.bus), delivery.manner.turn));
                    }
                }
                // While its handlers run they may still wait for what they have emitted; who waits in order looks again at their end.
                if only.is_none() && !state.deliveries.iter().any(|d| d.phase == DeliveryPhase::Active) {
                    children.extend(state.children().map(|c| c.event.clone()).filter(|e| !e.is_complete()));
                }
                let stand = limits::in_line(&state).filter(|placed| needed(placed.delivery));
                in_line = stand.map(|placed| Arc::clone(&placed.group)).collect::<Vec<_>>();
            }
            for group in &in_line {
                let holders = limits::holders(self.runtime, group);
                // A place that is on no thread comes free: between two attempts, or about to be given back.
                if !limits::all_on_threads(self.runtime, group) {
                    continue;
                }
                let [worker] = holders[..] else {
                    if self.none_can_leave(group, &holders, &event, jump, queue, lines) {
                        let words =
                            format!(", which stands in line for {}, and whoever has a place waits, too", group.label());
                        return Some(format!("{}{words}", trail.words(hop)));
                    }
                    continue;
                };
                // Who waits for the event lends it the place.
                let words =
                    |who: &str| format!(", which stands in line for {}, where {who} has a place", group.label());
                if worker == self.me {
                    let lends = |awaited| limits::needs(self.parked, awaited, &event);
                    if jump && queue || self.awaited.is_some_and(lends) {
                        continue;
                    }
                    return Some(format!("{}{}", trail.words(hop), words("this very handler")));
                }
                if let Some(wait) =
                    self.parked.get(&worker).filter(|wait| !limits::needs(self.parked, &wait.event, &event))
                {
                    let hop = trail.add(hop, words(&format!("a handler that waits for {}", wait.event)));
                    pending.push(Step::past(wait, hop, jump, queue));
                } else if let Some(bus) = sits::idle_wait(self.runtime, worker) {
                    let hop = trail.add(hop, words("a handler"));
                    pending.extend(self.until_idle(&bus, &mut trail, hop, "that", jump, queue));
                }
            }
            for (worker, handler) in workers {
                if worker == self.me {
                    if jump && queue {
                        continue;
                    }
                    return Some(format!("{}, which {handler} on this very thread must end", trail.words(hop)));
                }
                if let Some(wait) = self.parked.get(&worker) {
                    let hop = trail.add(hop, format!(", where {handler} waits for {}", wait.event));
                    pending.push(Step::past(wait, hop, jump, queue));
                } else if let Some(bus) = sits::idle_wait(self.runtime, worker) {
                    pending.extend(self.until_idle(&bus, &mut trail, hop, &handler, jump, queue));
                }
            }
            // Who jumps claims what is queued; only an in-order wait depends on the queue.
            for queue in queued.iter().filter(|_| in_order).map(|(bus, turn)| Queue::of(bus, *turn)) {
                // A jump on the way claims it, whatever is before it.
                if self.own.keeps(&queue) && !jump {
                    let chain = trail.words(hop);
                    return Some(format!("{chain}, which is queued on {} behind this very handler", queue.bus.label));
                }
                for (event, delivery) in queue.in_line(self.runtime) {
                    let hop = trail.add(hop, format!(", queued on {} behind {event}", queue.bus.label));
                    pending.push(Step { event, delivery: Some(delivery), hop, in_order, jump, queue: true });
                }
                for (event, in_order) in self.parked_before(&queue) {
                    let label = &queue.bus.label;
                    let hop = trail.add(hop, format!(", queued on {label} behind a handler that waits for {event}"));
                    pending.push(Step { event, delivery: None, hop, in_order, jump: jump || !in_order, queue: true });
                }
                for bus in self.idle_waits_before(&queue) {
                    let hop = trail.add(hop, format!(", queued on {} behind a handler", queue.bus.label));
                    pending.extend(self.until_idle(&bus, &mut trail, hop, "that", jump, true));
                }
            }
            for child in children {
                let hop = trail.add(hop, format!(", which needs its child {child}"));
                pending.push(Step { event: child, delivery: None, hop, in_order, jump, queue });
            }
        }
        None
    }

    /// Whether all that have a place wait, directly or not, for this worker or for a place in the same line; then `event` stands there for
    /// ever. `lines`: those that the search is in already. One is as dead as its other holders make it.
    fn none_can_leave(
        &self,
        group: &Arc<LimitGroup>,
        holders: &[u64],
        event: &AnyEvent,
        jump: bool,
        queue: bool,
        lines: &mut Vec<Arc<LimitGroup>>,
    ) -> bool {
        let waits_for = |holder: &u64| match *holder == self.me {
            true => self.awaited.map(|awaited| (awaited, !jump)),
            false => self.parked.get(holder).map(|wait| (&wait.event, wait.in_order)),
        };
        // Who waits for the event lends it the place, unless somebody else has that already.
        let stays = |holder: &u64| {
            waits_for(holder).is_some_and(|(awaited, _)| {
                !(limits::needs(self.parked, awaited, event) && limits::can_lend(self.runtime, group, *holder))
            })
        };
        if holders.is_empty() || !holders.iter().all(stays) {
            return false;
        }
        if lines.iter().any(|line| Arc::ptr_eq(line, group)) {
            return true;
        }
        lines.push(Arc::clone(group));
        let dead = holders.iter().all(|holder| match waits_for(holder) {
            _ if *holder == self.me => !(jump && queue),
            Some((awaited, in_order)) => self.run(awaited, in_order, jump || !in_order, queue, lines).is_some(),
            None => false,
        });
        lines.pop();
        dead
    }

    /// What the parked handlers wait for that keep a queue from starting.
    fn parked_before(&self, queue: &Queue) -> Vec<(AnyEvent, bool)> {
        let keeps = |id: u64| self.keeps(id, queue);
        self.parked.iter().filter(|(id, _)| keeps(**id)).map(|(_, wait)| (wait.event.clone(), wait.in_order)).collect()
    }

    fn keeps(&self, worker: u64, queue: &Queue) -> bool {
        self.runtime.pool.worker(worker).is_some_and(|worker| {
            let slots = worker.slots();
            Standing::of(slots.iter().map(|slot| (&slot.event, slot.delivery))).keeps(queue)
        })
    }

    /// The buses that they wait for to be idle.
    fn idle_waits_before(&self, queue: &Queue) -> Vec<Arc<BusIdentity>> {
        let waits = sits::idle_waits(self.runtime).into_iter();
        waits.filter(|(id, _)| *id != self.me && self.keeps(*id, queue)).map(|(_, bus)| bus).collect()
    }
}

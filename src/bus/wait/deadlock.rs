//! Waits that can never end: a search from what a thread waits for along what that needs, until that is the thread itself
//! (`README.md`, *Circles*).

use crate::bus::core::hold::held_for;
use crate::bus::permits::asleep;
use crate::bus::permits::limits;
use crate::bus::thread::frame::Frame;
use crate::bus::thread::sits;
use crate::bus::wait::standing::{Queue, Standing};
use crate::event::{AnyEvent, BusIdentity, DeliveryPhase, LimitGroup, RecordPhase, TurnKind};
use crate::runtime::{ParkedWait, RuntimeCore, Worker};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Why a bus can never be idle while the handler on this thread, which is entered among those that sit, waits for that.
pub(crate) fn never_idle(worker: &Worker, frame: &Frame, bus: &Arc<BusIdentity>) -> Option<String> {
    let runtime = &frame.bus.runtime;
    let parked = runtime.parked.lock();
    let search = Search { parked: &parked, runtime, me: worker.id, own: Standing::of_this_thread(), awaited: None };
    let mut trail = Trail::default();
    let steps = search.until_idle(bus, &mut trail, 0, "", Way { in_order: true, jump: false, queue: false });
    let chain = search.go(steps, trail, &mut Vec::new())?;
    Some(format!("{} on {} waits for {} to be idle{chain}", frame.label(), frame.event, bus.label))
}

/// What lies on the way of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Way {
    /// Whether who waits for the event leaves its queued deliveries to their buses.
    in_order: bool,
    /// A jump: that one claims what is queued.
    jump: bool,
    /// A queue.
    queue: bool,
}

impl Way {
    /// From a wait.
    pub(crate) fn of(in_order: bool) -> Way {
        Way { in_order, jump: !in_order, queue: false }
    }

    fn past(self, in_order: bool) -> Way {
        Way { in_order, jump: self.jump || !in_order, ..self }
    }

    fn over_queue(self) -> Way {
        Way { queue: true, ..self }
    }

    /// A jump on the way claims what is queued, so it is no dead end.
    fn is_jumped(self) -> bool {
        self.jump && self.queue
    }
}

/// How far a search has come.
struct Step {
    event: AnyEvent,
    /// The end of this one delivery is enough; the event got it, maybe, when it was complete.
    delivery: Option<usize>,
    /// Its last hop in the trail; 0 is none.
    hop: usize,
    way: Way,
}

fn past(wait: &ParkedWait, hop: usize, way: Way) -> Step {
    Step { event: wait.event.clone(), delivery: None, hop, way: way.past(wait.in_order) }
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

pub(crate) struct Search<'a> {
    pub(crate) parked: &'a HashMap<u64, ParkedWait>,
    pub(crate) runtime: &'a RuntimeCore,
    pub(crate) me: u64,
    pub(crate) own: Standing,
    /// The event that this worker waits for; `None` if it is no event.
    pub(crate) awaited: Option<&'a AnyEvent>,
}

impl Search<'_> {
    /// From an event along what it needs, until that is this worker.
    ///
    /// A way over a queue is no dead end if a jump lies on it: that one claims what is queued.
    pub(crate) fn run(&self, start: &AnyEvent, way: Way, lines: &mut Vec<Arc<LimitGroup>>) -> Option<String> {
        let start = Step { event: start.clone(), delivery: None, hop: 0, way };
        self.go(vec![start], Trail::default(), lines)
    }

    /// What a thread that waits for a bus to be idle needs: the end of each delivery there.
    fn until_idle(&self, bus: &BusIdentity, trail: &mut Trail, hop: usize, who: &str, way: Way) -> Vec<Step> {
        let mut steps = Vec::new();
        for (event, delivery) in sits::unfinished(bus) {
            let words = match who {
                "" => format!(", which needs {event} there"),
                who => format!(", where {who} waits for {} to be idle, which needs {event} there", bus.label),
            };
            let hop = trail.add(hop, words);
            // It leaves what is queued to the bus.
            steps.push(Step { event, delivery: Some(delivery), hop, way: Way { in_order: true, ..way } });
        }
        steps
    }

    fn go(&self, mut pending: Vec<Step>, mut trail: Trail, lines: &mut Vec<Arc<LimitGroup>>) -> Option<String> {
        let mut seen = HashSet::new();
        while let Some(step) = pending.pop() {
            let Step { event, delivery: only, hop, way } = step;
            let is_over = only.is_none() && event.is_complete();
            if is_over || !seen.insert((event.head().stamp(), only, way)) {
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
                if only.is_none() && !state.is_active() {
                    children.extend(state.children().map(|c| c.event.clone()).filter(|e| !e.is_complete()));
                }
                let stand = limits::in_line(&state).filter(|placed| needed(placed.delivery));
                in_line = stand.map(|placed| Arc::clone(&placed.group)).collect::<Vec<_>>();
            }
            for group in &in_line {
                // Else a place comes free, whatever else stands: also one between two attempts, or about to be given back.
                let Some(holders) = asleep::all_asleep(self.runtime, group) else { continue };
                let [worker] = holders[..] else {
                    if self.none_can_leave((group, &holders), &event, way, lines) {
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
                    let lends = |awaited| asleep::needs(self.runtime, self.parked, awaited, &event);
                    if way.is_jumped() || self.awaited.is_some_and(lends) {
                        continue;
                    }
                    return Some(format!("{}{}", trail.words(hop), words("this very handler")));
                }
                if let Some(wait) = self
                    .parked
                    .get(&worker)
                    .filter(|wait| !asleep::needs(self.runtime, self.parked, &wait.event, &event))
                {
                    let hop = trail.add(hop, words(&format!("a handler that waits for {}", wait.event)));
                    pending.push(past(wait, hop, way));
                } else if let Some(bus) = sits::idle_wait(self.runtime, worker) {
                    let hop = trail.add(hop, words("a handler"));
                    pending.extend(self.until_idle(&bus, &mut trail, hop, "that", way));
                }
            }
            for (worker, handler) in workers {
                if worker == self.me {
                    if way.is_jumped() {
                        continue;
                    }
                    return Some(format!("{}, which {handler} on this very thread must end", trail.words(hop)));
                }
                if let Some(wait) = self.parked.get(&worker) {
                    let hop = trail.add(hop, format!(", where {handler} waits for {}", wait.event));
                    pending.push(past(wait, hop, way));
                } else if let Some(bus) = sits::idle_wait(self.runtime, worker) {
                    pending.extend(self.until_idle(&bus, &mut trail, hop, &handler, way));
                }
            }
            // Who jumps claims what is queued; only an in-order wait depends on the queue.
            for queue in queued.iter().filter(|_| way.in_order).map(|(bus, turn)| Queue::of(bus, *turn)) {
                // A jump on the way claims it, whatever is before it.
                if self.own.keeps(&queue) && !way.jump {
                    let chain = trail.words(hop);
                    return Some(format!("{chain}, which is queued on {} behind this very handler", queue.bus.label));
                }
                for (event, delivery) in queue.in_line(self.runtime) {
                    let hop = trail.add(hop, format!(", queued on {} behind {event}", queue.bus.label));
                    pending.push(Step { event, delivery: Some(delivery), hop, way: way.over_queue() });
                }
                for (event, in_order) in self.parked_before(&queue) {
                    let label = &queue.bus.label;
                    let hop = trail.add(hop, format!(", queued on {label} behind a handler that waits for {event}"));
                    pending.push(Step { event, delivery: None, hop, way: way.past(in_order).over_queue() });
                }
                for bus in self.idle_waits_before(&queue) {
                    let hop = trail.add(hop, format!(", queued on {} behind a handler", queue.bus.label));
                    pending.extend(self.until_idle(&bus, &mut trail, hop, "that", way.over_queue()));
                }
            }
            for before in held_for(&event) {
                let hop = trail.add(hop, format!(", which comes after {before}"));
                pending.push(Step { event: before, delivery: None, hop, way });
            }
            for child in children {
                let hop = trail.add(hop, format!(", which needs its child {child}"));
                pending.push(Step { event: child, delivery: None, hop, way });
            }
        }
        None
    }

    /// Whether all that have a place wait, directly or not, for this worker or for a place in the same line; then `event` stands there for
    /// ever. `lines`: those that the search is in already. One is as dead as its other holders make it.
    fn none_can_leave(
        &self,
        (group, holders): (&Arc<LimitGroup>, &[u64]),
        event: &AnyEvent,
        way: Way,
        lines: &mut Vec<Arc<LimitGroup>>,
    ) -> bool {
        let waits_for = |holder: &u64| match *holder == self.me {
            true => self.awaited.map(|awaited| (awaited, !way.jump)),
            false => self.parked.get(holder).map(|wait| (&wait.event, wait.in_order)),
        };
        // Who waits for the event lends it the place, unless somebody else has that already.
        let stays = |holder: &u64| {
            waits_for(holder).is_some_and(|(awaited, _)| {
                !(asleep::needs(self.runtime, self.parked, awaited, event)
                    && asleep::can_lend(self.runtime, group, *holder))
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
            _ if *holder == self.me => !way.is_jumped(),
            Some((awaited, in_order)) => self.run(awaited, way.past(in_order), lines).is_some(),
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

//! What few events have in their state: hooks of attempts, places under limits, delays between attempts, lines they wait in, batches.

use crate::event::state::delays::{Delay, Wait};
use crate::event::state::given_up::{Hook, Pause};
use crate::event::structure::Links;
use crate::event::{AttemptKey, DeliveryPhase, Outcome, Placed, RecordPhase, State};
use crate::sys::clock::{Stamp, Timer};
use crate::sys::planted;
use std::sync::Arc;

impl State {
    pub(crate) fn links(&mut self) -> &mut Links {
        self.links.get_or_insert_with(Box::default)
    }

    pub(crate) fn links_if_any(&mut self) -> Option<&mut Links> {
        self.links.as_deref_mut()
    }

    /// Whether a thread waits for the first value; and whether that attempt, which ends by itself, has left hooks.
    #[inline]
    pub(crate) fn wanted_and_hooked(&self, of: AttemptKey) -> (bool, bool) {
        let Some(links) = &self.links else { return (false, false) };
        (links.value_wanted, !planted("ended_keeps_hooks") && links.hooks.are_left_of(of))
    }

    /// It is counted in that batch from now on. False if it was already.
    pub(crate) fn enter_batch(&mut self, batch: u64) -> bool {
        let batches = &mut self.links().batches;
        let is_new = !batches.contains(&batch);
        if is_new {
            batches.push(batch);
        }
        is_new
    }
}

/// Attempts that are given up.
impl State {
    /// Runs if that attempt, which is live, is given up. Its number takes it back.
    pub(crate) fn hook(&mut self, of: AttemptKey, run: Box<dyn FnOnce() + Send>) -> u64 {
        self.links().hooks.add(of, run)
    }

    /// To be dropped outside of the lock.
    pub(crate) fn unhook(&mut self, number: u64) -> Option<Hook> {
        self.links.as_mut()?.hooks.remove(number)
    }

    /// The hooks of an attempt that has ended by itself, to be dropped outside of the lock.
    pub(crate) fn unhook_all(&mut self, of: AttemptKey) -> Vec<Hook> {
        self.links.as_mut().map_or_else(Vec::new, |links| links.hooks.take(of))
    }

    /// Another thread than its own ends that attempt. Returns what it leaves behind.
    pub(crate) fn give_up(&mut self, of: AttemptKey) -> (Vec<Hook>, Vec<Pause>) {
        let links = self.links();
        links.given_up.add(of);
        if let Some(placed) = links.limits.iter_mut().find(|placed| placed.is_of(of.delivery, of.invocation)) {
            placed.is_left_to(of.attempt);
        }
        let pauses = links.pauses.extract_if(.., |pause| pause.of == of).collect();
        (links.hooks.take(of), pauses)
    }

    /// Whether that attempt, which has ended, was given up. One that was not counts as such if a later one of its invocation was: the thread
    /// that asks is nearly always still inside.
    pub(crate) fn was_given_up(&self, of: AttemptKey) -> bool {
        self.links.as_ref().is_some_and(|links| links.given_up.has(of))
    }
}

/// Places under limits.
impl State {
    pub(crate) fn limits(&self) -> &[Placed] {
        self.links.as_ref().map_or(&[], |links| &links.limits)
    }

    fn placed(&mut self, delivery: usize, invocation: usize) -> Option<&mut Placed> {
        self.links.as_mut()?.limits.iter_mut().find(|placed| placed.is_of(delivery, invocation))
    }

    /// A thread that was given up is still in that invocation's place.
    pub(crate) fn place_is_in_use(&self, delivery: usize, invocation: usize) -> bool {
        self.limits().iter().find(|placed| placed.is_of(delivery, invocation)).is_some_and(Placed::is_in_use)
    }

    /// The invocation's next attempt waits for that thread. False if it is back.
    pub(crate) fn wants_returned(&mut self, delivery: usize, invocation: usize) -> bool {
        self.placed(delivery, invocation).is_some_and(Placed::wants_returned)
    }

    /// The thread of an attempt is back that does not count any more. True if the next attempt has waited for that, and may start.
    pub(crate) fn has_returned(&mut self, of: AttemptKey) -> bool {
        let wanted = self.placed(of.delivery, of.invocation).is_some_and(|placed| placed.has_returned(of.attempt));
        let Some(delivery) = self.deliveries.get_mut(of.delivery).filter(|_| wanted) else { return false };
        let Some(record) = delivery.records.get_mut(of.invocation) else { return false };
        if delivery.phase != DeliveryPhase::Active || record.phase != RecordPhase::Delayed || record.placed {
            return false;
        }
        record.placed = true;
        let attempt = record.attempt;
        delivery.retry(of.invocation, attempt)
    }
}

/// Delays between attempts, and deliveries of which nothing runs.
impl State {
    /// The invocation of a failed attempt waits for its next one, unless its delivery is over. What is kept no longer comes back: the delay
    /// before, or this one.
    pub(crate) fn delay(&mut self, delay: Delay) -> (bool, Option<Delay>) {
        let AttemptKey { delivery, invocation, attempt } = delay.of;
        if !self.deliveries.get(delivery).is_some_and(|d| d.is_delayed(invocation, attempt)) {
            return (false, Some(delay));
        }
        (true, self.links().delays.put(delay))
    }

    /// A delay's timer, to be taken back if its delivery ends first. False if the delay is over.
    pub(crate) fn keep_timer(&mut self, of: AttemptKey, timer: Timer) -> bool {
        self.links.as_mut().is_some_and(|links| links.delays.keep_timer(of, timer))
    }

    /// A delay's time has come. True if the invocation may start again.
    pub(crate) fn end_delay(&mut self, of: AttemptKey) -> bool {
        if let Some(links) = &mut self.links {
            links.delays.end(of);
        }
        self.deliveries.get_mut(of.delivery).is_some_and(|d| d.retry(of.invocation, of.attempt))
    }

    /// Makes no further attempt where one is delayed: the last failure is the result.
    pub(crate) fn cut_delays(&mut self, delivery: usize, at: Stamp) -> Vec<Delay> {
        let Some(links) = self.links.as_mut().filter(|links| !links.delays.is_empty()) else { return Vec::new() };
        let Some(d) = self.deliveries.get_mut(delivery).filter(|d| d.phase == DeliveryPhase::Active) else {
            return Vec::new();
        };
        let cut = links.delays.cut(delivery, |of| d.is_delayed(of.invocation, of.attempt));
        for Delay { of, failure, .. } in &cut {
            d.end_record(of.invocation, Outcome::Failed(Arc::clone(failure)), at);
        }
        cut
    }

    /// Whether a delivery waits for the next attempt of a handler, or in a line.
    pub(crate) fn has_waits(&self) -> bool {
        self.links.as_ref().is_some_and(|links| !links.delays.is_empty() || !links.waits.is_empty())
    }

    /// Of a delivery that ends.
    pub(crate) fn take_delays(&mut self, delivery: usize) -> (Vec<Delay>, Option<Wait>) {
        let Some(links) = self.links.as_deref_mut() else { return (Vec::new(), None) };
        let delays = links.delays.take(delivery);
        (delays, self.end_wait(delivery))
    }

    /// False if it waits already.
    pub(crate) fn begin_wait(&mut self, wait: Wait) -> bool {
        let waits = &mut self.links().waits;
        let is_new = waits.iter().all(|other| other.delivery != wait.delivery);
        if is_new {
            waits.push(wait);
        }
        is_new
    }

    pub(crate) fn end_wait(&mut self, delivery: usize) -> Option<Wait> {
        let waits = &mut self.links.as_deref_mut()?.waits;
        let at = waits.iter().position(|wait| wait.delivery == delivery)?;
        Some(waits.swap_remove(at))
    }
}

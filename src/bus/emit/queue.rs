//! What is queued: from the channel into the lanes, out of them, and what falls out of a full queue.

use crate::bus::core::permit::is_queued;
use crate::bus::core::{BusCore, Entry, Run};
use crate::bus::end::cancel::end_unstarted;
use crate::bus::thread::frame;
use crate::event::{AnyEvent, Priority, TurnKind};
use crate::sys::sync::MutexGuard;
use crate::sys::sync::atomic::Ordering;
use crate::sys::unwind;
use std::sync::Arc;

/// It does not simply go after the one before it.
pub(crate) fn needs_lanes(entry: &Entry) -> bool {
    entry.turn != TurnKind::Bus || entry.event.head().priority != Priority::NORMAL
}

fn sort(run: &mut Run, entry: Entry) {
    let priority = entry.event.head().priority;
    match entry.turn {
        TurnKind::Free => run.free.push_back(priority, entry),
        TurnKind::Bus | TurnKind::Global => run.lanes.push_back(priority, entry),
    }
}

/// Whether another try to get into a full queue makes sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// Everything in it is above the arrival, or has had an attempt.
    None,
    /// Something went.
    Made,
    /// Nothing is queued any more.
    Empty,
}

impl BusCore {
    /// What is queued, by priority: high, normal, low.
    pub(crate) fn queued_by_band(&self) -> [usize; 3] {
        if self.pending() == 0 {
            return [0; 3];
        }
        let mut run = self.run.lock();
        self.fetch(&mut run);
        let queued = |entry: &Entry| is_queued(&entry.event, entry.delivery as usize);
        let (serial, free) = (run.lanes.len_by_band(queued), run.free.len_by_band(queued));
        std::array::from_fn(|band| serial[band] + free[band])
    }

    /// Nothing pauses the bus any more: starts what waited for that.
    pub(crate) fn go_on(self: &Arc<Self>, mut run: MutexGuard<'_, Run>) {
        let wake = run.takes_loop_up();
        self.fetch(&mut run);
        let free: Vec<AnyEvent> = run.free.iter_from_lowest().map(|entry| entry.event.clone()).collect();
        drop(run);
        if wake {
            self.submit_loop();
        }
        let (for_usher, others): (Vec<_>, Vec<_>) = free.into_iter().partition(|event| self.is_for_usher(event));
        others.iter().for_each(|_| self.submit_free());
        if let Some(priority) = for_usher.iter().map(|event| event.head().priority).max() {
            let calls = {
                let _inlet = self.inlet.lock();
                self.usher.is_called(priority)
            };
            if calls {
                self.submit_usher_at(priority);
            }
        }
        unwind::drop_each(for_usher.into_iter().chain(others));
    }

    /// The next entry of the queue; past the lanes where all events go one way, since they would only be moved twice.
    #[inline]
    pub(crate) fn take(&self, run: &mut Run, wanted: impl Fn(&Entry) -> bool) -> Option<Entry> {
        if run.round.is_some() {
            return self.take_of_round(run, wanted);
        }
        if run.lanes.len() == 0 && !self.is_sorted.load(Ordering::Acquire) {
            let entry = self.arrivals.try_recv().ok()?;
            if !needs_lanes(&entry) {
                return Some(entry);
            }
            // The first of its kind, just sent.
            sort(run, entry);
        }
        self.fetch(run);
        run.lanes.peek().filter(|next| wanted(next))?;
        run.lanes.pop()
    }

    #[cold]
    fn take_of_round(&self, run: &mut Run, wanted: impl Fn(&Entry) -> bool) -> Option<Entry> {
        run.round.filter(|left| *left > 0)?;
        run.lanes.peek().filter(|next| wanted(next))?;
        run.round = run.round.map(|left| left - 1);
        run.lanes.pop()
    }

    /// A round is over, and something is left that is not its business.
    #[inline]
    pub(crate) fn leaves_to_next_round(&self, run: &Run) -> bool {
        run.round.is_some() && (run.lanes.len() + run.free.len() > 0 || !self.arrivals.is_empty())
    }

    /// From the channel into the lanes.
    pub(crate) fn fetch(&self, run: &mut Run) {
        while let Some(entry) = self.arrival() {
            sort(run, entry);
        }
    }

    /// The look is cheaper than a try: that one begins with a fence.
    fn arrival(&self) -> Option<Entry> {
        if self.arrivals.is_empty() { None } else { self.arrivals.try_recv().ok() }
    }

    /// Somebody else than the loop took a delivery out of the queue. Its entry is skipped later; too many are swept out.
    pub(crate) fn note_stale(self: &Arc<Self>) {
        let stale = self.counters.stale.fetch_add(1, Ordering::Relaxed) + 1;
        if stale < 64 || stale < i64::try_from(self.pending()).unwrap_or(i64::MAX) {
            return;
        }
        // An event is complete after its first delivery, and mostly soon.
        let over = |entry: &Entry| entry.delivery == 0 && entry.event.is_complete();
        let queued = |entry: &Entry| !over(entry) && is_queued(&entry.event, entry.delivery as usize);
        let mut swept = Vec::with_capacity(usize::try_from(stale).unwrap_or(0));
        let mut run = self.run.lock();
        swept.extend(run.lanes.sift(queued));
        swept.extend(run.free.sift(queued));
        // What still waits goes behind what is in the lanes, and the rest does not get there.
        while let Some(entry) = self.arrival() {
            if queued(&entry) {
                sort(&mut run, entry);
            } else {
                swept.push(entry);
            }
        }
        drop(run);
        self.counters.stale.fetch_sub(i64::try_from(swept.len()).unwrap_or(0), Ordering::Relaxed);
        // What was claimed has yet to be run.
        let _ = frame::callback(|| unwind::drop_each(swept));
    }

    /// The oldest event of the lowest priority that is queued or waits ends, unless all are above `arriving` or have had an attempt.
    pub(crate) fn drop_oldest(self: &Arc<Self>, arriving: Priority) -> Room {
        let mut run = self.run.lock();
        self.fetch(&mut run);
        let waits = |entry: &&Entry| is_queued(&entry.event, entry.delivery as usize);
        let serial = run.lanes.iter_from_lowest().find(waits);
        let free = run.free.iter_from_lowest().find(waits);
        let oldest = match (serial, free) {
            (Some(a), Some(b)) => {
                let key = |e: &Entry| (e.event.head().priority, e.event.head().stamp());
                Some(if key(a) <= key(b) { a } else { b })
            }
            (a, b) => a.or(b),
        };
        let queued = oldest.map(|entry| (entry.event.clone(), entry.delivery as usize));
        drop(run);
        // What waits in a line is as good as queued, as long as no handler of it has started.
        let age = |(event, _): &(AnyEvent, usize)| (event.head().priority, event.head().stamp());
        let (other, oldest) = match (queued, self.oldest_waiting()) {
            (Some(a), Some(b)) if age(&b) < age(&a) => (Some(a), Some(b)),
            (Some(a), b) => (b, Some(a)),
            (None, b) => (None, b),
        };
        let room = match &oldest {
            Some((event, _)) if event.head().priority > arriving => Room::None,
            Some((event, delivery)) => {
                self.is_not_to_be_dropped(event, *delivery);
                end_unstarted(self.delivery(event, *delivery));
                Room::Made
            }
            None if self.is_full_of_tried() => Room::None,
            None => Room::Empty,
        };
        unwind::drop_quietly(other);
        unwind::drop_quietly(oldest);
        room
    }
}

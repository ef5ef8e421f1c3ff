//! An event comes to its bus: history, readers and queue take it in one step, and the loop is woken.

use crate::bus::core::submit::{USUAL, stands_for};
use crate::bus::core::{BusCore, Entry, Inlet, NOWHERE};
use crate::bus::emit::candidate::{Candidate, Entrance, Whence};
use crate::bus::emit::held;
use crate::bus::emit::queue::needs_lanes;
use crate::bus::middleware::tell;
use crate::bus::parts::history::Evicted;
use crate::bus::parts::observers::Seen;
use crate::event::{AnyEvent, DeliveryPhase, EmitError, LetGo, Priority, TurnKind};
use crate::sync::refused;
use crate::sys::clock;
use crate::sys::sync::atomic::Ordering;
use crate::sys::{planted, thread, unwind};
use std::sync::Arc;

/// So many events may an emitter be ahead, before it lets others run on the only core.
const LEAD: u64 = 256;

/// What the loop of a bus makes of an event that was queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loops {
    /// It comes to it, if it needs one.
    On,
    /// It was nowhere.
    Starts,
    /// It stands for one of a lower priority.
    Lags,
    /// The usher comes to the event, which needs none.
    HasUsher,
    /// That one was nowhere, or stands for an event of a lower priority.
    CallsUsher,
}

/// What queuing an event leaves to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    loops: Loops,
    turn: TurnKind,
    priority: Priority,
}

impl Sent {
    pub(crate) const NOTHING: Sent = Sent { loops: Loops::On, turn: TurnKind::Bus, priority: Priority::NORMAL };
}

impl BusCore {
    /// Everything in one section, so that history, observers and queue agree on one order; refusals come before any trace.
    pub(crate) fn insert(self: &Arc<Self>, candidate: &mut Candidate, entrance: Entrance) -> Result<(), EmitError> {
        if candidate.is_held() {
            candidate.prepare_hold(self)?;
        }
        let Some(event) = &candidate.event else { return Ok(()) };
        let whence = Whence::of(candidate.emitter.as_ref());
        let in_handler = whence == Whence::Handler;
        let mut dropped = LetGo::new();
        let mut seen = None;
        let for_usher = candidate.turn == TurnKind::Free && self.is_for_usher(event);
        let mut inlet = self.enter(event, whence, |inlet| {
            self.refuse(inlet, candidate, event, entrance)?;
            if candidate.tries { self.refuse_unread(inlet, candidate, event) } else { Ok(()) }
        })?;
        if !in_handler && entrance == Entrance::Queue && !candidate.has_token {
            self.ask_for_token(&mut inlet)?;
        }
        if entrance != candidate.born
            && let Some(delivery) = event.state().lock().deliveries.first_mut()
        {
            // Before its parent knows it: from then on whoever ends that ends this.
            delivery.phase = DeliveryPhase::Active;
        }
        self.keep_order(&mut inlet, candidate, event);
        let has_parent = candidate.has_parent();
        let mut emitted = 0;
        let mut count = || {
            if let Some(hold) = candidate.hold() {
                self.holds(event, hold);
            }
            emitted = self.counters.count_emit();
        };
        let awaited = if in_handler || has_parent {
            candidate.link_to_parent(event, &mut dropped, count)?
        } else {
            count();
            false
        };

        // Nobody can refuse it any more.
        if awaited {
            event.is_counted_above();
        } else if has_parent {
            event.state().lock().parent = None;
        }
        let watched = tell::enter_new(self, event);
        if candidate.explicit_id {
            self.note_seen(&mut inlet, event.head().id());
        }
        let evicted = inlet.history.push(event.clone(), candidate.explicit_id, || self.counters.latest_claim());
        if !inlet.observers.is_empty() {
            inlet.observers.show(event, seen.get_or_insert_with(Seen::default));
        }
        let mut sent = Sent::NOTHING;
        if candidate.is_held() {
            // What it comes after queues it.
        } else if entrance == Entrance::Claimed {
            self.note_claim(event.head().stamp());
            self.note_arrival(false);
        } else if let Some(event) = candidate.event.take() {
            sent = self.send(&mut inlet, Entry { event, delivery: 0, turn: candidate.turn }, for_usher);
        }
        let spent = inlet.history.pop_spent();
        drop(inlet);

        self.wake_up(sent);
        if emitted.is_multiple_of(LEAD) && !in_handler && thread::cores() < 2 && self.pending() as u64 >= LEAD {
            // The bus has no core of its own. Far ahead of it, events would leave the caches before they run.
            thread::give_way();
        }
        unwind::drop_quietly(spent);
        if let Some(seen) = seen {
            seen.settle();
        }
        if let Some(event) = watched {
            tell::deliver(self, &event);
            unwind::drop_quietly(event);
        }
        if !dropped.is_empty() {
            unwind::drop_each(dropped);
        }
        if has_parent && let Some(parent) = candidate.parent() {
            self.ring_above(parent);
        }
        self.after_push(evicted);
        if let Some(hold) = candidate.hold() {
            held::watch_prerequisites(hold);
        }
        Ok(())
    }

    /// Events that are emitted at the same time get their ids in the order in which the bus takes them.
    #[inline]
    fn keep_order(&self, inlet: &mut Inlet, candidate: &Candidate, event: &AnyEvent) {
        let head = event.head();
        if head.stamp() < inlet.latest {
            // A middleware has seen its id.
            if candidate.explicit_id || self.is_watched() || planted("ids_of_the_emitters_order") {
                return;
            }
            let stamp = clock::unique_stamp(clock::now());
            head.rename(stamp, self.identity.ids.make(stamp));
        }
        inlet.latest = head.stamp();
    }

    /// What a push threw out of the history. With nothing locked, and nothing owed: it has something to say.
    pub(crate) fn after_push(&self, evicted: Evicted) {
        let Some(oldest) = evicted.event else { return };
        if let Some(before) = evicted.warn {
            self.tell_evicted(&oldest, before);
        }
        unwind::drop_quietly(oldest);
    }

    /// Queues what does not come by an emit, as [`send`](Self::send) does.
    #[cold]
    pub(crate) fn send_later(&self, inlet: &mut Inlet, entry: Entry, for_usher: bool) -> Sent {
        self.send(inlet, entry, for_usher)
    }

    /// Goes on after [`send_later`](Self::send_later), with nothing locked.
    #[cold]
    pub(crate) fn wake_up_later(self: &Arc<Self>, sent: Sent) {
        self.wake_up(sent);
    }

    /// Queues an entry, and says what that leaves to do after unlocking.
    #[inline(always)]
    fn send(&self, inlet: &mut Inlet, entry: Entry, for_usher: bool) -> Sent {
        let (turn, priority) = (entry.turn, entry.event.head().priority);
        if needs_lanes(&entry) {
            self.is_sorted.store(true, Ordering::Release);
        }
        // The receiver lives as long as this bus.
        let _ = inlet.queue.send(entry);
        if !self.is_pooled() {
            self.note_arrival(true);
        }
        let loops = if turn == TurnKind::Free || inlet.active >= USUAL {
            match for_usher {
                false => Loops::On,
                true if self.usher.is_called(priority) => Loops::CallsUsher,
                true => Loops::HasUsher,
            }
        } else {
            let was = inlet.active;
            inlet.active = was.max(stands_for(priority));
            if was == NOWHERE { Loops::Starts } else { Loops::Lags }
        };
        Sent { loops, turn, priority }
    }

    #[inline(always)]
    fn wake_up(self: &Arc<Self>, sent: Sent) {
        let Sent { loops, turn, priority } = sent;
        match (turn, loops) {
            (_, Loops::HasUsher) => {}
            (_, Loops::CallsUsher) => self.submit_usher_at(priority),
            (TurnKind::Free, _) => self.submit_free_at(priority),
            (_, Loops::Starts) => self.submit_loop_at(priority),
            (TurnKind::Bus, Loops::On) if priority <= Priority::NORMAL => {}
            (turn, _) => {
                if turn == TurnKind::Global {
                    self.raise_in_global_line();
                }
                if self.is_pooled() {
                    self.runtime.pool.raise(self.lane, priority);
                }
            }
        }
        if !self.is_pooled() {
            self.tell_of_arrival();
        }
        refused::ask_again();
    }
}

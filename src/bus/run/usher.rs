//! The usher: the one runner that brings a bus's events to the lines of their limits (`README.md`, *The usher*).
//!
//! An event whose handlers all have limits mostly comes to a line, where it occupies no thread. So it has no job of its own, which would start one,
//! as long as there is an usher. That one takes one event after the other; before it runs anything of the user's it ceases to be the usher, and
//! calls another one if there is more.

use crate::bus::core::{BusCore, Entry, type_memo};
use crate::bus::run::run_loop::Pass;
use crate::event::{AnyEvent, Priority, TypeSlot};
use crate::runtime::{Job, Worker};
use crate::sys::{planted, unwind};
use std::sync::Arc;

/// So many events an usher keeps at most.
const KEPT: usize = 64;

/// What an usher is through with, to be let go of once it is none any more: it is not to stand still in the user's `Drop`.
#[derive(Default)]
pub(super) struct Ushered(Vec<Entry>);

impl Ushered {
    pub(super) fn keep(&mut self, entries: impl IntoIterator<Item = Entry>) {
        self.0.extend(entries);
    }

    pub(super) fn are_many(&self) -> bool {
        self.0.len() >= KEPT
    }

    pub(super) fn let_go(self) {
        unwind::drop_each(self.0);
    }
}

/// Whatever it runs first needs a place under a limit.
pub(super) fn lines_up(slot: &TypeSlot) -> bool {
    !slot.handlers.is_empty() && slot.handlers.iter().all(|handler| handler.limited)
}

impl BusCore {
    /// Whether an event that needs no turn, and is about to be queued, is left to the usher. Middlewares are the user's, and would be told by it.
    pub(crate) fn is_for_usher(&self, event: &AnyEvent) -> bool {
        if !self.has_limits() || !self.is_pooled() || self.is_watched() {
            return false;
        }
        let slot = type_memo::slot(self, event);
        let lines_up = lines_up(&slot);
        unwind::drop_quietly(slot);
        lines_up
    }

    /// Somebody brings queued events to their lines, of which the next has that priority.
    pub(crate) fn submit_usher_at(self: &Arc<Self>, priority: Priority) {
        let bus = Arc::clone(self);
        let ushers = move |worker: &Arc<Worker>| {
            let comes = {
                let _inlet = bus.inlet.lock();
                bus.usher.has_come(worker.id, priority)
            };
            if comes {
                bus.usher_in(worker);
            }
        };
        self.runtime.pool.submit(Job::at(priority, self.lane, ushers));
    }

    fn usher_in(self: &Arc<Self>, worker: &Arc<Worker>) {
        let (mut pass, mut ushered) = (Pass::begins(worker, None), Ushered::default());
        self.take_free(worker, &mut pass, Some(&mut ushered));
        self.ceases_to_usher(worker);
        unwind::drop_quietly(pass);
        ushered.let_go();
    }

    /// With nothing locked: the calling worker, if it is the usher, is so no more, and another one comes if there is more to do.
    #[cold]
    pub(super) fn ceases_to_usher(self: &Arc<Self>, worker: &Worker) {
        if !self.usher.is(worker.id) {
            return;
        }
        let next = {
            let mut run = self.run.lock();
            // Who sends does so under this lock, and looks there whether there is an usher.
            let _inlet = self.inlet.lock();
            self.fetch(&mut run);
            // Whoever ends the pause, or makes the room, calls for what is queued by then.
            let startable = run.paused == 0 && self.has_room_in_flight() && !planted("usher_goes_without_look");
            let next = run.free.peek().filter(|_| startable).map(|next| next.event.head().priority);
            if next.is_none() {
                self.usher.is_gone();
            }
            next.filter(|priority| self.usher.sets_out(*priority))
        };
        if let Some(priority) = next {
            self.submit_usher_at(priority);
        }
    }

    /// An usher has run something. True if it goes on as one: no other has come yet, and there is more.
    pub(super) fn ushers_on(&self, worker: &Worker) -> bool {
        let _inlet = self.inlet.lock();
        self.usher.is(worker.id) || self.usher.goes_on(worker.id)
    }
}

//! The runner of events that need no turn: several may run at a time, each on a thread of its own.

use crate::bus::core::BusCore;
use crate::bus::run::driver::Via;
use crate::bus::run::run_loop::{Claimed, Next, Pass};
use crate::bus::run::usher::{Ushered, lines_up};
use crate::event::Priority;
use crate::runtime::Worker;
use crate::sys::unwind;
use std::sync::Arc;

impl BusCore {
    #[cold]
    fn priority_of_next_free(&self) -> Option<Priority> {
        let mut run = self.run.lock();
        self.fetch(&mut run);
        run.free.peek().map(|next| next.event.head().priority)
    }

    /// One runner for parallel events: takes them in order, as long as there are any.
    pub(crate) fn run_free(self: &Arc<Self>, worker: &Arc<Worker>) {
        self.take_free(worker, &mut Pass::begins(worker, None), None);
    }

    /// `ushered`: this is the usher, and puts there what it is through with.
    pub(super) fn take_free(
        self: &Arc<Self>,
        worker: &Arc<Worker>,
        pass: &mut Pass,
        mut ushered: Option<&mut Ushered>,
    ) {
        loop {
            let (mut stale, mut in_line) = (Vec::new(), Vec::new());
            let mut run = self.run.lock();
            if run.paused > 0 {
                return;
            }
            if run.round.is_none() {
                self.fetch(&mut run);
            }
            let claimed = loop {
                if run.round == Some(0) || !self.has_room_in_flight() {
                    break Next::Leave;
                }
                let Some(entry) = run.free.pop() else { break Next::Leave };
                run.round = run.round.map(|left| left - 1);
                match self.claim(&mut run, worker, entry, pass, None) {
                    Claimed::ToRun => break Next::Run,
                    Claimed::InLine(entry) => in_line.push(entry),
                    Claimed::BySomebodyElse(entry) => {
                        run.free.refund();
                        stale.push(entry);
                    }
                    Claimed::Doomed => run.free.refund(),
                }
            };
            let more = run.free.len() > 0 && claimed == Next::Run || self.leaves_to_next_round(&run);
            // Serial events that came along: their loop is active since their emit, and looks into the lanes.
            drop(run);
            if more && !self.is_pooled() {
                // This runner is the only one: what its handlers wait for may be among the rest, and runs in their parks.
                self.submit_free();
            }
            in_line.iter().for_each(|entry| self.stands(entry));
            self.end_doomed(pass);
            if let Some(ushered) = &mut ushered {
                ushered.keep(stale.into_iter().chain(in_line));
                let next = pass.slots.slot.as_deref().filter(|_| claimed == Next::Run);
                if !pass.slots.old.is_empty() || next.is_some_and(|slot| !lines_up(slot)) {
                    self.ceases_to_usher(worker);
                }
            } else {
                unwind::drop_each(stale);
                unwind::drop_each(in_line);
            }
            if claimed == Next::Leave {
                unwind::drop_each(pass.slots.old.drain(..));
                return;
            }
            let Some((_, entry)) = self.run_ready(worker, pass, Via::Job) else { return };
            pass.now = None;
            if let Some(ushered) = &mut ushered {
                ushered.keep([entry]);
                if worker.is_promised() || ushered.are_many() || !self.ushers_on(worker) || self.is_spent(pass) {
                    return;
                }
                continue;
            }
            unwind::drop_quietly(entry);
            if worker.is_promised() || self.is_spent(pass) {
                unwind::drop_each(pass.slots.old.drain(..));
                return self.priority_of_next_free().into_iter().for_each(|next| self.submit_free_at(next));
            }
        }
    }
}

//! The runner of events that need no turn: several may run at a time, each on a thread of its own.

use crate::bus::core::BusCore;
use crate::bus::run::driver::Via;
use crate::bus::run::run_loop::{Claimed, Next, Pass};
use crate::event::Priority;
use crate::runtime::Worker;
use crate::sys::unwind;
use std::sync::Arc;

impl BusCore {
    #[cold]
    fn priority_of_next_free(&self) -> Priority {
        self.run.lock().free.peek().map_or(Priority::NORMAL, |next| next.event.head().priority)
    }

    /// One runner for parallel events: takes them in order, as long as there are any.
    pub(crate) fn run_free(self: &Arc<Self>, worker: &Arc<Worker>) {
        let mut pass = Pass::begins(worker, None);
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
                match self.claim(&mut run, worker, entry, &mut pass, None) {
                    Claimed::ToRun => break Next::Run,
                    Claimed::InLine(entry) => in_line.push(entry),
                    Claimed::BySomebodyElse(entry) => {
                        run.free.refund();
                        stale.push(entry);
                    }
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
            unwind::drop_each(stale);
            unwind::drop_each(in_line);
            if claimed == Next::Leave {
                unwind::drop_each(pass.slots.old.drain(..));
                return;
            }
            let Some((_, entry)) = self.run_ready(worker, &mut pass, Via::Job) else { return };
            pass.now = None;
            unwind::drop_quietly(entry);
            if self.is_spent(&mut pass) {
                unwind::drop_each(pass.slots.old.drain(..));
                return self.submit_free_at(self.priority_of_next_free());
            }
        }
    }
}

//! What a bus is to the threads of its runtime: they run its loop, and a pump thread serves it while it waits.

use crate::bus::core::BusCore;
use crate::bus::core::permit::delivery_token;
use crate::bus::permits::delivery::release_delivery;
use crate::bus::run::drive::go_on_with_permit;
use crate::bus::run::resume::{help, resume};
use crate::event::{Delivery, RecordPhase};
use crate::runtime::{Bus, Claimed, GoOn, Lane, NotHere, Pumped, Serves, Worker};
use std::sync::Arc;

impl Bus for BusCore {
    fn lane(&self) -> Lane {
        self.lane
    }

    fn run_loop_on(self: Arc<Self>, worker: &Arc<Worker>) {
        self.run_loop(worker, None);
    }

    fn resume_on(self: Arc<Self>, worker: &Arc<Worker>, Claimed { event, delivery, how }: Claimed) {
        match how {
            GoOn::Resume => resume(&self, worker, &event, delivery),
            GoOn::Help => help(&self, worker, &event, delivery),
            GoOn::WithPermit { invocation, mode, token } => {
                go_on_with_permit(&self, worker, (&event, delivery), (invocation, mode), token);
            }
        }
    }

    fn keep(self: Arc<Self>, work: Pumped) {
        self.put_by(work);
    }

    fn serve(self: Arc<Self>, worker: &Arc<Worker>, serves: Serves) -> Result<bool, NotHere> {
        self.serve_one(worker, serves)
    }

    fn pump_is_awaited(&self) -> bool {
        self.manual.as_ref().is_some_and(|manual| manual.is_awaited())
    }

    fn remind(self: Arc<Self>, worker: &Worker) {
        if self.manual.as_ref().is_some_and(|manual| manual.reminds(worker)) {
            self.announce(true);
        }
    }

    fn give_back_turns(self: Arc<Self>) {
        let Some(manual) = &self.manual else { return };
        let (claimed, had_turn) = manual.set_down_turn();
        for (event, delivery) in claimed {
            let unstarted = |d: &&Delivery| d.records.iter().all(|record| record.phase != RecordPhase::Started);
            let turn = event.state().lock().deliveries.get(delivery).filter(unstarted).map(|d| d.manner.turn);
            if let Some(turn) = turn {
                release_delivery(&self, delivery_token(&event, delivery), turn);
            }
        }
        if had_turn {
            self.give_up_global_turn();
        }
    }
}

//! The runtime's turn, which globally serial events take one after the other: a loop stands in line for it with the head of its queue, hands it
//! to the delivery that it claims, and gives it back.

use crate::bus::core::{BusCore, Entry, Run};
use crate::event::{AnyEvent, TurnKind};
use crate::runtime::{Global, Job, Pumped, Wakeup, hand_over};
use crate::sync::{Granted, Position, Ticket, Token};
use std::sync::Arc;

impl BusCore {
    /// For a global-serial head of the queue. False: the loop stands in the runtime's line, and comes back with its turn.
    pub(super) fn take_global_turn(self: &Arc<Self>, run: &mut Run, head: &AnyEvent) -> bool {
        let mut global = self.runtime.global.lock();
        if global.event.try_take(Position::Entry, self.loop_token(), None) {
            return true;
        }
        let granted = self.stand_in_global_line(run, &mut global, head);
        drop(global);
        // Who has the turn may wait for this bus to be idle.
        self.runtime.ring_sits();
        debug_assert!(granted.is_empty(), "a permit that could not be taken was granted");
        false
    }

    fn stand_in_global_line(self: &Arc<Self>, run: &mut Run, global: &mut Global, head: &AnyEvent) -> Granted<Wakeup> {
        run.loop_in_global_line = true;
        let turn = Wakeup::Job(match self.loop_job(head.head().priority) {
            Job::Pumped(bus, _) => Job::Pumped(bus, Pumped::LoopWithTurn),
            job => job,
        });
        let ticket = Ticket { token: self.loop_token(), under: None, rank: self.rank(head), turn };
        global.event.stand(Position::Entry, ticket)
    }

    /// A delivery gives the runtime's turn back. Where others stand in line for it, the bus's next global event stands among them first: then
    /// the loop does, and this answers true.
    pub(super) fn give_global_turn_back(
        self: &Arc<Self>,
        run: &mut Run,
        token: Token,
        granted: &mut Granted<Wakeup>,
    ) -> bool {
        let mut head = None;
        if run.round.is_none() && run.is_startable() {
            self.fetch(run);
            head = run.lanes.peek().filter(|head| head.turn == TurnKind::Global).map(|head| head.event.clone());
        }
        let mut global = self.runtime.global.lock();
        let head = head.filter(|_| global.event.has_line());
        if let Some(head) = &head {
            granted.extend(self.stand_in_global_line(run, &mut global, head));
        }
        granted.extend(global.event.release(token));
        drop(global);
        // Not the last hold of it: the queue has one.
        let stands = head.is_some();
        if stands {
            self.runtime.ring_sits();
        }
        stands
    }

    /// The loop may stand there for an event that is not its next any more.
    pub(crate) fn raise_in_global_line(&self) {
        let mut run = self.run.lock();
        if !run.loop_in_global_line {
            return;
        }
        self.fetch(&mut run);
        if let Some(head) = run.lanes.peek() {
            let rank = self.rank(&head.event);
            self.runtime.global.lock().event.raise(self.loop_token(), rank);
        }
    }

    /// The loop's own; nothing if it has none.
    pub(super) fn release_global_turn(&self) -> Granted<Wakeup> {
        self.runtime.global.lock().event.release(self.loop_token())
    }

    /// The loop of a manual bus that nobody will pump any more gives back what it was granted.
    pub(crate) fn give_up_global_turn(&self) {
        hand_over(&self.runtime.pool, self.release_global_turn());
    }

    /// The turn is the claimed delivery's from here on. Not before the claim: a jump that claims instead must not find its token holding.
    /// False if that is over already, and has given back whatever it had.
    pub(super) fn hand_on_global_turn(self: &Arc<Self>, entry: &Entry) -> bool {
        let delivery = self.delivery_of(entry);
        let mut global = self.runtime.global.lock();
        let active = delivery.is_active();
        if active {
            global.event.rename(self.loop_token(), delivery.token());
        }
        active
    }
}

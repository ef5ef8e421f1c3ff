//! What transitions write down for the middlewares of a bus, as they happen. Nothing on a bus without.

use crate::event::{
    BusId, BusIdentity, Delivery, DeliveryPhase, Journal, Note, Outcome, ResultNote, ResultStatus, State, Unrun,
};
use crate::sys::clock::Stamp;
use std::sync::Arc;

impl Delivery {
    fn journal(&self) -> Option<&Arc<Journal>> {
        self.extras.as_ref()?.journal.as_ref()
    }

    /// Its handlers are fixed.
    pub(in crate::event) fn note_pending(&self) {
        for invocation in 0..self.records.len() {
            self.note(invocation, ResultStatus::Pending, |journal, note| journal.push(Note::Result(note)));
        }
    }

    pub(in crate::event) fn note_start(&self, invocation: usize, at: Stamp) {
        self.note(invocation, ResultStatus::Started, |journal, note| journal.result_starts(note, at));
    }

    pub(in crate::event) fn note_end(&self, invocation: usize, at: Stamp) {
        let failed = matches!(self.records[invocation].outcome, Outcome::Failed(_));
        let status = if failed { ResultStatus::Error } else { ResultStatus::Completed };
        self.note(invocation, status, |journal, note| journal.result_ends(note, at));
    }

    fn note(&self, invocation: usize, status: ResultStatus, write: impl FnOnce(&Journal, ResultNote)) {
        if let Some(extras) = &self.extras
            && let Some(journal) = &extras.journal
        {
            write(journal, ResultNote { delivery: extras.number, invocation, status });
        }
    }

    /// What it has ended up to now is of another step than what comes. See [`Journal::step_is_over`].
    #[inline]
    pub(crate) fn begin_step(&self) {
        if let Some(journal) = self.journal() {
            journal.step_is_over();
        }
    }
}

impl State {
    /// The bus, which has middlewares, is about to take the event, as its first; nobody else knows it.
    pub(crate) fn begin_journal(&mut self, bus: &BusIdentity) {
        let Some(delivery) = self.deliveries.only_mut().filter(|delivery| delivery.bus.id == bus.id) else { return };
        if let (None, Some(untold)) = (delivery.journal(), &bus.untold) {
            delivery.extras.get_or_insert_default().journal = Some(Journal::of_event(untold));
            self.is_watched = true;
        }
    }

    /// The bus has taken it.
    pub(crate) fn open_journal(&self) {
        if let Some(journal) = self.deliveries.first().and_then(Delivery::journal) {
            journal.open();
        }
    }

    /// The bus, which has middlewares, takes an event that has been elsewhere, or runs a handler of it again.
    #[cold]
    pub(super) fn enter_journal(&mut self, delivery: &mut Delivery) {
        let Some(untold) = &delivery.bus.untold else { return };
        let journal = self.journal_of(delivery.bus.id).cloned().unwrap_or_else(|| {
            let journal = Journal::of_event(untold);
            journal.open();
            journal
        });
        let extras = delivery.extras.get_or_insert_default();
        (extras.journal, extras.number) = (Some(journal), self.deliveries.len());
        self.is_watched = true;
    }

    pub(crate) fn journal_of(&self, bus: BusId) -> Option<&Arc<Journal>> {
        self.deliveries.iter().find(|delivery| delivery.bus.id == bus)?.journal()
    }

    /// A delivery is done.
    #[cold]
    pub(super) fn note_done(&self, delivery: usize) {
        let Some(delivery) = self.deliveries.get(delivery) else { return };
        if let (true, Unrun::No, Some(journal)) = (delivery.records.is_empty(), delivery.unrun, delivery.journal()) {
            journal.event_starts();
        }
        if self.complete {
            self.note_complete();
        }
    }

    /// The event is complete; which is told on the buses that are done with it.
    #[cold]
    pub(super) fn note_complete(&self) {
        for delivery in self.deliveries.iter() {
            let mut here = self.deliveries.iter().filter(|other| other.bus.id == delivery.bus.id);
            if let Some(journal) = delivery.journal()
                && here.all(|other| other.phase == DeliveryPhase::Done)
            {
                journal.event_completes();
            }
        }
    }
}

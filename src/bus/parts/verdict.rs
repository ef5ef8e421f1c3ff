//! How a delivery went, in the bus's own words.

use crate::event::{Cause, CauseKind, EventId, HandlerFailure, Outcome};

/// How a delivery went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) unhandled: bool,
    pub(crate) failed: bool,
    pub(crate) timed_out: bool,
    /// All that failed of it was permanent.
    pub(crate) permanent: bool,
    /// It is noted however it went.
    pub(crate) judged: bool,
}

impl Verdict {
    /// Of a delivery of `event` whose handlers have all ended, and how.
    pub(crate) fn of<'a>(event: EventId, outcomes: impl IntoIterator<Item = &'a Outcome>) -> Verdict {
        let mut verdict = Verdict { unhandled: true, ..Verdict::default() };
        for outcome in outcomes {
            verdict.unhandled = false;
            if let Outcome::Failed(failure) = outcome {
                verdict.note(event, failure);
            }
        }
        verdict
    }

    fn note(&mut self, event: EventId, failure: &HandlerFailure) {
        let failed = is_own(event, failure);
        self.failed |= failed;
        self.timed_out |= failed
            && !matches!(
                failure,
                HandlerFailure::Failed(_)
                    | HandlerFailure::Panicked(_)
                    | HandlerFailure::WrongType { .. }
                    | HandlerFailure::Worker(_)
                    | HandlerFailure::WorkerStart(_)
            );
    }
}

/// The handler failed, or its event's own cap passed. Being given up for a reason outside of it (a parent, a `cancel`, a lost `first`, a
/// shutdown) is no failure of a handler.
pub(crate) fn is_own(event: EventId, failure: &HandlerFailure) -> bool {
    match failure {
        HandlerFailure::Cancelled { cause } | HandlerFailure::Aborted { cause } => is_own_cap(event, cause),
        _ => true,
    }
}

/// It fell out of a full queue, or went with its bus.
pub(crate) fn is_drop(failure: &HandlerFailure) -> bool {
    matches!(failure, HandlerFailure::Cancelled { cause } if cause.kind == CauseKind::Dropped)
}

fn is_own_cap(event: EventId, cause: &Cause) -> bool {
    cause.kind == CauseKind::EventTimeout && cause.event == event
}

//! What became of an event's invocations: results as users see them, without waiting.

use crate::event::{
    AnyEvent, AnyOutput, BusIdentity, HandlerInfo, HandlerResult, Outcome, Record, RecordPhase, ResultStatus, State,
};
use crate::sys::clock::{self, Stamp};
use chrono::{DateTime, Utc};
use std::sync::Arc;
use uuid::Uuid;

/// Each with the bus it ran on.
pub(crate) fn results_in<T>(
    event: &AnyEvent,
    state: &State,
    show: impl Fn(&Arc<BusIdentity>, HandlerResult<AnyOutput>) -> T,
) -> Vec<T> {
    let mut results = Vec::new();
    for (d, delivery) in state.deliveries.iter().enumerate() {
        for (i, record) in delivery.records.iter().enumerate() {
            let Some(handler) = delivery.handler(i).cloned() else { continue };
            if was_redriven(state, d, &handler) {
                continue;
            }
            results.push(show(&delivery.bus, result_of(event, state, (d, i), record, handler)));
        }
    }
    results
}

/// One invocation, as it stands.
pub(crate) fn result_of(
    event: &AnyEvent,
    state: &State,
    (delivery, invocation): (usize, usize),
    record: &Record,
    handler: HandlerInfo,
) -> HandlerResult<AnyOutput> {
    let by = Some((delivery as u32, invocation as u32));
    let children = state.children().filter(|c| c.by == by).map(|c| c.event.head().id()).collect();
    HandlerResult {
        id: result_id(event, &handler),
        handler,
        status: status_of(record),
        value: match &record.outcome {
            Outcome::Value(output) => Some(output.clone()),
            _ => None,
        },
        error: match &record.outcome {
            Outcome::Failed(failure) => Some(Arc::clone(failure)),
            _ => None,
        },
        attempts: record.attempt,
        started_at: time(event, record.started),
        completed_at: time(event, record.ended),
        children,
    }
}

pub(crate) fn status_of(record: &Record) -> ResultStatus {
    match record.phase {
        RecordPhase::Ended if matches!(record.outcome, Outcome::Failed(_)) => ResultStatus::Error,
        RecordPhase::Ended => ResultStatus::Completed,
        _ if record.started != 0 => ResultStatus::Started,
        _ => ResultStatus::Pending,
    }
}

/// Of what happens to an event, to be shown; never before its birth.
pub(crate) fn time(event: &AnyEvent, stamp: Stamp) -> Option<DateTime<Utc>> {
    (stamp != 0).then(|| clock::to_utc_after(event.head().stamp(), stamp))
}

/// The invocation as it was when it came to `status`, which it may have passed.
pub(crate) fn result_at(
    event: &AnyEvent,
    of: (usize, usize),
    status: ResultStatus,
) -> Option<HandlerResult<AnyOutput>> {
    let state = event.state().lock();
    let delivery = state.deliveries.get(of.0)?;
    let (record, handler) = (delivery.records.get(of.1)?, delivery.handler(of.1)?.clone());
    let result = result_of(event, &state, of, record, handler);
    let started_at = match status {
        ResultStatus::Pending => None,
        ResultStatus::Started => result.started_at,
        ResultStatus::Completed | ResultStatus::Error => return Some(result),
    };
    let attempts = u32::from(started_at.is_some());
    let (value, error, completed_at, children) = (None, None, None, Vec::new());
    Some(HandlerResult { status, value, error, attempts, started_at, completed_at, children, ..result })
}

/// A later delivery ran the handler again, and what came of that counts.
fn was_redriven(state: &State, delivery: usize, handler: &HandlerInfo) -> bool {
    let later = state.deliveries.iter().skip(delivery + 1).filter(|later| later.redrive);
    later.into_iter().any(|later| later.left == 0 && later.handler(0).is_some_and(|again| again.id() == handler.id()))
}

/// One id for each pair of an event and a handler, and nobody else's.
fn result_id(event: &AnyEvent, handler: &HandlerInfo) -> Uuid {
    let (a, b) = event.head().id().0.as_u64_pair();
    let (c, d) = handler.id().0.as_u64_pair();
    let mixed = u128::from(a.rotate_left(17) ^ c) << 64 | u128::from(b.rotate_left(29) ^ d);
    uuid::Builder::from_custom_bytes(mixed.to_be_bytes()).into_uuid()
}

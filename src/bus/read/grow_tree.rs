//! Growing a log tree: one look at every event, in the order in which it will be drawn. No lock is held while a value is turned into text,
//! and it goes by a list and not by recursion.

use crate::bus::parts::tree::{Node, Sign, Tree};
use crate::bus::read::shown;
use crate::bus::{age, callback};
use crate::event::{AnyEvent, CauseKind, EventId, HandlerFailure, HandlerResult, ResultStatus, Unrun};
use crate::event::{AnyOutput, HandlerId, Outcome, State};
use crate::sys::clock;
use crate::sys::one_line::on_one_line;
use chrono::{DateTime, Utc};
use std::collections::{HashMap, HashSet};
use std::time::Duration;

impl Tree {
    pub(crate) fn of_event(event: AnyEvent) -> Tree {
        Tree::grow(vec![event], &HashMap::new())
    }

    pub(crate) fn of_history(history: Vec<AnyEvent>) -> Tree {
        let events = history.len();
        let parents = parents_in(&history);
        let tops = tops(&parents);
        let mut roots = Vec::new();
        // An event lets go of its oldest children when there are very many; the history may still have them.
        let mut below: HashMap<EventId, Vec<AnyEvent>> = HashMap::new();
        for (at, event) in history.into_iter().enumerate() {
            match event.parent_id() {
                Some(parent) if !tops[at] => below.entry(parent).or_default().push(event),
                _ => roots.push(event),
            }
        }
        Tree { events, of: events, ..Tree::grow(roots, &below) }
    }

    fn grow(roots: Vec<AnyEvent>, below: &HashMap<EventId, Vec<AnyEvent>>) -> Tree {
        let mut tree = Tree::default();
        let mut seen = HashSet::new();
        let mut pending: Vec<(AnyEvent, Option<usize>)> = roots.into_iter().rev().map(|root| (root, None)).collect();
        while let Some((event, parent)) = pending.pop() {
            if !seen.insert(event.id()) {
                continue;
            }
            let place = tree.add(event_node(&event), parent);
            // The children first: what is emitted meanwhile is left out.
            let mut children = event.children();
            let results = event.results();
            if let Some(forgotten) = below.get(&event.id()) {
                children.extend(forgotten.iter().cloned());
                children.sort_by_key(|child| child.head().stamp());
            }
            let mut emitters: HashMap<EventId, usize> = HashMap::new();
            let mut handlers: HashMap<HandlerId, usize> = HashMap::new();
            for result in results {
                let (ids, id) = (result.children.clone(), result.handler.id());
                let handler = tree.add(handler_node(result), Some(place));
                handlers.insert(id, handler);
                emitters.extend(ids.into_iter().map(|child| (child, handler)));
            }
            for child in children.into_iter().rev() {
                let by_id = || child.emitted_by().and_then(|id| handlers.get(&id));
                let emitter = emitters.get(&child.id()).or_else(by_id).copied().unwrap_or(place);
                pending.push((child, Some(emitter)));
            }
        }
        tree
    }
}

/// At which place in it each event's parent is, if it is there.
fn parents_in(history: &[AnyEvent]) -> Vec<Option<usize>> {
    let places: HashMap<EventId, usize> = history.iter().enumerate().map(|(at, event)| (event.id(), at)).collect();
    history.iter().map(|event| places.get(&event.parent_id()?).copied()).collect()
}

/// Which are drawn below nothing: those without a parent, and of parents in a circle, which only events from elsewhere can have, the first.
fn tops(parents: &[Option<usize>]) -> Vec<bool> {
    let mut tops: Vec<bool> = parents.iter().map(Option::is_none).collect();
    // On which way up each was met first.
    let mut met_on: Vec<Option<usize>> = vec![None; parents.len()];
    for way in 0..parents.len() {
        let mut at = way;
        while met_on[at].is_none() {
            met_on[at] = Some(way);
            match parents[at] {
                Some(parent) => at = parent,
                None => break,
            }
        }
        if met_on[at] == Some(way) && !tops[at] {
            let around = std::iter::successors(parents[at], |at| parents[*at]).take_while(|next| *next != at);
            let first = around.fold(at, usize::min);
            tops[first] = true;
        }
    }
    tops
}

fn event_node(event: &AnyEvent) -> Node {
    let (sign, result) = {
        let state = event.state().lock();
        if let Some(refused) = state.rejected() {
            (Sign::Cancelled, format!(": refused: {refused}"))
        } else if state.complete && state.unrun() != Unrun::No {
            let how = if state.unrun() == Unrun::Dropped { ": dropped" } else { ": cancelled" };
            (Sign::Cancelled, how.to_owned())
        } else if state.complete {
            (sign_of_all(&state), String::new())
        } else if state.started != 0 {
            (Sign::Running, String::new())
        } else {
            (Sign::Waiting, String::new())
        }
    };
    let (label, name) = (event.to_string(), event.without_id().to_string());
    let time = time(Some(event.created_at()), age(event), sign);
    Node { sign, label, name, time, result: on_one_line(result.trim_end()).into_owned(), children: Vec::new() }
}

fn handler_node(result: HandlerResult<AnyOutput>) -> Node {
    let (sign, mut text) = match (result.status, &result.error) {
        (ResultStatus::Pending, _) => (Sign::Waiting, String::new()),
        (ResultStatus::Started, _) => (Sign::Running, String::new()),
        (_, Some(failure)) => (sign_of(failure), text_of(failure)),
        (_, None) => (Sign::Done, result.value.as_ref().map_or_else(|| " → None".to_owned(), shown::show)),
    };
    if result.attempts > 1 {
        text.push_str(&format!(" ({} attempts)", result.attempts));
    }
    let bus = result.handler.bus_label();
    let (handler, short) = (&result.handler, bus.rsplit_once('#').map_or(bus, |(name, _)| name));
    let (label, name) = (format!("{bus}.{}", handler.label()), format!("{short}.{}", handler.name()));
    let until = result.completed_at.unwrap_or_else(|| clock::to_utc(clock::now()));
    let took = result.started_at.and_then(|from| until.signed_duration_since(from).to_std().ok());
    let time = time(result.started_at, took.unwrap_or_default(), sign);
    let [label, name, result] = [label, name, text].map(|text| on_one_line(text.trim_end()).into_owned());
    Node { sign, label, name, time, result, children: Vec::new() }
}

/// The error is the user's, and so is its text.
fn text_of(failure: &HandlerFailure) -> String {
    callback(|| format!(": {failure}")).unwrap_or_else(|panic| format!(": its text panicked: {panic}"))
}

/// Of a complete event: well only if all its handlers were, but for those that lost to the first.
fn sign_of_all(state: &State) -> Sign {
    let lost = |failure: &HandlerFailure| match failure {
        HandlerFailure::Cancelled { cause } | HandlerFailure::Aborted { cause } => cause.kind == CauseKind::LostFirst,
        _ => false,
    };
    let failures = state.deliveries.iter().flat_map(|d| &d.records).filter_map(|record| match &record.outcome {
        Outcome::Failed(failure) if !lost(failure) => Some(sign_of(failure)),
        _ => None,
    });
    failures.min_by_key(|sign| *sign != Sign::Failed).unwrap_or(Sign::Done)
}

fn sign_of(failure: &HandlerFailure) -> Sign {
    match failure {
        HandlerFailure::TimedOut { .. } => Sign::TimedOut,
        HandlerFailure::Cancelled { .. } => Sign::Cancelled,
        HandlerFailure::Aborted { .. } => Sign::GivenUp,
        _ => Sign::Failed,
    }
}

fn time(from: Option<DateTime<Utc>>, took: Duration, sign: Sign) -> String {
    let Some(from) = from else { return String::new() };
    let at = from.format("%H:%M:%S%.3f");
    match sign {
        Sign::Running => format!("[{at} ({took:.1?} so far)]"),
        Sign::Waiting => format!("[{at}]"),
        _ => format!("[{at} ({took:.1?})]"),
    }
}

#[cfg(test)]
mod tests {
    use super::tops;

    #[test]
    fn each_event_is_below_one_top() {
        for (parents, expected) in [
            (&[][..], &[][..]),
            (&[None, Some(0), Some(1)], &[0]),
            (&[Some(0)], &[0]),
            (&[Some(1), Some(0)], &[0]),
            (&[Some(2), Some(0), Some(1), Some(2), Some(3)], &[0]),
            (&[Some(3), None, Some(1), Some(4), Some(3), Some(5)], &[1, 3, 5]),
        ] {
            let tops = tops(parents);
            let found: Vec<_> = (0..parents.len()).filter(|at| tops[*at]).collect();
            assert_eq!(found, expected, "{parents:?}");
        }
    }
}

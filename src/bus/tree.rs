//! What is in a log tree: one look at every event, in the order in which it will be drawn. No lock is held while a value is turned into text,
//! and it goes by a list and not by recursion.

use crate::bus::shown;
use crate::bus::{age, callback};
use crate::event::{AnyEvent, CauseKind, EventId, HandlerFailure, HandlerResult, ResultStatus, Unrun};
use crate::event::{AnyOutput, HandlerId, Outcome, State, leaves_its_line};
use crate::sys::clock;
use chrono::{DateTime, Utc};
use std::collections::{HashMap, HashSet};
use std::time::Duration;

/// How something stands, or ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sign {
    Waiting,
    Running,
    Done,
    Failed,
    TimedOut,
    Cancelled,
    GivenUp,
}

/// An event, or one handler's run of it.
pub(crate) struct Node {
    pub(crate) sign: Sign,
    /// With the last digits of ids, and without.
    pub(crate) label: String,
    pub(crate) name: String,
    /// `[14:03:05.123 (1.2ms)]`, or nothing.
    pub(crate) time: String,
    /// What came out of it, with what leads to it: ` → 42`, `: no network`. Or nothing.
    pub(crate) result: String,
    pub(crate) children: Vec<usize>,
}

#[derive(Default)]
pub(crate) struct Tree {
    pub(crate) nodes: Vec<Node>,
    pub(crate) roots: Vec<usize>,
    /// How many events of the history it was made of.
    pub(crate) events: usize,
}

impl Tree {
    pub(crate) fn of_event(event: AnyEvent) -> Tree {
        Tree::grow(vec![event], &HashMap::new())
    }

    pub(crate) fn of_history(history: Vec<AnyEvent>) -> Tree {
        let events = history.len();
        let known: HashSet<EventId> = history.iter().map(AnyEvent::id).collect();
        let mut roots = Vec::new();
        // An event lets go of its oldest children when there are very many; the history may still have them.
        let mut below: HashMap<EventId, Vec<AnyEvent>> = HashMap::new();
        for event in history {
            match event.parent_id().filter(|parent| known.contains(parent) && *parent != event.id()) {
                Some(parent) => below.entry(parent).or_default().push(event),
                None => roots.push(event),
            }
        }
        Tree { events, ..Tree::grow(roots, &below) }
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

    fn add(&mut self, node: Node, parent: Option<usize>) -> usize {
        let place = self.nodes.len();
        self.nodes.push(node);
        match parent {
            Some(parent) => self.nodes[parent].children.push(place),
            None => self.roots.push(place),
        }
        place
    }
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
    let (label, name) = (event.named(true).to_string(), event.named(false).to_string());
    let time = time(Some(event.created_at()), age(event), sign);
    Node { sign, label, name, time, result: one_line(&result), children: Vec::new() }
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
    Node { sign, label: one_line(&label), name: one_line(&name), time, result: one_line(&text), children: Vec::new() }
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

/// Without line breaks and other characters that would tear the tree apart, or show a line in another order than it is written.
fn one_line(text: &str) -> String {
    let text = text.trim_end();
    if !text.contains(leaves_its_line) {
        return text.to_owned();
    }
    let spaced = text.chars().map(|c| if leaves_its_line(c) { ' ' } else { c });
    spaced.collect()
}

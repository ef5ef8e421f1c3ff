//! What is in the tree: one look at every event, in the order in which it will be drawn.

use crate::bus::age;
use crate::event::{AnyEvent, CauseKind, EventId, HandlerFailure, HandlerResult, ResultStatus, Unrun};
use crate::event::{AnyOutput, HandlerId, Outcome, State};
use crate::log_tree::TreeStyle;
use crate::log_tree::value;
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
}

impl Tree {
    pub(crate) fn of_event(event: AnyEvent, style: &TreeStyle) -> Tree {
        Tree::grow(vec![event], &HashMap::new(), style)
    }

    pub(crate) fn of_history(history: Vec<AnyEvent>, style: &TreeStyle) -> Tree {
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
        Tree::grow(roots, &below, style)
    }

    fn grow(roots: Vec<AnyEvent>, below: &HashMap<EventId, Vec<AnyEvent>>, style: &TreeStyle) -> Tree {
        let mut tree = Tree::default();
        let mut seen = HashSet::new();
        let mut pending: Vec<(AnyEvent, Option<usize>)> = roots.into_iter().rev().map(|root| (root, None)).collect();
        while let Some((event, parent)) = pending.pop() {
            if !seen.insert(event.id()) {
                continue;
            }
            let place = tree.add(event_node(&event, style), parent);
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
                let handler = tree.add(handler_node(result, style), Some(place));
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

fn event_node(event: &AnyEvent, style: &TreeStyle) -> Node {
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
    let name = event.named(style.ids).to_string();
    let time = time(style, Some(event.created_at()), age(event), sign);
    Node { sign, name, time, result: one_line(&result), children: Vec::new() }
}

fn handler_node(result: HandlerResult<AnyOutput>, style: &TreeStyle) -> Node {
    let (sign, mut text) = match (result.status, &result.error) {
        (ResultStatus::Pending, _) => (Sign::Waiting, String::new()),
        (ResultStatus::Started, _) => (Sign::Running, String::new()),
        (_, Some(failure)) => (sign_of(failure), format!(": {failure}")),
        (_, None) => (Sign::Done, result.value.as_ref().map_or_else(|| " → None".to_owned(), value::show)),
    };
    if result.attempts > 1 {
        text.push_str(&format!(" ({} attempts)", result.attempts));
    }
    let bus = result.handler.bus_label();
    let name = if style.ids {
        format!("{bus}.{}", result.handler.label())
    } else {
        format!("{}.{}", bus.rsplit_once('#').map_or(bus, |(name, _)| name), result.handler.name())
    };
    let until = result.completed_at.unwrap_or_else(|| clock::to_utc(clock::now()));
    let took = result.started_at.and_then(|from| until.signed_duration_since(from).to_std().ok());
    let time = time(style, result.started_at, took.unwrap_or_default(), sign);
    Node { sign, name: one_line(&name), time, result: one_line(&text), children: Vec::new() }
}

/// Of a complete event: well only if all its handlers were, but for those that lost to the first.
fn sign_of_all(state: &State) -> Sign {
    let lost = |failure: &HandlerFailure| matches!(failure, HandlerFailure::Cancelled { cause } | HandlerFailure::Aborted { cause } if cause.kind == CauseKind::LostFirst);
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

fn time(style: &TreeStyle, from: Option<DateTime<Utc>>, took: Duration, sign: Sign) -> String {
    let Some(from) = from.filter(|_| style.times) else { return String::new() };
    let at = from.format("%H:%M:%S%.3f");
    match sign {
        Sign::Running => format!("[{at} ({took:.1?} so far)]"),
        Sign::Waiting => format!("[{at}]"),
        _ => format!("[{at} ({took:.1?})]"),
    }
}

/// Without line breaks and other characters that would tear the tree apart.
fn one_line(text: &str) -> String {
    let text = text.trim_end();
    if !text.contains(char::is_control) {
        return text.to_owned();
    }
    let spaced = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    spaced.collect()
}

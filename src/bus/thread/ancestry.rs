//! Which event is above which: by the links that completion waits for.

use crate::bus::thread::frame::{self, Frame};
use crate::event::AnyEvent;

/// True if `event` is `ancestor`, or below it, by links that completion waits for.
pub(crate) fn is_below(event: &AnyEvent, ancestor: &AnyEvent) -> bool {
    let mut at = Some(event.clone());
    while let Some(event) = at {
        if event.same(ancestor) {
            return true;
        }
        // Parents are older than their children.
        if event.head().stamp() < ancestor.head().stamp() {
            return false;
        }
        at = event.state().lock().parent.clone();
    }
    false
}

/// If this handler is inside `event`: why a wait for it can never end.
pub(crate) fn is_above(event: &AnyEvent, frame: &Frame) -> Option<String> {
    let handler = frame.label();
    if frame.event.same(event) {
        return Some(format!("{handler} waits for its own event {event}"));
    }
    let mut chain = format!("{handler} on {} waits for {event}", frame.event);
    let mut at = Some(frame.event.clone());
    while let Some(below) = at {
        if below.head().stamp() < event.head().stamp() {
            break;
        }
        at = below.state().lock().parent.clone();
        if let Some(above) = &at {
            if chain.len() < 400 {
                chain.push_str(&format!(", {above} waits for its child {below}"));
            }
            if above.same(event) {
                return Some(chain);
            }
        }
    }
    let on_stack = frame::local(|local| local.frames.iter().any(|f| f.event.same(event))).unwrap_or(false);
    on_stack.then(|| format!("{handler} on {} waits for {event}, which is below it on its own thread", frame.event))
}

/// Which kinds of events wait for which, from a handler of `from` that would wait for `event` upwards: what comes back again and again is said once.
#[cold]
pub(crate) fn kinds_above(from: &AnyEvent, event: &AnyEvent) -> String {
    const SHOWN: usize = 8;
    let mut words = format!("{} for {}", from.event_type(), event.event_type());
    let mut pairs = vec![(from.event_type().to_owned(), event.event_type().to_owned())];
    let (mut at, mut levels, mut first) = (from.clone(), 1usize, from.event_type().to_owned());
    loop {
        let above = at.state().lock().parent.clone();
        let Some(above) = above else { break };
        let (outer, inner) = (above.event_type().to_owned(), at.event_type().to_owned());
        first.clone_from(&outer);
        if pairs.len() < SHOWN && !pairs.iter().any(|(o, i)| (o, i) == (&outer, &inner)) {
            words.push_str(&format!(", {outer} for {inner}"));
            pairs.push((outer, inner));
        }
        levels += 1;
        at = above;
    }
    format!("{words}, over {levels} levels up to {first}")
}

//! Errors that go up through many handlers: each of our links shows what it carries, and a chain of them may be thousands long. So nothing here walks one by recursion: not
//! showing, not looking for a type, not dropping.

use crate::event::errors::answers::REJECTED;
use crate::event::{BoxError, HandlerFailure, ResultError, WaitError};
use crate::sys::{thread, unwind};
use std::cell::{Cell, RefCell};
use std::error::Error;
use std::fmt;
use std::sync::Arc;

type Link = dyn Error + 'static;

/// Of longer chains, only so many handlers are named, at each end.
const SHOWN: usize = 3;
const WHOLE: usize = 32;

/// How often a `Display` or `Debug` of ours may be inside another one on this thread, over errors of the user's that show ours.
const NESTED: u32 = 32;

/// What one of our links carries and shows as its own.
fn carried(link: &Link) -> Option<&Link> {
    if let Some(HandlerFailure::Failed(error)) = link.downcast_ref() {
        return Some(&**error);
    }
    if let Some(error) = link.downcast_ref::<ResultError>() {
        return match error {
            ResultError::Wait(wait) => Some(wait),
            ResultError::Handler { failure, .. } => Some(&**failure),
            _ => None,
        };
    }
    if let Some(WaitError::Rejected(refused)) = link.downcast_ref() {
        return Some(refused);
    }
    if let Some(failure) = link.downcast_ref::<Arc<HandlerFailure>>() {
        return Some(&**failure);
    }
    None
}

/// The end of a run of our links: what the first of them shows last.
fn shown_last(first: &Link) -> &Link {
    let mut at = first;
    while let Some(next) = carried(at) {
        at = next;
    }
    at
}

/// The source of one of our links: what comes after all that it has shown.
pub(super) fn source_behind(first: &Link) -> Option<&Link> {
    let last = shown_last(first);
    if std::ptr::addr_eq(last, first) { None } else { last.source() }
}

/// The first error of that type, in what our links carry and in sources.
pub(super) fn find<E: Error + 'static>(first: &Link) -> Option<&E> {
    let mut next = Some(first);
    while let Some(link) = next {
        if let Some(found) = link.downcast_ref::<E>() {
            return Some(found);
        }
        next = carried(link).or_else(|| link.source());
    }
    None
}

thread::local! {
    static INSIDE: Cell<u32> = Cell::new(0);
    /// What is to be dropped when the drop that is under way on this thread is over; `None`: none is.
    static LEFT: RefCell<Option<Vec<BoxError>>> = RefCell::new(None);
}

/// Runs `body`, unless this thread is too deep inside of it already.
fn unless_deep(body: impl FnOnce() -> fmt::Result) -> Option<fmt::Result> {
    struct Inside;
    impl Drop for Inside {
        fn drop(&mut self) {
            let _ = INSIDE.try_with(|inside| inside.set(inside.get() - 1));
        }
    }
    let depth = INSIDE.try_with(|inside| inside.replace(inside.get() + 1)).ok()?;
    let _inside = Inside;
    if depth >= NESTED { None } else { Some(body()) }
}

/// `a failed: b failed: no network`; of a long chain the ends.
pub(super) fn show(first: &Link, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut handlers = 0;
    let mut at = Some(first);
    while let Some(link) = at {
        handlers += usize::from(handler_of(link).is_some());
        at = carried(link);
    }
    let left_out = if handlers > WHOLE { SHOWN..handlers - SHOWN } else { 0..0 };
    let (mut at, mut number) = (first, 0);
    loop {
        if let Some(handler) = handler_of(at) {
            if number == left_out.start && !left_out.is_empty() {
                write!(f, "… {} more …: ", left_out.len())?;
            }
            if !left_out.contains(&number) {
                write!(f, "{handler} failed: ")?;
            }
            number += 1;
        }
        if let Some(WaitError::Rejected(_)) = at.downcast_ref() {
            f.write_str(REJECTED)?;
        }
        match carried(at) {
            Some(next) => at = next,
            None => return unless_deep(|| write!(f, "{at}")).unwrap_or_else(|| f.write_str("…")),
        }
    }
}

fn handler_of(link: &Link) -> Option<&str> {
    match link.downcast_ref() {
        Some(ResultError::Handler { handler, .. }) => Some(handler),
        _ => None,
    }
}

/// The `Debug` of what a handler returned: of a chain the first links.
pub(super) fn debug(error: &Link, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match unless_deep(|| f.debug_tuple("Failed").field(&error).finish()) {
        Some(shown) => shown,
        None => f.write_str("Failed(…)"),
    }
}

/// Drops what a failure carries; inside of another such drop not before that is over.
pub(super) fn let_go(error: BoxError) {
    let mut error = Some(error);
    let under_way = LEFT.try_with(|left| {
        let mut left = left.borrow_mut();
        match &mut *left {
            Some(left) => left.extend(error.take()),
            None => *left = Some(Vec::new()),
        }
    });
    // Where the thread's locals are gone, so are chains that are long.
    if error.is_some() && under_way.is_ok() {
        let _rest = Rest;
        drop(error.take());
    }
}

/// When this goes, all that was left is dropped; also while a panic passes.
struct Rest;

impl Drop for Rest {
    fn drop(&mut self) {
        struct Over;
        impl Drop for Over {
            fn drop(&mut self) {
                let _ = LEFT.try_with(|left| left.borrow_mut().take());
            }
        }
        let _over = Over;
        let next = || LEFT.try_with(|left| left.borrow_mut().as_mut().and_then(Vec::pop)).ok().flatten();
        while let Some(error) = next() {
            unwind::drop_quietly(error);
        }
    }
}

/// What stands where a failure's error was, while that is dropped.
#[derive(Debug)]
pub(super) struct Gone;

impl fmt::Display for Gone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nothing is left of it")
    }
}

impl Error for Gone {}

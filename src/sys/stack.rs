//! How much of its stack a thread has left: the system says, or the user does.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// What a thread is taken to have left where neither the system nor the user says: about half of what the smallest default is.
const LITTLE: usize = 256 << 10;
/// More than is needed: a main thread without a limit is taken to have this much, or an endless chain would eat the memory first.
const PLENTY: usize = 1 << 30;
/// A level of nested handlers takes 10 to 13 KiB in debug builds (4 to 5 in release builds) and a panic 22 KiB. With less than this nothing
/// is put on top.
const LEAST: usize = 40 << 10;
/// Above this less of the stack is used than what is left to whatever a handler calls.
const SHALLOW: usize = 48 << 10;
/// Frames above the one that asked.
const ABOVE: usize = 16 << 10;

/// The bounds of a thread's stack. Its own thread reads and changes them, and nobody else.
pub(crate) struct StackBounds {
    /// The lowest address from which one more handler may run on top.
    floor: AtomicUsize,
    /// The lowest address from which a handler may run on top that no other thread can run, and that others wait for.
    last: AtomicUsize,
    /// The lowest address of this stack, and the highest. Elsewhere is another stack: of a coroutine, or one that `stacker` has grown.
    bottom: AtomicUsize,
    top: AtomicUsize,
}

impl StackBounds {
    /// The bounds of the calling thread's stack. `size`: what its stack was made with, if it is a thread of ours that has just started.
    pub(crate) fn here(size: Option<usize>) -> Self {
        let new = || AtomicUsize::new(0);
        let bounds = StackBounds { floor: new(), last: new(), bottom: new(), top: new() };
        bounds.set(left().or(size).unwrap_or(LITTLE));
        bounds
    }

    /// The user says that so much is left below the caller. It may be less than there is: somewhat lower down it is still the same stack.
    pub(crate) fn assume(&self, left: usize) {
        self.set(left);
        self.bottom.store(self.bottom.load(Relaxed).saturating_sub(LEAST), Relaxed);
    }

    fn set(&self, left: usize) {
        let here = position();
        let bottom = here.saturating_sub(left.min(PLENTY));
        let (shallow, least) = reserves(here - bottom);
        self.floor.store(bottom.saturating_add(shallow), Relaxed);
        self.last.store(bottom.saturating_add(least), Relaxed);
        self.bottom.store(bottom, Relaxed);
        self.top.store(here.saturating_add(ABOVE), Relaxed);
    }

    /// True when the stack is nearly used up.
    #[inline]
    pub(crate) fn is_deep(&self) -> bool {
        self.is_below(&self.floor, SHALLOW)
    }

    /// True when not even what others wait for can run on top any more.
    #[inline]
    pub(crate) fn is_used_up(&self) -> bool {
        self.is_below(&self.last, LEAST)
    }

    /// As [`is_used_up`](StackBounds::is_used_up), as if the caller were so much further down.
    pub(crate) fn is_used_up_within(&self, further: usize) -> bool {
        self.is_below_from(position().saturating_sub(further), &self.last, LEAST)
    }

    #[inline]
    fn is_below(&self, mark: &AtomicUsize, elsewhere: usize) -> bool {
        self.is_below_from(position(), mark, elsewhere)
    }

    #[inline]
    fn is_below_from(&self, here: usize, mark: &AtomicUsize, elsewhere: usize) -> bool {
        let (mark, top) = (mark.load(Relaxed), self.top.load(Relaxed));
        !(mark..=top).contains(&here) && !self.has_left_elsewhere(here, elsewhere)
    }

    /// The caller is on another stack than the one that these are the bounds of, or higher up than where they were taken; and enough is left.
    #[cold]
    fn has_left_elsewhere(&self, here: usize, enough: usize) -> bool {
        let (bottom, top) = (self.bottom.load(Relaxed), self.top.load(Relaxed));
        !(bottom..=top).contains(&here) && left().map_or(here > top, |left| left >= enough)
    }
}

/// How much of `left` is kept for whatever a handler calls, and how much even from what nobody else can run: a quarter, at least 128 KiB, and
/// half of that; of a small stack less.
fn reserves(left: usize) -> (usize, usize) {
    let shallow = (left / 4).max(128 << 10).min((left / 2).max(SHALLOW));
    (shallow, (shallow / 2).max(LEAST))
}

/// `None`: the system does not say.
#[cfg(not(threadbus_shuttle))]
fn left() -> Option<usize> {
    stacker::remaining_stack()
}

/// The models run on stacks of their own, and are never deep.
#[cfg(threadbus_shuttle)]
fn left() -> Option<usize> {
    Some(2 << 20)
}

/// An address on the calling thread's stack: the difference of two tells how much lies between them.
#[inline(never)]
fn position() -> usize {
    let here = 0u8;
    std::ptr::from_ref(&here).addr()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_is_kept_of_a_small_stack_and_never_less_than_a_handler_needs() {
        let of = |kib: usize| {
            let (shallow, least) = reserves(kib << 10);
            (shallow >> 10, least >> 10)
        };
        assert_eq!(of(16), (48, 40));
        assert_eq!(of(64), (48, 40));
        assert_eq!(of(128), (64, 40));
        assert_eq!(of(256), (128, 64));
        assert_eq!(of(1 << 10), (256, 128));
        assert_eq!(of(8 << 10), (2 << 10, 1 << 10));
    }
}

//! Panics of user code, kept from passing through ours: caught, and told in the log where nobody else would hear of them.

pub(crate) use crate::sys::panics::{HearsPanics, catch, note_panics};

use crate::sys::logging;

/// Drops a value of the user's; a panic in its `Drop` is logged and goes no further.
#[inline]
pub(crate) fn drop_quietly<T>(value: T) {
    if let Err(panic) = catch(|| drop(value)) {
        drop_panicked(panic);
    }
}

/// Says nothing of what a logger has emitted: that record would let the next such event go, and so on.
#[cold]
fn drop_panicked(panic: String) {
    if !logging::was_a_loggers() {
        logging::later!(Error, move || format!("a value's Drop panicked: {panic}"));
    }
}

/// Drops values of the user's one after the other, each quietly: two panics in one drop would end the process.
pub(crate) fn drop_each<T>(values: impl IntoIterator<Item = T>) {
    values.into_iter().for_each(drop_quietly);
}

/// Logs a panic that came from none of the places where the user's code is expected. `thread` has caught it.
#[cold]
pub(crate) fn tell_outside_of_handlers(thread: &'static str, panic: String) {
    if !logging::was_a_loggers() {
        logging::later!(Error, move || format!("{thread} survived a panic outside of handlers: {panic}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_that_panics_when_dropped_is_survived() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("again");
            }
        }
        assert_eq!(catch(|| -> () { std::panic::panic_any(Bomb) }), Err("a value that is no text".to_owned()));
        drop_quietly(Bomb);
    }
}

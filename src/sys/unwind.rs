//! Panics of user code, kept from passing through ours.

use crate::sys::logging;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs user code; a panic becomes its text.
///
/// Whatever `body` touches belongs to the attempt that is lost with it, or is guarded by locks that do not poison, so asserting
/// unwind safety is sound here.
#[inline(always)]
pub(crate) fn catch<R>(body: impl FnOnce() -> R) -> Result<R, String> {
    catch_unwind(AssertUnwindSafe(body)).map_err(text)
}

/// From now on `note` hears on each thread that panics, before anything is said about it, and again when that is over: printing a trace may take longer than
/// a handler has. Around the panic hook that is there now.
pub(crate) fn note_panics(note: fn(begins: bool)) {
    static NOTED: std::sync::Once = std::sync::Once::new();
    if cfg!(any(threadbus_shuttle, threadbus_loom)) || std::thread::panicking() {
        return;
    }
    NOTED.call_once(|| {
        let tell = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            note(true);
            tell(info);
            note(false);
        }));
    });
}

/// Drops a value of the user's; a panic in its `Drop` is logged and goes no further.
#[inline]
pub(crate) fn drop_quietly<T>(value: T) {
    if let Err(panic) = catch(|| drop(value)) {
        drop_panicked(panic);
    }
}

/// Not about what a logger has emitted: the next record would let the next such event go.
#[cold]
fn drop_panicked(panic: String) {
    if !logging::was_a_loggers() {
        logging::later!(Error, move || format!("a value's Drop panicked: {panic}"));
    }
}

/// The same, one after the other: two panics in one drop would end the process.
pub(crate) fn drop_each<T>(values: impl IntoIterator<Item = T>) {
    values.into_iter().for_each(drop_quietly);
}

/// `who` has caught a panic that came from none of the places where the user's code is expected.
#[cold]
pub(crate) fn tell_outside_of_handlers(who: &'static str, panic: String) {
    if !logging::was_a_loggers() {
        logging::later!(Error, move || format!("{who} survived a panic outside of handlers: {panic}"));
    }
}

fn text(payload: Box<dyn Any + Send>) -> String {
    let text = if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "a value that is no text".to_owned()
    };
    // Dropping the payload may panic again, and that one again; forgetting the second ends the chain.
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(second);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panics_become_text() {
        assert_eq!(catch(|| 7), Ok(7));
        assert_eq!(catch(|| -> () { panic!("plain") }), Err("plain".to_owned()));
        assert_eq!(catch(|| -> () { panic!("with {}", 1) }), Err("with 1".to_owned()));
        assert_eq!(catch(|| -> () { std::panic::panic_any(5u8) }), Err("a value that is no text".to_owned()));
    }

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

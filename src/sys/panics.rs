//! Panics of user code: caught, and noticed while they are told.

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

/// Hears of panics, each on its thread, where nothing may panic: printing a trace may take longer than a handler has.
pub(crate) trait HearsPanics: 'static {
    /// Before anything is said about it.
    fn begins();

    /// It has been told.
    fn is_told();
}

/// From now on `H` hears of each panic, around the panic hook that is there now.
pub(crate) fn note_panics<H: HearsPanics>() {
    static NOTED: std::sync::Once = std::sync::Once::new();
    if cfg!(any(threadbus_shuttle, threadbus_loom)) || std::thread::panicking() {
        return;
    }
    NOTED.call_once(|| {
        let tell = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            H::begins();
            tell(info);
            H::is_told();
        }));
    });
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
}

//! The only door to the program's logger.
//!
//! A logger is the user's code: it may emit, stand still, panic, end a bus. It is called with nothing locked, contained, and inside a
//! callback: what it emits is nobody's child, and no call of ours blocks in it. Its panics are not logged.
//!
//! *Said at once*, on the calling thread (`warn!` and its like): the answer to a call of the user's, once that call owes others
//! nothing more; what a handler, a filter or a middleware has just done, in the time that is charged to it; and all of `LogEvents`.
//! *Handed over* to the log thread (`later!`): everything else, above all what is known where permits, a cascade or a replacement are
//! owed, on a thread that keeps deadlines, or in the pool. On such threads `warn!` hands over, too. What a record shows of the user's
//! is made into text on the log thread.
//!
//! The log thread starts when there is something to say, and ends when there is not. The queue has bounds; what does not fit is
//! counted, and said. If the system refuses the thread, the records stay: the next one to hand over asks again, and
//! `catch_up` in `queue` writes them on a thread that owes nothing.
//!
//! *No circles.* While a logger runs on a thread, nothing is logged there. What it emits bears a mark, and so do the children, on
//! whatever thread (the bus room does that, see [`Around`]): nothing is logged about such events, nor where their context is
//! the thread's.
//!
//! *On one line.* Whatever of the user's is in a record, it is one line, and a `Display` that panics or fails ends its text and no more: every record is written by way of
//! `OneLine`.
//!
//! *Race: a record is put in just when the log thread ends.* Both are under the queue's lock: the log thread sees the record, or
//! the thread that puts it in sees that there is no log thread.

mod calls;
mod queue;

pub(crate) use calls::{
    Around, Source, TARGET, is_enabled, is_inside, is_log_thread, never_here, note_let_go, source, surround, takes,
    was_a_loggers,
};
pub(crate) use queue::{at_once, between_jobs, hand_over, settle};
#[cfg(feature = "process")]
pub(crate) use queue::{pass_on, wait_for};

/// `say!(level, [of event;] [target: target,] format…)`: at once. `of`: nothing if the event was emitted inside a logger, or below such.
macro_rules! say {
    ($level:expr, of $event:expr; $($text:tt)+) => {
        if !$event.head().is_from_logger() {
            $crate::sys::logging::say!($level, $($text)+);
        }
    };
    ($level:expr, target: $target:expr, $($text:tt)+) => {
        if $crate::sys::logging::takes($level) {
            $crate::sys::logging::at_once($crate::sys::logging::source!($level), $target, format_args!($($text)+));
        }
    };
    ($level:expr, $($text:tt)+) => {
        $crate::sys::logging::say!($level, target: $crate::sys::logging::TARGET, $($text)+)
    };
}
pub(crate) use say;

macro_rules! error_at_once {
    ($($text:tt)+) => { $crate::sys::logging::say!(::log::Level::Error, $($text)+) };
}
pub(crate) use error_at_once as error;

macro_rules! warn_at_once {
    ($($text:tt)+) => { $crate::sys::logging::say!(::log::Level::Warn, $($text)+) };
}
pub(crate) use warn_at_once as warn;

macro_rules! debug_at_once {
    ($($text:tt)+) => { $crate::sys::logging::say!(::log::Level::Debug, $($text)+) };
}
pub(crate) use debug_at_once as debug;

/// `later!(Warn, [of event;] text)`: handed over. `text` makes the record's text, on the log thread.
macro_rules! later {
    ($level:ident, of $event:expr; $text:expr) => {
        if !$event.head().is_from_logger() {
            $crate::sys::logging::later!($level, $text);
        }
    };
    ($level:ident, $text:expr) => {
        if $crate::sys::logging::takes(::log::Level::$level) {
            $crate::sys::logging::hand_over($crate::sys::logging::source!(::log::Level::$level), $text);
        }
    };
}
pub(crate) use later;

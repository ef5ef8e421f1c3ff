//! A call of the program's logger, and what a thread knows about such calls.

use crate::sys::one_line::OneLine;
use crate::sys::{panics, thread};
use log::{Level, Metadata, Record};
use std::cell::Cell;
use std::fmt;
use std::sync::OnceLock;

/// Where records go unless they say so.
pub(crate) const TARGET: &str = "threadbus";

/// The source of a record of this level: the line that says so.
macro_rules! source {
    ($level:expr) => {
        $crate::sys::logging::Source {
            level: $level,
            module: Some(module_path!()),
            file: Some(file!()),
            line: Some(line!()),
        }
    };
}
pub(crate) use source;

/// What the bus room does around a logger.
pub(crate) trait Around: Sync {
    /// Runs the logger as a callback that belongs to no handler, with the mark in the thread's context. False if the thread is too near its end.
    fn apart(&self, logger: &mut dyn FnMut()) -> bool;
    /// True if the thread's context has the mark.
    fn is_marked(&self) -> bool;
}

static SURROUNDINGS: OnceLock<&'static dyn Around> = OnceLock::new();

thread::local! {
    static LOCAL: Local = Local::default();
}

#[derive(Default)]
pub(super) struct Local {
    /// How many calls of the logger are on this thread, one in the other.
    inside: Cell<u32>,
    /// The thread keeps deadlines, and never calls the logger.
    serves: Cell<bool>,
    /// The thread is the log thread, or writes in its place.
    pub(super) writes: Cell<bool>,
    /// See [`was_a_loggers`].
    let_go: Cell<bool>,
}

/// [`Local`] has no destructor, so it is there until the thread is gone.
pub(super) fn local<R: Default>(body: impl FnOnce(&Local) -> R) -> R {
    LOCAL.try_with(body).unwrap_or_default()
}

pub(super) fn serves() -> bool {
    local(|local| local.serves.get())
}

/// Once; later ones are ignored.
pub(crate) fn surround(with: &'static dyn Around) {
    let _ = SURROUNDINGS.set(with);
}

/// True inside a call of the logger on this thread.
pub(crate) fn is_inside() -> bool {
    local(|local| local.inside.get() > 0)
}

/// True on the log thread.
pub(crate) fn is_log_thread() -> bool {
    local(|local| local.writes.get())
}

/// From now on the calling thread never calls the logger.
pub(crate) fn never_here() {
    local(|local| local.serves.set(true));
}

/// True if records of this level may be wanted, and the thread is not about a logger's own events. Asks no logger.
pub(crate) fn takes(level: Level) -> bool {
    level <= log::STATIC_MAX_LEVEL && level <= log::max_level() && !is_quiet()
}

fn is_quiet() -> bool {
    is_inside() || SURROUNDINGS.get().is_some_and(|around| around.is_marked())
}

/// As [`takes`], and the logger, which is asked, wants records of this level and target.
pub(crate) fn is_enabled(level: Level, target: &str) -> bool {
    let mut wanted = false;
    if takes(level) && !serves() {
        call(&mut || wanted = log::logger().enabled(&Metadata::builder().level(level).target(target).build()));
    }
    wanted
}

/// An event that was emitted inside a logger is dropped, and what it holds is dropped next.
pub(crate) fn note_let_go() {
    local(|local| local.let_go.set(true));
}

/// Whether such an event was the last to be dropped on this thread, as far as that is known. Forgets it.
pub(crate) fn was_a_loggers() -> bool {
    local(|local| local.let_go.replace(false))
}

/// Calls the logger. False if that cannot be done on this thread.
pub(super) fn call(body: &mut dyn FnMut()) -> bool {
    local(|local| local.inside.set(local.inside.get() + 1));
    let called = panics::catch(|| match SURROUNDINGS.get() {
        Some(around) => around.apart(body),
        None => {
            body();
            true
        }
    });
    local(|local| local.inside.set(local.inside.get() - 1));
    // The panic hook has said what it panicked with.
    called.unwrap_or(true)
}

/// Where a record comes from.
#[derive(Clone, Copy)]
pub(crate) struct Source {
    pub(crate) level: Level,
    pub(crate) module: Option<&'static str>,
    pub(crate) file: Option<&'static str>,
    pub(crate) line: Option<u32>,
}

impl Source {
    /// Calls the logger; false if that cannot be done on this thread.
    pub(super) fn write(self, target: &str, text: fmt::Arguments<'_>) -> bool {
        call(&mut || {
            let mut record = Record::builder();
            record.level(self.level).target(target).module_path_static(self.module);
            record.file_static(self.file).line(self.line);
            log::logger().log(&record.args(format_args!("{}", OneLine(text))).build());
        })
    }
}

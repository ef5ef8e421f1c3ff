//! A call of the program's logger, and what a thread knows about such calls.

use crate::sys::one_line::OneLine;
use crate::sys::{panics, thread};
use log::{Level, Metadata, Record};
use std::cell::Cell;
use std::fmt;
use std::sync::OnceLock;

/// Where records go unless they say so.
pub(crate) const TARGET: &str = "threadbus";

/// Where a record of this level comes from: here.
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
#[derive(Clone, Copy)]
pub(crate) struct Around {
    /// Runs it as a callback that is nobody's, with the mark in the thread's context. False if the thread is too near its end.
    pub(crate) apart: fn(&mut dyn FnMut()) -> bool,
    /// The thread's context has the mark.
    pub(crate) is_marked: fn() -> bool,
}

static SURROUNDINGS: OnceLock<Around> = OnceLock::new();

thread::local! {
    static LOCAL: Local = Local::default();
}

#[derive(Default)]
pub(super) struct Local {
    /// So many calls of the logger are on this thread.
    inside: Cell<u32>,
    /// It keeps deadlines.
    serves: Cell<bool>,
    /// It is the log thread.
    pub(super) writes: Cell<bool>,
    /// See [`was_a_loggers`].
    let_go: Cell<bool>,
}

/// Without a destructor it is there until the thread is gone.
pub(super) fn local<R: Default>(body: impl FnOnce(&Local) -> R) -> R {
    LOCAL.try_with(body).unwrap_or_default()
}

pub(super) fn serves() -> bool {
    local(|local| local.serves.get())
}

pub(crate) fn surround(with: Around) {
    let _ = SURROUNDINGS.set(with);
}

/// A call of the logger is on this thread.
pub(crate) fn is_inside() -> bool {
    local(|local| local.inside.get() > 0)
}

/// The calling thread is the log thread.
pub(crate) fn is_log_thread() -> bool {
    local(|local| local.writes.get())
}

/// From now on the calling thread never calls the logger.
pub(crate) fn never_here() {
    local(|local| local.serves.set(true));
}

/// Records of this level may be wanted, and nothing on this thread is about a logger's own events. Asks no logger.
pub(crate) fn takes(level: Level) -> bool {
    level <= log::STATIC_MAX_LEVEL && level <= log::max_level() && !is_quiet()
}

fn is_quiet() -> bool {
    is_inside() || SURROUNDINGS.get().is_some_and(|around| (around.is_marked)())
}

/// The same, and the logger wants records of this level and target.
pub(crate) fn is_enabled(level: Level, target: &str) -> bool {
    let mut wanted = false;
    if takes(level) && !serves() {
        call(&mut || wanted = log::logger().enabled(&Metadata::builder().level(level).target(target).build()));
    }
    wanted
}

/// An event that was emitted inside a logger goes, and what it holds goes next.
pub(crate) fn note_let_go() {
    local(|local| local.let_go.set(true));
}

/// Whether it was such an event that has gone last here, as far as that is known; forgets it.
pub(crate) fn was_a_loggers() -> bool {
    local(|local| local.let_go.replace(false))
}

/// Calls the logger. False if that cannot be done on this thread.
pub(super) fn call(body: &mut dyn FnMut()) -> bool {
    local(|local| local.inside.set(local.inside.get() + 1));
    let called = panics::catch(|| match SURROUNDINGS.get() {
        Some(around) => (around.apart)(body),
        None => {
            body();
            true
        }
    });
    local(|local| local.inside.set(local.inside.get() - 1));
    // What it panicked with is the panic hook's to say.
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

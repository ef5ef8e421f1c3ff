//! The only door to the program's logger.
//!
//! A logger is the user's code: it may emit, stand still, panic, end a bus. It is called with nothing locked, contained, and inside a
//! callback: what it emits is nobody's child, and no call of ours blocks in it. Its panics are not logged.
//!
//! *Said at once*, on the thread that is there (`warn!` and its like): the answer to a call of the user's, once that call owes others
//! nothing more; what a handler, a filter or a middleware has just done, in the time that is charged to it; and all of `LogEvents`.
//! *Handed over* to the log thread (`later!`): everything else, above all what is known where permits, a cascade or a replacement are
//! owed, on a thread that keeps deadlines, or in the pool. On such threads `warn!` hands over, too. What a record shows of the user's
//! is made into text on the log thread.
//!
//! The log thread starts when there is something to say, and ends when there is not. The queue has bounds; what does not fit is
//! counted, and said. If the system refuses the thread, the records stay: the next one to hand over asks again, and
//! [`catch_up`] writes them on a thread that owes nothing.
//!
//! *No circles.* While a logger runs on a thread, nothing is logged there. What it emits bears a mark, and so do the children, on
//! whatever thread (the bus room does that, see [`Around`]): nothing is logged about such events, nor where their context is
//! the thread's.
//!
//! *On one line.* Whatever of the user's is in a record, it is one line, and a `Display` that panics or fails ends its text and no more: every record is written by way of
//! [`OneLine`].
//!
//! *Race: a record is put in just when the log thread ends.* Both are under the queue's lock: the thread sees it, or whoever puts it in
//! sees that there is no thread.

use crate::sys::one_line::OneLine;
use crate::sys::thread;
use crate::sys::unwind;
use log::{Level, Metadata, Record};
use std::borrow::Cow;
use std::cell::Cell;
use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Where records go unless they say so.
pub(crate) const TARGET: &str = "threadbus";

/// So many records may wait for the log thread.
const LONGEST: usize = 4096;
/// And so many bytes of text, as far as that is made already.
const LARGEST: usize = 4 << 20;
/// How long a worker process's keeper waits for room, once in a standstill of the logger.
#[cfg(feature = "process")]
const PATIENCE: Duration = Duration::from_millis(100);
/// As a handler's, for a logger may do as much.
const STACK: usize = 2 << 20;

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

// Not modelled: the queue's lock is held for a few instructions, and nothing is asked for under it.
static QUEUE: Mutex<Queue> = Mutex::new(Queue::new());
/// Something was written, or there is nothing left.
static WRITTEN: Condvar = Condvar::new();
/// The log thread was refused, and records lie there.
static STRANDED: AtomicBool = AtomicBool::new(false);

thread::local! {
    static LOCAL: Local = Local::default();
}

#[derive(Default)]
struct Local {
    /// So many calls of the logger are on this thread.
    inside: Cell<u32>,
    /// It keeps deadlines.
    serves: Cell<bool>,
    /// It is the log thread.
    writes: Cell<bool>,
    /// See [`was_a_loggers`].
    let_go: Cell<bool>,
}

/// Without a destructor it is there until the thread is gone.
fn local<R: Default>(body: impl FnOnce(&Local) -> R) -> R {
    LOCAL.try_with(body).unwrap_or_default()
}

fn serves() -> bool {
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
fn call(body: &mut dyn FnMut()) -> bool {
    local(|local| local.inside.set(local.inside.get() + 1));
    let called = unwind::catch(|| match SURROUNDINGS.get() {
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
    fn write(self, target: &str, text: fmt::Arguments<'_>) -> bool {
        call(&mut || {
            let mut record = Record::builder();
            record.level(self.level).target(target).module_path_static(self.module);
            record.file_static(self.file).line(self.line);
            log::logger().log(&record.args(format_args!("{}", OneLine(text))).build());
        })
    }
}

/// See the macros.
pub(crate) fn at_once(source: Source, target: &'static str, text: fmt::Arguments<'_>) {
    if serves() {
        return hand_over_text(source, target, text);
    }
    // First what lies there: it was first.
    catch_up();
    if !source.write(target, text) {
        hand_over_text(source, target, text);
    }
}

fn hand_over_text(source: Source, target: &'static str, text: fmt::Arguments<'_>) {
    put(Entry::new(source, Cow::Borrowed(target), Text::Made(OneLine(text).to_string())), LONGEST);
}

/// See `later!`.
pub(crate) fn hand_over(source: Source, make: impl FnOnce() -> String + Send + 'static) {
    put(Entry::new(source, Cow::Borrowed(TARGET), Text::ToMake(Box::new(make))), LONGEST);
}

/// A record of a worker process. Where the queue is half full its keeper waits a moment for room, for others may have more to say than
/// fits. The number of the record.
#[cfg(feature = "process")]
pub(crate) fn pass_on(level: Level, target: Cow<'static, str>, text: String) -> u64 {
    let target = match crate::sys::one_line::on_one_line(&target) {
        Cow::Borrowed(clean) if clean.len() == target.len() => target,
        clean => Cow::Owned(clean.into_owned()),
    };
    let source = Source { level, module: None, file: None, line: None };
    let room = LONGEST / 2;
    let until = Instant::now() + PATIENCE;
    let mut queue = lock();
    while queue.is_full(room) && !queue.stands_still {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            queue.stands_still = true;
            break;
        }
        queue = WRITTEN.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
    }
    drop(queue);
    put(Entry::new(source, target, Text::Made(text)), room)
}

/// Waits until everything that was handed over is written, for so long at most. Not in a logger, which would wait for itself.
pub(crate) fn settle(patience: Duration) {
    wait_for(u64::MAX, patience);
}

/// The same for what was handed over up to that number.
pub(crate) fn wait_for(number: u64, patience: Duration) {
    // Models have no clock to end this.
    if cfg!(threadbus_shuttle) || is_inside() || serves() {
        return;
    }
    catch_up();
    let Some(until) = Instant::now().checked_add(patience) else { return };
    let mut queue = lock();
    let number = number.min(queue.put_in);
    while queue.written < number && queue.running {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        queue = WRITTEN.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
    }
}

/// On a thread of the pool: what the last job let go is no news any more; and it owes nothing now.
#[inline]
pub(crate) fn between_jobs() {
    was_a_loggers();
    catch_up();
}

/// Writes on this thread, which owes nothing, what lies there because the log thread was refused.
#[inline]
pub(crate) fn catch_up() {
    if STRANDED.load(Ordering::Relaxed) {
        catch_up_here();
    }
}

#[cold]
fn catch_up_here() {
    if is_inside() || serves() {
        return;
    }
    {
        let mut queue = lock();
        if queue.running || queue.is_empty() {
            return;
        }
        queue.running = true;
    }
    write_out();
}

enum Text {
    Made(String),
    ToMake(Box<dyn FnOnce() -> String + Send>),
}

struct Entry {
    source: Source,
    target: Cow<'static, str>,
    text: Text,
}

impl Entry {
    fn new(source: Source, target: Cow<'static, str>, text: Text) -> Self {
        Entry { source, target, text }
    }

    fn bytes(&self) -> usize {
        match &self.text {
            Text::Made(text) => text.len(),
            Text::ToMake(_) => 0,
        }
    }

    fn write(self) {
        let text = match self.text {
            Text::Made(text) => text,
            Text::ToMake(make) => match make_text(make) {
                Some(text) => text,
                None => return,
            },
        };
        self.source.write(&self.target, format_args!("{text}"));
    }
}

/// Names are the user's code, too, and so is what goes with the closure.
fn make_text(make: Box<dyn FnOnce() -> String + Send>) -> Option<String> {
    let mut made = None;
    let mut make = Some(make);
    call(&mut || {
        let text = make.take().map(unwind::catch);
        made = text.map(|text| text.unwrap_or_else(|panic| format!("the text of a record panicked: {panic}")));
    });
    made
}

struct Queue {
    entries: VecDeque<Entry>,
    bytes: usize,
    /// What did not fit since that was said last.
    dropped: u64,
    /// Somebody writes.
    running: bool,
    /// A keeper has waited for room in vain; none does again before there is plenty.
    stands_still: bool,
    /// How many were put in, and how many of those are written.
    put_in: u64,
    written: u64,
}

impl Queue {
    const fn new() -> Self {
        let entries = VecDeque::new();
        Queue { entries, bytes: 0, dropped: 0, running: false, stands_still: false, put_in: 0, written: 0 }
    }

    fn is_full(&self, room: usize) -> bool {
        self.entries.len() >= room || self.bytes >= LARGEST / LONGEST * room
    }

    fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.dropped == 0
    }

    fn take(&mut self) -> Next {
        if self.dropped > 0 && self.entries.len() <= LONGEST / 4 {
            return Next::Dropped(std::mem::take(&mut self.dropped));
        }
        let Some(entry) = self.entries.pop_front() else { return Next::Nothing };
        self.bytes -= entry.bytes();
        self.stands_still &= self.entries.len() > LONGEST / 4;
        Next::Entry(entry)
    }
}

enum Next {
    Entry(Entry),
    Dropped(u64),
    Nothing,
}

fn lock() -> MutexGuard<'static, Queue> {
    QUEUE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Puts an entry where there is room for so many; and sees to it that somebody writes. The entry's number.
fn put(entry: Entry, room: usize) -> u64 {
    let mut unfit = None;
    let (number, start) = {
        let mut queue = lock();
        if queue.is_full(room) {
            queue.dropped += 1;
            unfit = Some(entry);
        } else {
            queue.put_in += 1;
            queue.bytes += entry.bytes();
            queue.entries.push_back(entry);
        }
        (queue.put_in, !std::mem::replace(&mut queue.running, true))
    };
    if start && thread::spawn("threadbus-log".to_owned(), STACK, write_out).is_err() {
        lock().running = false;
        STRANDED.store(true, Ordering::Relaxed);
        WRITTEN.notify_all();
    }
    // It may be the last that keeps something of the user's.
    let _ = unwind::catch(|| drop(unfit));
    number
}

/// On the log thread, or by whoever else has set `running`.
fn write_out() {
    let writes = local(|local| local.writes.replace(true));
    write_all();
    local(|local| local.writes.set(writes));
}

fn write_all() {
    loop {
        let next = {
            let mut queue = lock();
            let next = queue.take();
            if matches!(next, Next::Nothing) {
                queue.running = false;
                STRANDED.store(false, Ordering::Relaxed);
            }
            next
        };
        match next {
            Next::Entry(entry) => {
                entry.write();
                lock().written += 1;
            }
            Next::Dropped(count) => {
                source!(Level::Warn).write(
                    TARGET,
                    format_args!("{count} records were dropped: the logger is slower than what it is told"),
                );
            }
            Next::Nothing => return WRITTEN.notify_all(),
        }
        WRITTEN.notify_all();
    }
}

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

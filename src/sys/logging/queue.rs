//! Records that were handed over, and the thread that writes them.

use crate::sys::logging::calls::{Source, TARGET, call, is_inside, local, serves, source, was_a_loggers};
use crate::sys::one_line::OneLine;
use crate::sys::{panics, thread};
use log::Level;
use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// So many records may wait for the log thread.
const LONGEST: usize = 4096;
/// And so many bytes of text, as far as that is made already.
const LARGEST: usize = 4 << 20;
/// How long a worker process's keeper waits for room, once in a standstill of the logger.
#[cfg(feature = "process")]
const PATIENCE: Duration = Duration::from_millis(100);
/// As a handler's, for a logger may do as much.
const STACK: usize = 2 << 20;

// Not modelled: the queue's lock is held for a few instructions, and nothing is asked for under it.
static QUEUE: Mutex<Queue> = Mutex::new(Queue::new());
/// Something was written, or there is nothing left.
static WRITTEN: Condvar = Condvar::new();
/// The log thread was refused, and records lie there.
static STRANDED: AtomicBool = AtomicBool::new(false);

/// For `say!`: calls the logger on this thread, or hands the record over where that cannot be.
pub(crate) fn at_once(source: Source, target: &'static str, text: fmt::Arguments<'_>) {
    if serves() {
        return hand_over_text(source, target, text);
    }
    // What lies there was said first, and is written first.
    catch_up();
    if !source.write(target, text) {
        hand_over_text(source, target, text);
    }
}

fn hand_over_text(source: Source, target: &'static str, text: fmt::Arguments<'_>) {
    put(Entry::new(source, Cow::Borrowed(target), Text::Made(OneLine(text).to_string())), LONGEST);
}

/// For `later!`: `make` makes the text on the log thread.
pub(crate) fn hand_over(source: Source, make: impl FnOnce() -> String + Send + 'static) {
    put(Entry::new(source, Cow::Borrowed(TARGET), Text::ToMake(Box::new(make))), LONGEST);
}

/// A record of a worker process. Where the queue is half full its keeper waits a moment for room, for others may have more to say than
/// fits. Returns the record's number.
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

/// Waits until what was handed over up to that number is written, for so long at most. Not in a logger, as [`settle`].
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

/// Called by a thread of the pool, which owes nothing now: what the last job dropped is no news any more.
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

/// The names in a text are made by the user's code, and so is what is dropped with the closure.
fn make_text(make: Box<dyn FnOnce() -> String + Send>) -> Option<String> {
    let mut made = None;
    let mut make = Some(make);
    call(&mut || {
        let text = make.take().map(panics::catch);
        made = text.map(|text| text.unwrap_or_else(|panic| format!("the text of a record panicked: {panic}")));
    });
    made
}

struct Queue {
    entries: VecDeque<Entry>,
    bytes: usize,
    /// How many did not fit since that was last said.
    dropped: u64,
    /// A thread writes.
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

/// Puts an entry into the queue if that has room for so many, and starts the log thread if nothing writes. Returns the entry's number.
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
    // The entry may be the last that keeps something of the user's.
    let _ = panics::catch(|| drop(unfit));
    number
}

/// Runs on the log thread, or on the thread that has set `running` in its place.
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

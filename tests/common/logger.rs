//! The program's logger, as tests want it: each test has it for itself, and says what it does with a record.
#![allow(dead_code, reason = "every test file uses its own part of this module")]

use super::common::{Log, eventually, lock};
use log::{Level, LevelFilter, Metadata, Record};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};

type Hook = Arc<dyn Fn(Level, &str) + Send + Sync>;

struct Hooked {
    hook: Mutex<Option<Hook>>,
    calls: AtomicUsize,
}

static HOOKED: Hooked = Hooked { hook: Mutex::new(None), calls: AtomicUsize::new(0) };
static IN_USE: Mutex<()> = Mutex::new(());

impl log::Log for Hooked {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let hook = lock(&self.hook).clone();
        // One that tears its line is none of ours, and is missed.
        let ours = ["threadbus", "app"].iter().any(|target| record.target().starts_with(target))
            && !record.target().contains(char::is_control);
        if let Some(hook) = hook.filter(|_| ours) {
            self.calls.fetch_add(1, SeqCst);
            hook(record.level(), &record.args().to_string());
        }
    }

    fn flush(&self) {}
}

/// The logger is this test's until this is dropped.
pub struct Logger {
    _mine: MutexGuard<'static, ()>,
    heard: Log,
}

impl Logger {
    /// Records of the crate and of tests' workers come to `hook`, which may do what a logger may do; they are kept as well, before.
    pub fn new(level: LevelFilter, hook: impl Fn(Level, &str) + Send + Sync + 'static) -> Logger {
        static SET: Once = Once::new();
        let mine = IN_USE.lock().unwrap_or_else(PoisonError::into_inner);
        SET.call_once(|| log::set_logger(&HOOKED).unwrap_or_else(|error| panic!("{error}")));
        // What is caught is shown nevertheless, thousands of times.
        std::panic::set_hook(Box::new(|info| {
            if info.payload().downcast_ref::<&str>().is_none_or(|text| !text.contains("on purpose")) {
                std::io::Write::write_all(&mut std::io::stderr(), format!("{info}\n").as_bytes()).unwrap_or_default();
            }
        }));
        let heard = Log::new();
        let kept = heard.clone();
        *lock(&HOOKED.hook) = Some(Arc::new(move |level, text| {
            kept.push(text);
            hook(level, text);
        }));
        log::set_max_level(level);
        Logger { _mine: mine, heard }
    }

    /// All that was heard and names `what`.
    pub fn naming(&self, what: &str) -> Vec<String> {
        self.heard.entries().into_iter().filter(|text| text.contains(what)).collect()
    }

    pub fn heard(&self) -> Vec<String> {
        self.heard.entries()
    }

    /// Waits until the log has said something that names `what`.
    #[track_caller]
    pub fn says(&self, what: &str) {
        eventually(|| !self.naming(what).is_empty());
    }

    /// Waits until there is nothing new for a while.
    #[track_caller]
    pub fn falls_silent(&self) {
        let (mut since, mut calls) = (Instant::now(), self.heard.len());
        eventually(|| {
            if self.heard.len() != calls {
                (since, calls) = (Instant::now(), self.heard.len());
            }
            since.elapsed() > Duration::from_millis(100)
        });
    }
}

impl Drop for Logger {
    fn drop(&mut self) {
        log::set_max_level(LevelFilter::Off);
        let gone = lock(&HOOKED.hook).take();
        drop(gone);
    }
}

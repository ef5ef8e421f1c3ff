//! A logger that makes an event of every record, under shuttle: whenever it is called, nobody holds what it needs.
//! `RUSTFLAGS="--cfg threadbus_shuttle" cargo test --release --test model_logger`, with `THREADBUS_SCHEDULES` (default 2,000).
#![cfg(threadbus_shuttle)]

#[path = "common/schedules.rs"]
mod schedules;

use schedules::*;
use shuttle::thread;
use std::sync::{Mutex, Once, PoisonError};
use threadbus::*;

/// Where the records of the schedule that is on go, and how many there were.
static PANEL: Mutex<(Option<WeakBus>, usize)> = Mutex::new((None, 0));

/// The log is the process's: one model at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn check_alone(model: impl Fn() + Send + Sync + 'static) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    check(model);
}

struct ToPanel;
impl log::Log for ToPanel {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let text = record.args().to_string();
        // Not held where another thread may come: all of a model is on one.
        let panel = {
            let mut panel = PANEL.lock().unwrap();
            panel.1 += usize::from(text.contains("is back") || text.contains("is abandoned"));
            panel.0.clone()
        };
        if let Some(panel) = panel.and_then(|panel| panel.upgrade()) {
            panel.emit(Other);
        }
    }

    fn flush(&self) {}
}

fn panel(runtime: &Runtime) -> EventBus {
    static SET: Once = Once::new();
    SET.call_once(|| log::set_logger(&ToPanel).unwrap());
    log::set_max_level(log::LevelFilter::Trace);
    let panel = bus(runtime, "panel");
    panel.on(|_: &Event<Other>| {});
    *PANEL.lock().unwrap() = (Some(panel.downgrade()), 0);
    panel
}

fn said() -> usize {
    PANEL.lock().unwrap().1
}

#[test]
fn a_worker_that_was_given_up_comes_back_to_a_logger_that_emits() {
    check_alone(|| {
        let runtime = runtime();
        let (panel, app) = (panel(&runtime), bus(&runtime, "app"));
        app.on(|job: &Event<Job>| {
            stay();
            job.0
        });
        app.on(|_: &Event<Next>| {});
        let (job, next) = (app.emit(Job(1)), app.emit(Next));
        let clock = time_passes(&runtime, &job);
        next.wait().unwrap();
        job.wait().unwrap();
        clock.join().unwrap();
        // It may have come back before it was abandoned; else both are said, by a thread that comes and goes.
        // The log thread may have the last word, after which nothing is left of the panel's.
        app.wait_until_idle().unwrap();
        panel.wait_until_idle().unwrap();
        until(|| said() != 1);
    });
}

#[test]
fn what_is_cancelled_is_said_after_all_that_is_owed() {
    check_alone(|| {
        let runtime = runtime();
        let (panel, app) = (panel(&runtime), bus(&runtime, "app"));
        app.on(|job: &Event<Job>| {
            if job.0 == 1 {
                stay();
            }
            job.0
        });
        app.on(|_: &Event<Next>| {});
        let (job, next) = (app.emit(Job(1)), app.emit(Next));
        let ended = job.clone();
        let canceller = thread::spawn(move || ended.cancel());
        next.wait().unwrap();
        canceller.join().unwrap();
        job.wait().unwrap_or_else(|_| job.clone());
        // The log thread may have the last word, after which nothing is left of the panel's.
        app.wait_until_idle().unwrap();
        panel.wait_until_idle().unwrap();
    });
}

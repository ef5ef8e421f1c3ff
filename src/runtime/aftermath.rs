//! What follows from what the watch decides, on a thread of its own: it rings threads, ends children, gives permits back and hands jobs to
//! the pool, but never runs user code.
//!
//! Its thread starts when first needed, and ends when it has been without work for a while. Where the system refuses it, the caller does the
//! work.

use crate::runtime::crew::Crew;
use crate::sys::sync::{Condvar, Mutex};
use crate::sys::{clock, logging, thread, unwind};
use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

pub(super) type Action = Box<dyn FnOnce() + Send>;

/// The stack size of the watch's thread and the aftermath's.
pub(super) const STACK: usize = 512 * 1024;
/// How long the thread stays without work.
const LINGER: Duration = Duration::from_secs(3);

thread::local! {
    static IS_SERVICE: Cell<bool> = Cell::new(false);
}

/// The calling thread is the watch's or the aftermath's, which must not run user code.
pub(crate) fn is_service_thread() -> bool {
    IS_SERVICE.try_with(Cell::get).unwrap_or(false)
}

/// From now on the calling thread runs no user code.
pub(super) fn become_service_thread() {
    let _ = IS_SERVICE.try_with(|is| is.set(true));
    logging::never_here();
}

#[derive(Default)]
struct State {
    queue: VecDeque<Action>,
    /// The thread is there, or is being started.
    running: bool,
    /// The system has refused the thread, and has not given it since.
    refused: bool,
}

pub(super) struct Aftermath {
    name: String,
    crew: Arc<Crew>,
    state: Mutex<State>,
    due: Condvar,
}

impl Aftermath {
    pub(super) fn new(name: &str, crew: &Arc<Crew>) -> Arc<Aftermath> {
        Arc::new(Aftermath {
            name: name.to_owned(),
            crew: Arc::clone(crew),
            state: Mutex::default(),
            due: Condvar::new(),
        })
    }

    pub(super) fn soon(self: &Arc<Self>, action: Action) {
        let mut state = self.state.lock();
        state.queue.push_back(action);
        if state.running {
            drop(state);
            self.due.notify_one();
            return;
        }
        state.running = true;
        drop(state);
        let aftermath = Arc::clone(self);
        if let Err(error) = self.crew.spawn(format!("{}-aftermath", self.name), STACK, move || aftermath.run()) {
            let first = {
                let mut state = self.state.lock();
                state.running = false;
                !std::mem::replace(&mut state.refused, true)
            };
            if first {
                logging::later!(Error, move || {
                    format!("the system refuses the aftermath thread ({error}); the caller does its work")
                });
            }
            while let Some(action) = self.next() {
                run(action);
            }
        }
    }

    /// The thread looks whether it may stay.
    pub(super) fn let_go(&self) {
        drop(self.state.lock());
        self.due.notify_one();
    }

    fn next(&self) -> Option<Action> {
        self.state.lock().queue.pop_front()
    }

    fn run(&self) {
        become_service_thread();
        let mut state = self.state.lock();
        state.refused = false;
        loop {
            if let Some(action) = state.queue.pop_front() {
                drop(state);
                run(action);
                state = self.state.lock();
                continue;
            }
            let stays = !cfg!(threadbus_shuttle) && self.crew.may_stay();
            let limit = if stays { clock::instant(clock::after(clock::now(), LINGER)) } else { None };
            let timed_out = limit.is_none_or(|limit| self.due.wait_until(&mut state, limit).timed_out());
            if timed_out && state.queue.is_empty() {
                state.running = false;
                return;
            }
        }
    }
}

fn run(action: Action) {
    if let Err(panic) = unwind::catch(action) {
        logging::later!(Error, move || format!("the aftermath thread survived a panic: {panic}"));
    }
}

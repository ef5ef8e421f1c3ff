//! What the floors are built of: a thread behind a crossbeam channel, and a Condvar to wait for it.

use crossbeam_channel::{Sender, unbounded};
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::thread::JoinHandle;

pub type Job = Box<dyn FnOnce() + Send>;

/// One thread that runs boxed closures from one unbounded channel.
pub struct Runner {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Runner {
    pub fn new() -> Runner {
        let (jobs, queue) = unbounded::<Job>();
        let thread = std::thread::spawn(move || {
            for job in queue {
                job();
            }
        });
        Runner { jobs: Some(jobs), thread: Some(thread) }
    }

    pub fn run(&self, job: impl FnOnce() + Send + 'static) {
        let jobs = self.jobs.as_ref().expect("there until dropped");
        jobs.send(Box::new(job)).expect("the thread lives as long as its sender");
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            thread.join().expect("no job panics");
        }
    }
}

/// Opened once by one thread, waited for by another, and closed again by that.
#[derive(Default)]
pub struct Latch {
    open: Mutex<bool>,
    opened: Condvar,
}

impl Latch {
    pub fn new() -> Arc<Latch> {
        Arc::default()
    }

    pub fn open(&self) {
        *self.open.lock() = true;
        self.opened.notify_one();
    }

    pub fn pass(&self) {
        let mut open = self.open.lock();
        while !*open {
            self.opened.wait(&mut open);
        }
        *open = false;
    }
}

//! The unbounded channel between the emitters of a bus and its loop.

#[cfg(not(threadbus_shuttle))]
pub(crate) use crossbeam_channel::{Receiver, Sender, unbounded};

#[cfg(threadbus_shuttle)]
pub(crate) use model::{Receiver, Sender, unbounded};

/// Under a model the channel is taken on trust: a mutex and a queue.
#[cfg(threadbus_shuttle)]
mod model {
    use crate::sys::sync::Mutex;
    use std::collections::VecDeque;
    use std::sync::Arc;

    #[derive(Debug)]
    pub(crate) struct Sender<T>(Arc<Mutex<VecDeque<T>>>);
    #[derive(Debug)]
    pub(crate) struct Receiver<T>(Arc<Mutex<VecDeque<T>>>);

    pub(crate) fn unbounded<T>() -> (Sender<T>, Receiver<T>) {
        let queue = Arc::new(Mutex::new(VecDeque::new()));
        (Sender(Arc::clone(&queue)), Receiver(queue))
    }
    impl<T> Sender<T> {
        pub(crate) fn send(&self, value: T) -> Result<(), T> {
            self.0.lock().push_back(value);
            Ok(())
        }
    }
    impl<T> Receiver<T> {
        pub(crate) fn try_recv(&self) -> Result<T, ()> {
            self.0.lock().pop_front().ok_or(())
        }
        pub(crate) fn is_empty(&self) -> bool {
            self.0.lock().is_empty()
        }
    }
}

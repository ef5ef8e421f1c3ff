//! The user's word on a stack that the system knows nothing of.

use crate::runtime::worker::Worker;

/// Says how much of its stack the calling thread has left, below this call: for a coroutine or fiber, which has a stack of its own, and
/// for threads of which the system knows less than you.
///
/// Handlers that wait for what they emit run it on top of their own stack. So does a [pump thread](crate::BusBuilder::manual) while it
/// waits, and `emit_now` on any thread. None of that happens where little is left: what may run on another thread goes there, what may
/// not answers [`WaitError::NoThread`](crate::WaitError::NoThread). How much is left, the system is asked once for each thread, at its first
/// call of this crate. It knows that on Linux, macOS, Windows and the BSDs. Elsewhere 256 KiB are assumed. With musl it knows of a main
/// thread only what has been touched so far, about 128 KiB.
///
/// A quarter of what is left, 128 KiB at least, is kept for whatever your handlers call; of less than 256 KiB a half, and never less than
/// 40 KiB. On a thread with less than that nothing runs on top.
///
/// The last call counts. A scheduler of coroutines that run on one thread calls this whenever it has switched. What [`stacker`] grows
/// needs no call.
///
/// [`stacker`]: https://docs.rs/stacker
///
/// ```
/// use threadbus::{Event, EventBus, Payload, WaitError, assume_stack};
/// struct Zoom(u32);
/// impl Payload for Zoom { type Output = (); }
///
/// let bus = EventBus::builder("view").manual().build()?;
/// bus.on(|zoom: &Event<Zoom>| match zoom.0 {
///     0 => Ok(()),
///     left => zoom.bus().emit(Zoom(left - 1)).wait().map(drop),
/// });
/// assume_stack(400 << 10);
/// let zoom = bus.emit(Zoom(100)); // one level each, on the one stack
/// bus.run_pending();
/// // The wait for which there was no room has failed, and no stack has overflowed.
/// let failed = |zoom: &threadbus::AnyEvent| zoom.results().iter().any(|result| result.error.is_some());
/// assert!(zoom.descendants().iter().any(failed));
/// # Ok::<(), threadbus::BuildError>(())
/// ```
pub fn assume_stack(bytes: usize) {
    if let Some(worker) = Worker::current() {
        worker.assume_stack(bytes);
    }
}

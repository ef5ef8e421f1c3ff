//! A request's claim to a worker, which another thread may give up.

use super::link::{Link, Logged};
use crate::sys::sync::Mutex;
use crate::sys::sync::atomic::AtomicBool;
use std::sync::Arc;

/// What a handler's thread and the hook that gives its request up share.
#[derive(Debug)]
pub(crate) struct Claim {
    /// Whether the pool's log has anything of this request.
    pub(super) logged: Logged,
    pub(super) given_up: AtomicBool,
    /// The worker that is at the request, and the request's number.
    pub(super) on: Mutex<Option<(Arc<Link>, u64)>>,
}

impl Claim {
    pub(crate) fn new(logged: Logged) -> Self {
        Claim { logged, given_up: AtomicBool::new(false), on: Mutex::new(None) }
    }
}

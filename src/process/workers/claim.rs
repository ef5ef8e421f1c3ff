//! One request's claim to a worker.

use super::link::Link;
use crate::sys::sync::Mutex;
use crate::sys::sync::atomic::AtomicBool;
use std::sync::Arc;

/// May be given up from another thread at any time.
#[derive(Debug, Default)]
pub(crate) struct Claim {
    pub(super) given_up: AtomicBool,
    pub(super) on: Mutex<Option<(Arc<Link>, u64)>>,
}

//! Waits that wait until middlewares are told (`middleware/README.md`, *Telling*).

use crate::bus::core::BusCore;
use crate::bus::middleware::tell::deliver;
use crate::bus::thread::frame;
use crate::bus::wait::claimable;
use crate::event::{AnyEvent, BusIdentity};
use crate::runtime::Worker;
use crate::sys::clock::{self, NEVER, Tick};
use std::sync::Arc;

/// Waits until all changes of an event are told on the one bus that it is on.
#[inline]
pub(crate) fn wait_told_by(bus: &BusCore, event: &AnyEvent) {
    if bus.is_watched() {
        wait_told(event, std::slice::from_ref(&bus.identity), NEVER);
    }
}

/// Waits until all changes of an event are told, or `until`; tells them itself where nobody does.
#[cold]
pub(crate) fn wait_told(event: &AnyEvent, buses: &[Arc<BusIdentity>], until: Tick) {
    if frame::in_callback() {
        return;
    }
    let Some(worker) = Worker::current() else { return };
    let frame = frame::top();
    for identity in buses {
        let Some(bus) = BusCore::of(identity) else { continue };
        let Some(journal) = event.state().lock().journal_of(identity.id).cloned() else { continue };
        loop {
            deliver(&bus, event);
            let gone = frame.as_ref().is_some_and(|frame| !frame.is_live());
            if journal.is_told(&worker.bell) || gone || until != NEVER && clock::now() >= until {
                break;
            }
            match &frame {
                Some(_) => worker.park_inside(&bus.runtime, until),
                None => worker.park_outside(&bus.runtime, until, || claimable::needs_of(event, false, &bus.runtime)),
            }
        }
    }
    worker.ends_wait();
}

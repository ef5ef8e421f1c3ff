//! What a wait needs: what its jump may claim, and which jobs must run when no thread comes for them.

use crate::bus::core::BusCore;
use crate::bus::core::hold::hold_of;
use crate::bus::permits::asleep;
use crate::bus::permits::limits;
use crate::bus::thread::sits;
use crate::event::{AnyEvent, DeliveryPhase, RecordPhase, TurnKind};
use crate::runtime::{Needs, RuntimeCore};
use crate::sync::Token;
use crate::sys::sync::atomic::Ordering;
use std::collections::HashSet;
use std::sync::Arc;

/// Queued deliveries that `event` needs: its own in path order, then those below in emit order; and what running handlers among them wait
/// for in their turn.
pub(crate) fn claimable(event: &AnyEvent, runtime: &RuntimeCore) -> Vec<(AnyEvent, usize)> {
    let mut found = Vec::new();
    let mut seen = HashSet::new();
    let mut pending = vec![event.clone()];
    while let Some(event) = pending.pop() {
        if event.is_complete() || !seen.insert(event.head().stamp()) {
            continue;
        }
        let mut workers = Vec::new();
        let (mut below, mut held) = (Vec::new(), false);
        let in_line;
        {
            let state = event.state().lock();
            for (index, delivery) in state.deliveries.iter().enumerate() {
                match delivery.phase {
                    DeliveryPhase::Held => held = true,
                    DeliveryPhase::Queued => found.push((event.clone(), index)),
                    DeliveryPhase::Active => {
                        let running = delivery.records.iter().filter(|r| r.phase == RecordPhase::Started);
                        workers.extend(running.map(|r| r.worker));
                    }
                    DeliveryPhase::Done => {}
                }
            }
            // While its handlers run they decide what they wait for; what nobody waited for jumps afterwards.
            if !state.is_active() {
                below.extend(state.children().map(|c| c.event.clone()).filter(|e| !e.is_complete()));
            }
            in_line = limits::lines_of(&state);
        }
        if held {
            below.extend(hold_of(&event).and_then(|hold| hold.first_open()));
        }
        // What stands in line needs whoever has the places.
        workers.extend(in_line.iter().flat_map(|group| asleep::sleepers(runtime, group)));
        if !workers.is_empty() && runtime.parked_count.load(Ordering::SeqCst) > 0 {
            let parked = runtime.parked.lock();
            // A jump among them claims for itself; only who waits in order needs help.
            let waits = workers.iter().filter_map(|w| parked.get(w)).filter(|p| p.in_order);
            below.extend(waits.map(|p| p.event.clone()));
        }
        pending.extend(below.into_iter().rev());
    }
    found
}

/// The jobs that a wait for `event` needs, when no thread comes for them: what goes on with the event, with what is below it, and with what
/// running handlers among those wait for; and what holds the turns and permits that these stand in line for. `in_order`: it leaves queued
/// events to their buses, so it needs all that these do.
pub(crate) fn needs_of(event: &AnyEvent, in_order: bool, runtime: &RuntimeCore) -> Needs {
    let mut needs = Needs::default();
    let mut pending = vec![(event.clone(), in_order)];
    while let Some((event, in_order)) = pending.pop() {
        if event.is_complete() || !needs.events.insert(event.head().stamp()) {
            continue;
        }
        let mut workers = Vec::new();
        let mut waits_on = Vec::new();
        let in_line;
        {
            let state = event.state().lock();
            for delivery in state.deliveries.iter() {
                let running = delivery.records.iter().filter(|r| r.phase == RecordPhase::Started);
                let before = workers.len();
                workers.extend(running.map(|r| r.worker));
                let stands = delivery.phase == DeliveryPhase::Active && workers.len() == before;
                if stands || in_order && delivery.phase == DeliveryPhase::Queued {
                    waits_on.push((Arc::clone(&delivery.bus), delivery.manner, delivery.phase));
                }
            }
            pending.extend(state.children().map(|c| (c.event.clone(), in_order)));
            in_line = limits::lines_of(&state);
        }
        pending.extend(hold_of(&event).and_then(|hold| hold.first_open()).map(|before| (before, in_order)));
        for (bus, manner, phase) in waits_on {
            // Read where the modes of its handlers need not be known: any of them may be global.
            needs.all_holders |= manner.turn == TurnKind::Global;
            let Some(bus) = BusCore::of(&bus) else { continue };
            if phase == DeliveryPhase::Queued {
                needs.buses.push(bus.lane);
            } else {
                needs.holders.push(bus.lane);
            }
        }
        needs.all_holders |= !in_line.is_empty();
        workers.extend(in_line.iter().flat_map(|group| asleep::sleepers(runtime, group)));
        if !workers.is_empty() && runtime.parked_count.load(Ordering::SeqCst) > 0 {
            let parked = runtime.parked.lock();
            pending
                .extend(workers.iter().filter_map(|w| parked.get(w)).map(|wait| (wait.event.clone(), wait.in_order)));
        }
        for identity in workers.iter().filter_map(|worker| sits::idle_wait(runtime, *worker)) {
            needs.buses.extend(BusCore::of(&identity).map(|bus| bus.lane));
            needs.holders.extend(BusCore::of(&identity).map(|bus| bus.lane));
        }
    }
    if needs.all_holders {
        let holders: Vec<Token> = runtime.global.lock().event.holders().collect();
        needs.buses.extend(BusCore::loops_among(&holders, runtime));
    }
    needs
}

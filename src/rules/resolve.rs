//! Which of the layered options wins: event over handler over bus; for timeouts the nearest that is set.

use crate::event::{
    EventConcurrency, EventOptions, HandlerCompletion, HandlerConcurrency, HandlerMode, HandlerOptions, Knob, Plan,
    Retry, Timing, TurnKind,
};
use crate::sys::clock::{self, NEVER, Tick};
use std::time::Duration;

/// The options of a bus: the last layer.
#[derive(Clone, Debug)]
pub(crate) struct BusDefaults {
    pub(crate) event_concurrency: EventConcurrency,
    pub(crate) handler_concurrency: HandlerConcurrency,
    pub(crate) completion: HandlerCompletion,
    pub(crate) handler_timeout: Option<Duration>,
    pub(crate) event_timeout: Option<Duration>,
    pub(crate) handler_slow_after: Option<Duration>,
    pub(crate) event_slow_after: Option<Duration>,
    pub(crate) retry: Option<Retry>,
    /// On a manual bus one thread runs everything, so nothing is parallel.
    pub(crate) manual: bool,
}

pub(crate) fn plan(event: Option<&EventOptions>, defaults: &EventOptions, bus: &BusDefaults) -> Plan {
    let own = |pick: fn(&EventOptions) -> Knob| event.map_or(Knob::Unset, pick).or(pick(defaults));
    let mode = event.and_then(|o| o.concurrency).or(defaults.concurrency).unwrap_or(bus.event_concurrency);
    let handlers =
        event.and_then(|o| o.handler_concurrency).or(defaults.handler_concurrency).unwrap_or(bus.handler_concurrency);
    let completion = event.and_then(|o| o.completion).or(defaults.completion).unwrap_or(bus.completion);
    let turn = match mode {
        EventConcurrency::GlobalSerial => TurnKind::Global,
        EventConcurrency::BusSerial => TurnKind::Bus,
        EventConcurrency::Parallel => TurnKind::Free,
    };
    Plan {
        turn,
        first: completion == HandlerCompletion::First,
        bus_handler: turn != TurnKind::Global && handlers == HandlerConcurrency::BusSerial,
        event_timeout: own(|o| o.timeout).or(bus.event_timeout.into()).get(),
    }
}

pub(crate) fn handler_mode(
    event: Option<&EventOptions>,
    defaults: &EventOptions,
    handler: &HandlerOptions,
    bus: &BusDefaults,
) -> HandlerMode {
    let mode = event
        .and_then(|o| o.handler_concurrency)
        .or(defaults.handler_concurrency)
        .or(handler.concurrency)
        .unwrap_or(bus.handler_concurrency);
    match mode {
        HandlerConcurrency::GlobalSerial => HandlerMode::GlobalSerial,
        HandlerConcurrency::BusSerial => HandlerMode::BusSerial,
        HandlerConcurrency::EventSerial => HandlerMode::EventSerial,
        HandlerConcurrency::Parallel if bus.manual => HandlerMode::EventSerial,
        HandlerConcurrency::Parallel => HandlerMode::Parallel,
    }
}

/// How long one attempt may take, and after how long to warn.
pub(crate) fn timing(
    event: Option<&EventOptions>,
    defaults: &EventOptions,
    handler: &HandlerOptions,
    bus: &BusDefaults,
) -> Timing {
    let timeout = event
        .map_or(Knob::Unset, |o| o.handler_timeout)
        .or(defaults.handler_timeout)
        .or(handler.timeout)
        .or(bus.handler_timeout.into());
    let slow = event
        .map_or(Knob::Unset, |o| o.handler_slow_after)
        .or(defaults.handler_slow_after)
        .or(handler.slow_after)
        .or(bus.handler_slow_after.into());
    let timeout = match span(timeout) {
        // There is no time at all, and the handler is not called.
        0 => 0,
        own => own.saturating_add(clock::after(0, handler.allowance)),
    };
    Timing { timeout, slow_after: span(slow) }
}

/// After how long to warn that an event is slow.
pub(crate) fn slow_event(event: Option<&EventOptions>, defaults: &EventOptions, bus: &BusDefaults) -> Tick {
    span(event.map_or(Knob::Unset, |o| o.slow_after).or(defaults.slow_after).or(bus.event_slow_after.into()))
}

/// After how long to warn that an event is slow, by the event's own options alone.
pub(crate) fn own_slow_event(own: &EventOptions) -> Option<Tick> {
    (own.slow_after != Knob::Unset).then(|| span(own.slow_after))
}

fn span(knob: Knob) -> Tick {
    knob.get().map_or(NEVER, |span| clock::after(0, span))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bus() -> BusDefaults {
        BusDefaults {
            event_concurrency: EventConcurrency::BusSerial,
            handler_concurrency: HandlerConcurrency::BusSerial,
            completion: HandlerCompletion::All,
            handler_timeout: Some(Duration::from_secs(60)),
            event_timeout: None,
            handler_slow_after: Some(Duration::from_secs(30)),
            event_slow_after: None,
            retry: None,
            manual: false,
        }
    }

    #[test]
    fn event_beats_handler_beats_bus() {
        let none = EventOptions::new();
        let parallel = EventOptions::new().handler_concurrency(HandlerConcurrency::Parallel);
        let global = HandlerOptions::new().concurrency(HandlerConcurrency::GlobalSerial);
        assert_eq!(handler_mode(None, &none, &HandlerOptions::new(), &bus()), HandlerMode::BusSerial);
        assert_eq!(handler_mode(None, &none, &global, &bus()), HandlerMode::GlobalSerial);
        assert_eq!(handler_mode(Some(&parallel), &none, &global, &bus()), HandlerMode::Parallel);
        assert_eq!(handler_mode(None, &parallel, &global, &bus()), HandlerMode::Parallel);
    }

    #[test]
    fn timeouts_fall_through_and_can_be_cleared() {
        let s = Duration::from_secs;
        let none = EventOptions::new();
        let handler = HandlerOptions::new().timeout(s(5));
        assert_eq!(timing(None, &none, &HandlerOptions::new(), &bus()).timeout, 60_000_000_000);
        assert_eq!(timing(None, &none, &handler, &bus()).timeout, 5_000_000_000);
        let off = EventOptions::new().no_timeout();
        assert_eq!(timing(Some(&off), &none, &handler, &bus()).timeout, NEVER);
        assert_eq!(plan(Some(&none.clone().timeout(s(2))), &none, &bus()).event_timeout, Some(s(2)));
        assert_eq!(plan(Some(&off), &none.timeout(s(2)), &bus()).event_timeout, None);
    }

    #[test]
    fn a_slow_warning_needs_room_before_the_timeout() {
        let ms = Duration::from_millis;
        let none = EventOptions::new();
        let slow_at = |timeout: Option<Duration>| {
            let handler = HandlerOptions::new().slow_after(ms(10));
            let handler = timeout.map_or(handler.clone().no_timeout(), |timeout| handler.timeout(timeout));
            timing(None, &none, &handler, &bus()).slow_at(5)
        };
        assert_eq!(slow_at(Some(ms(10))), NEVER);
        assert_eq!(slow_at(Some(ms(11))), 10_000_005);
        assert_eq!(slow_at(None), 10_000_005);
    }
}

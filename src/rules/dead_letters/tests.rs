use super::*;
use crate::{Event, EventBus, EventConcurrency, Payload};

struct Job;
impl Payload for Job {
    type Output = ();
}

struct Shop {
    bus: EventBus,
    handler: HandlerInfo,
    letters: DeadLetters,
    clock: Stamp,
}

impl Shop {
    fn new(capacity: usize) -> Shop {
        let bus = EventBus::builder("shop").event_concurrency(EventConcurrency::Parallel).build().unwrap();
        let handler = bus.on(|_: &Event<Job>| {});
        Shop { bus, handler, letters: DeadLetters::new(capacity), clock: 1000 }
    }

    fn event(&self) -> AnyEvent {
        self.bus.emit(Job).as_ref().clone()
    }

    fn fail(&mut self, event: &AnyEvent, attempts: u32) -> Option<DeadLetter> {
        let handler = self.handler.clone();
        self.fail_as(event, &handler, attempts)
    }

    fn fail_as(&mut self, event: &AnyEvent, handler: &HandlerInfo, attempts: u32) -> Option<DeadLetter> {
        self.clock += 1000;
        let error = Arc::new(HandlerFailure::Failed(format!("at {}", self.clock).into()));
        let failed = Failed { event, handler, attempts, error, permanent: false, at: self.clock };
        self.letters.note(failed).letters.pop()
    }

    /// Begins a redrive of the next `max`, as the bus does.
    fn begin(&mut self, max: usize) -> Vec<DeadLetter> {
        let (mut at, end, mut begun) = (0, self.letters.last_turn(), Vec::new());
        while begun.len() < max
            && let Some((turn, letter)) = self.letters.next(at..end)
        {
            at = turn + 1;
            assert!(self.letters.begin(&letter, &letter.handler, self.clock));
            begun.push(letter);
        }
        begun
    }

    fn listed(&self) -> Vec<AnyEvent> {
        self.letters.list().into_iter().map(|letter| letter.event).collect()
    }
}

#[track_caller]
fn same(found: &[AnyEvent], expected: &[AnyEvent]) {
    assert_eq!(found.len(), expected.len());
    assert!(found.iter().zip(expected).all(|(a, b)| a.same(b)));
}

#[test]
fn the_oldest_go_first_and_are_counted() {
    let mut shop = Shop::new(3);
    let events: Vec<_> = (0..5).map(|_| shop.event()).collect();
    let gone: Vec<_> = events.iter().filter_map(|event| shop.fail(event, 1)).map(|letter| letter.event).collect();
    same(&gone, &events[..2]);
    same(&shop.listed(), &events[2..]);
    assert_eq!((shop.letters.len(), shop.letters.evicted()), (3, 2));
}

#[test]
fn a_capacity_of_0_keeps_nothing_and_any_other_is_no_reservation() {
    let mut off = Shop::new(0);
    let event = off.event();
    assert!(off.fail(&event, 1).is_some(), "handed back to be dropped");
    assert_eq!((off.letters.len(), off.letters.evicted()), (0, 0));
    let mut huge = Shop::new(usize::MAX);
    assert!(huge.fail(&event, 1).is_none());
    assert_eq!(huge.letters.len(), 1);
}

#[test]
fn one_per_event_and_handler() {
    let mut shop = Shop::new(10);
    let (first, second) = (shop.event(), shop.event());
    let other = shop.bus.on(|_: &Event<Job>| {});
    assert!(shop.fail(&first, 1).is_none() && shop.fail(&second, 1).is_none());
    assert!(shop.fail_as(&first, &other, 1).is_none());
    assert_eq!(shop.letters.len(), 3);
    assert!(shop.fail(&first, 1).is_some(), "the older state of the same letter");
    assert_eq!(shop.letters.len(), 3);
}

#[test]
fn what_fails_again_keeps_its_place_and_its_first_time() {
    let mut shop = Shop::new(10);
    let events: Vec<_> = (0..3).map(|_| shop.event()).collect();
    for event in &events {
        let _ = shop.fail(event, 3);
    }
    let old = shop.begin(1).remove(0);
    let replaced = shop.fail(&events[0], 2).unwrap();
    assert_eq!(replaced.error.to_string(), old.error.to_string());
    same(&shop.listed(), &events);
    let letter = shop.letters.list().remove(0);
    assert_eq!((letter.attempts, letter.first_failed_at), (5, old.first_failed_at));
    assert!(letter.last_failed_at > old.last_failed_at);
    assert_eq!(letter.error.to_string(), format!("at {}", shop.clock));
    shop.clock = 0;
    let _ = shop.fail(&events[0], u32::MAX);
    let again = shop.letters.list().remove(0);
    assert_eq!((again.attempts, again.last_failed_at), (u32::MAX, letter.last_failed_at));
}

#[test]
fn two_redrives_never_have_the_same_letter() {
    let mut shop = Shop::new(10);
    let events: Vec<_> = (0..5).map(|_| shop.event()).collect();
    for event in &events {
        let _ = shop.fail(event, 1);
    }
    let of = |letters: Vec<DeadLetter>| letters.into_iter().map(|letter| letter.event).collect::<Vec<_>>();
    same(&of(shop.begin(2)), &events[..2]);
    same(&of(shop.begin(usize::MAX)), &events[2..]);
    assert!(shop.begin(9).is_empty());
    assert_eq!(shop.letters.len(), 5, "they stay until it is known how it went");

    let handler = shop.handler.clone();
    assert!(shop.letters.remove(&events[0], &handler).is_some());
    assert!(shop.letters.remove(&events[0], &handler).is_none());
    let _ = shop.fail(&events[2], 1);
    assert!(shop.letters.release(&events[1], &handler).letters.is_empty());
    same(&of(shop.begin(9)), &[events[2].clone(), events[1].clone()]);
}

#[test]
fn what_was_tried_last_comes_last() {
    let mut shop = Shop::new(10);
    let events: Vec<_> = (0..4).map(|_| shop.event()).collect();
    for event in &events {
        let _ = shop.fail(event, 1);
    }
    let mut order = Vec::new();
    for _ in 0..6 {
        let letter = shop.begin(1).remove(0);
        let _ = shop.fail(&letter.event, 1);
        order.push(letter.event);
    }
    same(&order, &[0, 1, 2, 3, 0, 1].map(|at: usize| events[at].clone()));
    same(&shop.listed(), &events);
}

#[test]
fn a_handler_registered_anew_takes_the_letter_over() {
    let mut shop = Shop::new(10);
    let (event, other) = (shop.event(), shop.event());
    let (old, new) = (shop.handler.clone(), shop.bus.on(|_: &Event<Job>| {}));
    let _ = (shop.fail(&event, 1), shop.fail(&other, 1), shop.fail_as(&other, &new, 1));
    let letters = shop.letters.list();
    assert!(shop.letters.begin(&letters[0], &new, 5) && !shop.letters.begin(&letters[0], &old, 6));
    assert!(!shop.letters.begin(&letters[1], &new, 7), "it has one of its own");
    assert!(shop.fail_as(&event, &new, 2).is_some());
    assert_eq!((shop.letters.len(), shop.letters.list()[0].attempts), (3, 3));
    assert_eq!(shop.letters.list()[0].handler.id(), new.id());
    assert!(shop.letters.begin(&letters[0], &new, 8), "by a copy from before");
    assert!(shop.letters.remove(&event, &old).is_some());
    assert!(shop.letters.remove(&event, &new).is_none());
    assert_eq!(shop.letters.len(), 2);
}

#[test]
fn what_fails_below_a_redrive_waits_for_its_end() {
    let mut shop = Shop::new(2);
    let (event, handler) = (shop.event(), shop.handler.clone());
    let later = || -> Later { Box::new(|| {}) };
    let below = |shop: &mut Shop, child| shop.letters.below(&event, handler.id(), child, later());
    assert!(matches!(below(&mut shop, 5), Below::Free(_)), "no letter");
    let _ = shop.fail(&event, 1);
    assert!(matches!(below(&mut shop, 5), Below::Free(_)), "no redrive");
    let letter = shop.letters.list().remove(0);
    assert!(shop.letters.begin(&letter, &handler, 100));
    assert!(matches!(below(&mut shop, 99), Below::Free(_)), "emitted the first time");
    assert!(matches!(below(&mut shop, 101), Below::Held(None)));
    assert!(matches!(below(&mut shop, 102), Below::Held(None)));
    assert!(matches!(below(&mut shop, 103), Below::Held(Some(_))), "no more than letters");
    let gone = shop.letters.release(&event, &handler);
    assert_eq!(gone.below.len(), 2);
    assert!(matches!(below(&mut shop, 104), Below::Never(_)));
    assert!(matches!(below(&mut shop, 99), Below::Free(_)));
    assert!(shop.letters.begin(&letter, &handler, 200));
    assert!(matches!(below(&mut shop, 201), Below::Held(None)));
    assert!(matches!(below(&mut shop, 105), Below::Never(_)), "of the redrive before");
    assert_eq!(shop.letters.remove(&event, &handler).map(|(_, below)| below.len()), Some(1));
    assert!(matches!(below(&mut shop, 202), Below::Free(_)));
}

#[test]
fn a_letter_being_redriven_is_evicted_last() {
    let mut shop = Shop::new(2);
    let events: Vec<_> = (0..4).map(|_| shop.event()).collect();
    let _ = (shop.fail(&events[0], 1), shop.fail(&events[1], 1));
    shop.begin(1);
    same(&[shop.fail(&events[2], 1).unwrap().event], &events[1..2]);
    shop.begin(1);
    same(&[shop.fail(&events[3], 1).unwrap().event], &events[..1]);
    assert_eq!(shop.letters.evicted(), 2);
    let handler = shop.handler.clone();
    assert!(shop.letters.remove(&events[0], &handler).is_none(), "gone, and nothing breaks");
}

#[test]
fn clearing_leaves_lists_alone_and_forgets_redrives() {
    let mut shop = Shop::new(10);
    let event = shop.event();
    let _ = shop.fail(&event, 2);
    let (list, redriven) = (shop.letters.list(), shop.begin(1));
    assert_eq!(shop.letters.clear().letters.len(), 1);
    assert_eq!((shop.letters.len(), list.len(), redriven.len()), (0, 1, 1));
    let _ = shop.letters.release(&event, &shop.handler.clone());
    assert!(shop.fail(&event, 1).is_none());
    assert_eq!(shop.letters.list()[0].attempts, 1, "a letter of its own");
}

use super::*;
use crate::runtime::worker::Activity;
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn what_is_taken_back_leaves_nothing_and_the_rest_stays_in_order() {
    let watch = Watch::new("taken-back", &Arc::default());
    let now = clock::now();
    let at = |n: u64| clock::after(now, HOUR) + n * 7919 % 1000;
    let timers: Vec<Timer> = (0..100_000).map(|n| watch.at(at(n), || ())).collect();
    let (go, stay): (Vec<Timer>, Vec<Timer>) = timers.iter().partition(|timer| timer.number % 3 > 0);
    assert!(go.iter().all(|timer| watch.cancel(*timer)));
    assert!(go.iter().all(|timer| !watch.cancel(*timer)), "only once");
    {
        let state = watch.state.lock();
        assert_eq!(state.agenda.len(), stay.len());
        assert!(state.agenda.keys().is_sorted());
    }
    assert!(stay.iter().all(|timer| watch.cancel(*timer)));
    assert!(watch.state.lock().agenda.is_empty());
    assert!(!watch.cancel(watch.at(NEVER, || ())), "what never comes is not kept");
    watch.crew.ebb();
    watch.let_go();
}

#[test]
fn a_worker_has_one_look_at_the_earliest_time() {
    let watch = Watch::new("one-look", &Arc::default());
    let workers: Vec<_> = (0..3).map(|_| Worker::new(Activity::Outside, None)).collect();
    let at = |n: u64| clock::after(clock::now(), HOUR) + n;
    let first = at(0);
    for n in (0..1000).rev() {
        workers.iter().for_each(|worker| watch.look_at(first + n, worker));
    }
    (0..1000).for_each(|n| watch.look_at(first + n, &workers[0]));
    watch.look_at(NEVER, &workers[0]);
    {
        let state = watch.state.lock();
        assert!(state.agenda.keys().all(|timer| timer.at == first));
        assert_eq!((state.agenda.len(), state.looks.len()), (3, 3));
    }
    // Nothing is on their stacks, and one has gone.
    drop(workers.into_iter().next());
    watch.sweep(clock::now());
    let state = watch.state.lock();
    assert_eq!((state.agenda.len(), state.looks.len()), (0, 0));
}

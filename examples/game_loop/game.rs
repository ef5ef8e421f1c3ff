//! The events, and the two buses: the game's own, pumped once per frame, and one with threads that look for paths.

use crate::path;
use crate::world::{Cell, Hit, Map, Random, World};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use threadbus::{BuildError, Event, EventBus, EventOptions, Payload, Priority};

pub(crate) struct Input {
    pub(crate) direction: Cell,
}
impl Payload for Input {
    type Output = ();
    fn options() -> EventOptions {
        // Before whatever an overlong frame left in the queue.
        EventOptions::new().priority(Priority::HIGH)
    }
}

pub(crate) struct Physics {
    pub(crate) tick: u64,
}
impl Payload for Physics {
    type Output = ();
    fn options() -> EventOptions {
        EventOptions::new().priority(Priority::HIGH)
    }
}

pub(crate) struct Collision {
    pub(crate) hit: Hit,
}
impl Payload for Collision {
    type Output = ();
}

pub(crate) struct Score {
    pub(crate) points: i64,
}
impl Payload for Score {
    type Output = ();
}

/// For show, and to load the frame.
pub(crate) struct Spark(pub(crate) u64);
impl Payload for Spark {
    type Output = ();
    fn options() -> EventOptions {
        EventOptions::new().priority(Priority::LOW)
    }
}

/// Asks for a path, on the threads' bus.
pub(crate) struct Seek {
    pub(crate) from: Cell,
    pub(crate) to: Cell,
    /// The tick from which on the hunter may follow it.
    pub(crate) since: u64,
}
impl Payload for Seek {
    type Output = ();
}

/// The answer, on the game's bus.
pub(crate) struct PathFound {
    pub(crate) path: Vec<Cell>,
    pub(crate) since: u64,
}
impl Payload for PathFound {
    type Output = ();
    fn options() -> EventOptions {
        EventOptions::new().priority(Priority::HIGH)
    }
}

pub(crate) struct Game {
    pub(crate) bus: EventBus,
    pub(crate) paths: EventBus,
    world: Arc<Mutex<World>>,
    pub(crate) paths_found: Arc<AtomicU64>,
}

impl Game {
    pub(crate) fn new(seed: u64) -> Result<Game, BuildError> {
        let mut random = Random::new(seed);
        let map = Arc::new(Map::new(&mut random));
        let world = Arc::new(Mutex::new(World::new(&map, random)));
        // No thread runs this one: the loop in `main` does, in its frames. A handler in a game is short, and nobody waits for it, so
        // there is no timeout to watch for.
        let bus = EventBus::builder("game").manual().handler_timeout(None).handler_slow_after(None).build()?;
        let paths = EventBus::new("paths");
        let paths_found = Arc::new(AtomicU64::new(0));
        let game = Game { bus, paths, world, paths_found };
        game.register(&map);
        Ok(game)
    }

    fn register(&self, map: &Arc<Map>) {
        let world = Arc::clone(&self.world);
        self.bus.on(move |input: &Event<Input>| lock(&world).steer(input.direction));

        let (world, walls) = (Arc::clone(&self.world), Arc::clone(map));
        self.bus.on(move |physics: &Event<Physics>| {
            let hits = lock(&world).step(physics.tick, &walls);
            for hit in hits {
                physics.bus().emit(Collision { hit });
            }
        });

        let (world, walls) = (Arc::clone(&self.world), Arc::clone(map));
        self.bus.on(move |collision: &Event<Collision>| {
            let points = lock(&world).collide(collision.hit, &walls);
            if points != 0 {
                collision.bus().emit(Score { points });
            }
        });

        let world = Arc::clone(&self.world);
        self.bus.on(move |score: &Event<Score>| lock(&world).score += score.points);

        self.bus.on(|spark: &Event<Spark>| {
            std::hint::black_box(spark.0);
        });

        // Runs on a thread of the pool; what it found comes back as an event of the game.
        let (game, walls) = (self.bus.downgrade(), Arc::clone(map));
        self.paths.on(move |seek: &Event<Seek>| {
            if let (Some(game), Some(path)) = (game.upgrade(), path::find(&walls, seek.from, seek.to)) {
                game.emit(PathFound { path, since: seek.since });
            }
        });

        let (world, found) = (Arc::clone(&self.world), Arc::clone(&self.paths_found));
        self.bus.on(move |answer: &Event<PathFound>| {
            found.fetch_add(1, Ordering::Relaxed);
            lock(&world).plan(answer.since, answer.path.clone());
        });
    }

    pub(crate) fn seek(&self, since: u64) -> Event<Seek> {
        let (from, to) = {
            let world = self.world();
            (world.hunter.cell(), world.player.cell())
        };
        self.paths.emit(Seek { from, to, since })
    }

    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        lock(&self.world)
    }
}

fn lock(world: &Mutex<World>) -> MutexGuard<'_, World> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

//! A game without a screen: a fixed time step, everything that happens in it an event, path-finding on other threads.
//!
//! `cargo run --release --example game_loop` plays for five seconds at 60 ticks a second. Other uses:
//!
//! ```text
//! game_loop --ticks 6000                      fast-forward; the same seed gives the same game
//! game_loop --rate 600 --sparks 1000          is there time for a thousand events in 1.7 ms?
//! ```
//!
//! ```text
//!  each tick ──► Input ──► Physics ──► Collision ──► Score          the game's bus: manual, run by this loop,
//!      │                                                  ▲          for so long as the frame's budget lasts
//!      └─ now and then: Seek ──► a thread finds a path ──┘ PathFound: comes back as an event of the next frame
//! ```
//!
//! - `game`: the events, the two buses and their handlers. Read this one first.
//! - `world`: state and rules, without any bus. `path`: breadth first. `frames`: the summary. `args`: the command line.
//!
//! Nothing blocks the loop while it plays in real time, and `forbid_blocking` would tell if something did. Fast-forward has no clock to
//! keep to, so there the loop waits for each path before the tick that is to follow it: a game then depends on its seed only. Exit code 1:
//! a bus failed; 2: bad arguments.
#![deny(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

mod args;
mod frames;
mod game;
mod path;
mod world;

use args::{Command, Length, Settings};
use frames::Frames;
use game::{Game, Input, Physics, Seek, Spark};
use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use threadbus::{Event, Shutdown};
use world::{Cell, Random};

const FAILED: u8 = 1;
const BAD_ARGUMENTS: u8 = 2;
/// A new path for the hunter every so many ticks.
const SEEK_EVERY: u64 = 20;
/// In fast-forward it follows the path so many ticks later.
const SEEK_TAKES: u64 = 4;
/// The player turns every so many ticks.
const TURN_EVERY: u64 = 15;

fn main() -> ExitCode {
    env_logger::init();
    let settings = match args::parse(std::env::args().skip(1)) {
        Ok(Command::Play(settings)) => settings,
        Ok(Command::Help) => {
            return if writeln!(io::stdout(), "{}", args::USAGE).is_ok() { ExitCode::SUCCESS } else { FAILED.into() };
        }
        Err(error) => {
            let _ = writeln!(io::stderr(), "game_loop: {error}\n\n{}", args::USAGE);
            return ExitCode::from(BAD_ARGUMENTS);
        }
    };
    match play(&settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "game_loop: {error}");
            ExitCode::from(FAILED)
        }
    }
}

fn play(settings: &Settings) -> Result<(), Box<dyn Error>> {
    let game = Game::new(settings.seed)?;
    let mut frames = Frames::new(settings.budget);
    let began = Instant::now();
    match settings.length {
        Length::Ticks(ticks) => fast_forward(&game, settings, ticks, &mut frames)?,
        Length::Seconds(seconds) => in_real_time(&game, settings, seconds, &mut frames),
    }
    let took = began.elapsed();
    game.paths.shutdown(Shutdown::Drain, Duration::from_secs(1));
    game.bus.shutdown(Shutdown::Drain, Duration::from_secs(1));
    let mut out = io::stdout().lock();
    frames.write(&mut out, took)?;
    let paths = game.paths_found.load(Ordering::Relaxed);
    let world = game.world();
    writeln!(out, "score {}, caught {} times, {paths} paths found", world.score, world.caught)?;
    Ok(())
}

/// Ticks by the clock. One that is due while the frame before still runs is missed: played at once, and counted.
fn in_real_time(game: &Game, settings: &Settings, seconds: f64, frames: &mut Frames) {
    // This is the thread that a player would feel stutter.
    let _never = threadbus::forbid_blocking();
    let period = Duration::from_secs(1) / settings.rate;
    let ticks = (seconds * f64::from(settings.rate)).ceil() as u64;
    let mut player = Player::new(settings);
    let began = Instant::now();
    for tick in 0..ticks {
        let due = began + period.mul_f64(tick as f64);
        sleep_until(due);
        frames.begin();
        player.tick(game, tick);
        if tick.is_multiple_of(SEEK_EVERY) {
            game.seek(tick);
        }
        frames.pump();
        let ran = game.bus.run_pending_for(settings.budget);
        frames.end(ran, game.bus.pending());
        if Instant::now() > due + period {
            frames.miss();
        }
    }
}

/// Sleeps come back late, by little: the last bit is waited for awake.
fn sleep_until(due: Instant) {
    let early = due.saturating_duration_since(Instant::now());
    std::thread::sleep(early.saturating_sub(Duration::from_micros(300)));
    while Instant::now() < due {
        std::hint::spin_loop();
    }
}

fn fast_forward(game: &Game, settings: &Settings, ticks: u64, frames: &mut Frames) -> Result<(), Box<dyn Error>> {
    let mut player = Player::new(settings);
    let mut asked: Option<Event<Seek>> = None;
    for tick in 0..ticks {
        if tick % SEEK_EVERY == SEEK_TAKES
            && let Some(seek) = asked.take()
        {
            // The answer is a child of the question: complete means followed.
            seek.wait()?;
        }
        frames.begin();
        player.tick(game, tick);
        if tick.is_multiple_of(SEEK_EVERY) {
            asked = Some(game.seek(tick + SEEK_TAKES));
        }
        frames.pump();
        // To the end: a budget would make the game depend on the machine.
        let ran = game.bus.run_pending();
        frames.end(ran, game.bus.pending());
    }
    Ok(())
}

/// Somebody who turns now and then.
struct Player {
    random: Random,
    direction: Cell,
    sparks: u32,
}

impl Player {
    fn new(settings: &Settings) -> Player {
        Player { random: Random::new(settings.seed ^ 0x5eed), direction: Cell { x: 1, y: 0 }, sparks: settings.sparks }
    }

    fn tick(&mut self, game: &Game, tick: u64) {
        if tick.is_multiple_of(TURN_EVERY) {
            self.direction = Cell { x: 0, y: 0 }.neighbours()[self.random.below(4) as usize];
        }
        game.bus.emit(Input { direction: self.direction });
        game.bus.emit(Physics { tick });
        for n in 0..self.sparks {
            game.bus.emit(Spark(u64::from(n)));
        }
    }
}

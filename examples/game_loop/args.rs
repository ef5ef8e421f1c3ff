//! The command line.

use std::time::Duration;

pub(crate) const USAGE: &str = "\
usage: game_loop [OPTIONS]

Plays a small game without a screen, and tells how its frames kept time.

  --seconds S    in real time, for so long (default 5)
  --ticks N      fast-forward: N ticks, one after another, without waiting for the clock; the same seed gives the same game
  --rate HZ      ticks per second of game time (default 60)
  --sparks N     so many extra events in each tick (default 0)
  --budget MS    what a frame may spend on events, in milliseconds (default: half a tick)
  --seed N       of the player's moves and of the map (default 1)
  --help         this";

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Settings {
    pub(crate) length: Length,
    pub(crate) rate: u32,
    pub(crate) sparks: u32,
    pub(crate) budget: Duration,
    pub(crate) seed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Length {
    Ticks(u64),
    Seconds(f64),
}

pub(crate) enum Command {
    Help,
    Play(Settings),
}

pub(crate) fn parse(args: impl Iterator<Item = String>) -> Result<Command, String> {
    let mut args = args.peekable();
    let (mut ticks, mut seconds, mut rate, mut sparks, mut budget, mut seed) = (None, None, 60, 0, None, 1);
    while let Some(arg) = args.next() {
        let (name, mut value) = match arg.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (arg, None),
        };
        let mut value = || value.take().or_else(|| args.next()).ok_or_else(|| format!("{name} needs a value"));
        match name.as_str() {
            "--help" | "-h" => return Ok(Command::Help),
            "--ticks" => ticks = Some(number(&name, &value()?, 1..=100_000_000)?),
            "--seconds" => seconds = Some(positive(&name, &value()?, 86_400.0)?),
            "--rate" => rate = number(&name, &value()?, 1..=10_000)?,
            "--sparks" => sparks = number(&name, &value()?, 0..=1_000_000)?,
            "--budget" => budget = Some(positive(&name, &value()?, 60_000.0)?),
            "--seed" => seed = number(&name, &value()?, 0..=u64::MAX)?,
            _ => return Err(format!("{name} is no option")),
        }
    }
    let length = match (ticks, seconds) {
        (Some(_), Some(_)) => {
            return Err("--ticks does not wait for the clock, so --seconds makes no sense with it".into());
        }
        (Some(ticks), None) => Length::Ticks(ticks),
        (None, seconds) => Length::Seconds(seconds.unwrap_or(5.0)),
    };
    let rate = u32::try_from(rate).unwrap_or(u32::MAX);
    let budget = budget.map_or(Duration::from_secs(1) / rate / 2, |ms| Duration::from_secs_f64(ms / 1000.0));
    Ok(Command::Play(Settings { length, rate, sparks: u32::try_from(sparks).unwrap_or(u32::MAX), budget, seed }))
}

fn number(name: &str, text: &str, range: std::ops::RangeInclusive<u64>) -> Result<u64, String> {
    let number = text.parse().ok().filter(|number| range.contains(number));
    number.ok_or_else(|| format!("{name} takes a whole number from {} to {}, not {text:?}", range.start(), range.end()))
}

fn positive(name: &str, text: &str, most: f64) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number| *number > 0.0 && *number <= most);
    number.ok_or_else(|| format!("{name} takes a number above 0, at most {most}, not {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn play(line: &str) -> Result<Settings, String> {
        match parse(line.split_whitespace().map(str::to_owned))? {
            Command::Play(settings) => Ok(settings),
            Command::Help => Err("help".into()),
        }
    }

    #[test]
    fn options_in_both_spellings() {
        let settings = play("--ticks 600 --rate=120 --budget 2.5 --sparks=7").unwrap();
        assert_eq!((settings.length, settings.rate, settings.sparks), (Length::Ticks(600), 120, 7));
        assert_eq!(settings.budget, Duration::from_micros(2500));
        assert_eq!(play("").unwrap().length, Length::Seconds(5.0));
        assert_eq!(play("--help"), Err("help".into()));
    }

    #[test]
    fn nonsense_is_named() {
        for (line, named) in [
            ("--ticks", "--ticks needs a value"),
            ("--ticks 0", "from 1"),
            ("--rate fast", "\"fast\""),
            ("--budget -1", "--budget"),
            ("--seconds NaN", "--seconds"),
            ("--ticks 1 --seconds 1", "--seconds"),
            ("score", "score is no option"),
        ] {
            let error = play(line).unwrap_err();
            assert!(error.contains(named), "{line}: {error}");
        }
    }
}

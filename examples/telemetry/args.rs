//! The command line.

use std::path::PathBuf;

pub(crate) const DEFAULT_RATE: f64 = 2400.0;
pub(crate) const USAGE: &str = "\
usage: telemetry
       telemetry generate FILE.csv [--laps N]
       telemetry replay FILE.csv [--rate ROWS_PER_SECOND] [--record FILE.csv]";

pub(crate) enum Command {
    Help,
    /// Makes a race up and replays it.
    Demo,
    Generate {
        file: PathBuf,
        laps: u32,
    },
    Replay(Replay),
}

pub(crate) struct Replay {
    pub(crate) file: PathBuf,
    pub(crate) rate: f64,
    /// Where the recorder writes; nowhere if not given.
    pub(crate) record: Option<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum UsageError {
    #[error("unknown argument {0:?}")]
    Unknown(String),
    #[error("{0} needs a value")]
    NoValue(String),
    #[error("{option}: {value:?} is no number above 0")]
    NoNumber { option: String, value: String },
    #[error("which FILE.csv?")]
    NoFile,
}

pub(crate) fn parse(mut args: impl Iterator<Item = String>) -> Result<Command, UsageError> {
    let generate = match args.next().as_deref() {
        None => return Ok(Command::Demo),
        Some("-h" | "--help") => return Ok(Command::Help),
        Some("generate") => true,
        Some("replay") => false,
        Some(other) => return Err(UsageError::Unknown(other.to_owned())),
    };
    let (mut file, mut laps, mut rate, mut record) = (None, 4, DEFAULT_RATE, None);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| UsageError::NoValue(arg.clone()));
        match arg.as_str() {
            "--laps" if generate => laps = number(&arg, value()?)?,
            "--rate" if !generate => rate = number(&arg, value()?)?,
            "--record" if !generate => record = Some(PathBuf::from(value()?)),
            path if file.is_none() && !path.starts_with('-') => file = Some(PathBuf::from(path)),
            _ => return Err(UsageError::Unknown(arg)),
        }
    }
    let file = file.ok_or(UsageError::NoFile)?;
    Ok(if generate { Command::Generate { file, laps } } else { Command::Replay(Replay { file, rate, record }) })
}

fn number<T: std::str::FromStr + Default + PartialOrd>(option: &str, value: String) -> Result<T, UsageError> {
    match value.parse() {
        Ok(number) if number > T::default() => Ok(number),
        _ => Err(UsageError::NoNumber { option: option.to_owned(), value }),
    }
}

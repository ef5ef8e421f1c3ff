//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

pub(crate) const USAGE: &str = "\
usage: image_farm [OPTION]...
Draws the Mandelbrot set in worker processes, and kills one of them on purpose.

  --size PIXELS    width and height of the picture, 1 to 8192 (default 800)
  --rows ROWS      rows of a tile (default 8)
  --workers N      processes at once, 1 to 64 (default 2)
  --recycle TILES  after so many a worker makes place for a new one (default 40)
  --start MS       how long a worker takes to start, 0 to 5000 (default 100)
  --no-kill        kill none
  --check          draw it in one process too, and compare
  --out FILE.ppm   where the picture goes (default: nowhere)
  -h, --help       show this";

#[derive(Debug)]
pub(crate) enum Command {
    Help,
    Draw(Request),
}

#[derive(Debug, PartialEq)]
pub(crate) struct Request {
    pub(crate) size: usize,
    pub(crate) rows: usize,
    pub(crate) workers: usize,
    pub(crate) recycle: usize,
    pub(crate) start: usize,
    pub(crate) kill: bool,
    pub(crate) check: bool,
    pub(crate) out: Option<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum UsageError {
    #[error("unknown argument {0:?}")]
    Unknown(OsString),
    #[error("{0} needs a value")]
    NoValue(String),
    #[error("{option}: {value:?} is no number from {least} to {most}")]
    NoNumber { option: String, value: OsString, least: usize, most: usize },
}

pub(crate) fn parse(mut args: impl Iterator<Item = OsString>) -> Result<Command, UsageError> {
    let mut request =
        Request { size: 800, rows: 8, workers: 2, recycle: 40, start: 100, kill: true, check: false, out: None };
    while let Some(arg) = args.next() {
        let Some(option) = arg.to_str() else { return Err(UsageError::Unknown(arg)) };
        let mut value = || args.next().ok_or_else(|| UsageError::NoValue(option.to_owned()));
        match option {
            "-h" | "--help" => return Ok(Command::Help),
            "--size" => request.size = number(option, value()?, 1, 8192)?,
            "--rows" => request.rows = number(option, value()?, 1, 8192)?,
            "--workers" => request.workers = number(option, value()?, 1, 64)?,
            "--recycle" => request.recycle = number(option, value()?, 1, 1_000_000)?,
            "--start" => request.start = number(option, value()?, 0, 5000)?,
            "--no-kill" => request.kill = false,
            "--check" => request.check = true,
            "--out" => request.out = Some(value()?.into()),
            _ => return Err(UsageError::Unknown(arg)),
        }
    }
    Ok(Command::Draw(request))
}

fn number(option: &str, value: OsString, least: usize, most: usize) -> Result<usize, UsageError> {
    match value.to_str().and_then(|text| text.parse().ok()) {
        Some(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err(UsageError::NoNumber { option: option.to_owned(), value, least, most }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &[&str]) -> Result<Command, UsageError> {
        parse(args.iter().map(OsString::from))
    }

    #[test]
    fn errors_name_the_argument_and_its_value() {
        let message = |args: &[&str]| parsed(args).map(|_| String::new()).unwrap_or_else(|error| error.to_string());
        assert_eq!(message(&["--siez", "3"]), r#"unknown argument "--siez""#);
        assert_eq!(message(&["--size", "0"]), r#"--size: "0" is no number from 1 to 8192"#);
        assert_eq!(message(&["--workers", "many"]), r#"--workers: "many" is no number from 1 to 64"#);
        assert_eq!(message(&["--out"]), "--out needs a value");
    }

    #[test]
    fn all_there_is_to_say() {
        let args = ["--size", "64", "--rows", "1", "--workers", "3", "--no-kill", "--check", "--out", "a.ppm"];
        let all = Request { size: 64, rows: 1, workers: 3, kill: false, check: true, out: Some("a.ppm".into()) };
        assert!(matches!(parsed(&args), Ok(Command::Draw(request)) if request == all));
        assert!(matches!(parsed(&["--check", "-h"]), Ok(Command::Help)));
    }
}

//! The command line.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

pub(crate) enum Command {
    Help,
    Index(Request),
}

pub(crate) struct Request {
    pub(crate) json: bool,
    pub(crate) dir: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum UsageError {
    #[error("unknown option {0:?}")]
    UnknownOption(OsString),
    #[error("only one DIR is taken, got {first:?} and {second:?}")]
    SecondDir { first: OsString, second: OsString },
    #[error("DIR {dir:?}: {error}")]
    NoSuchDir { dir: PathBuf, error: io::Error },
    #[error("DIR {0:?}: is not a directory")]
    NotADirectory(PathBuf),
}

/// `[--json] [DIR]`, in any order; after `--` everything is a DIR.
pub(crate) fn parse(args: impl Iterator<Item = OsString>) -> Result<Command, UsageError> {
    let mut json = false;
    let mut dir = None;
    let mut options_end = false;
    for arg in args {
        match arg.to_str() {
            Some("--") if !options_end => options_end = true,
            Some("--json") if !options_end => json = true,
            Some("-h" | "--help") if !options_end => return Ok(Command::Help),
            _ if !options_end && arg.as_encoded_bytes().starts_with(b"-") => {
                return Err(UsageError::UnknownOption(arg));
            }
            _ => match dir.take() {
                Some(first) => return Err(UsageError::SecondDir { first, second: arg }),
                None => dir = Some(arg),
            },
        }
    }
    let dir = PathBuf::from(dir.unwrap_or_else(|| ".".into()));
    check(&dir)?;
    Ok(Command::Index(Request { json, dir }))
}

fn check(dir: &Path) -> Result<(), UsageError> {
    match std::fs::metadata(dir) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(UsageError::NotADirectory(dir.to_owned())),
        Err(error) => Err(UsageError::NoSuchDir { dir: dir.to_owned(), error }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(args: &[&str]) -> String {
        match parse(args.iter().map(OsString::from)) {
            Ok(_) => "accepted".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn errors_name_the_argument_and_its_value() {
        assert_eq!(message(&["--jsno", "."]), r#"unknown option "--jsno""#);
        assert_eq!(message(&[".", "src"]), r#"only one DIR is taken, got "." and "src""#);
        assert_eq!(message(&["Cargo.toml"]), r#"DIR "Cargo.toml": is not a directory"#);
        assert!(message(&["--", "--json"]).starts_with(r#"DIR "--json": No such file"#));
        assert!(message(&[""]).starts_with(r#"DIR "": "#));
    }

    #[test]
    fn dir_is_the_current_one_unless_given() {
        for args in [&[][..], &["--json"], &["--json", "--", "."], &[".", "--json"]] {
            let parsed = parse(args.iter().map(OsString::from));
            assert!(matches!(parsed, Ok(Command::Index(r)) if r.dir == Path::new(".") && r.json != args.is_empty()));
        }
    }
}

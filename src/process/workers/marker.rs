//! How a process knows that a pool has started it, and that it is not merely the child of such a process.
//!
//! A variable of the environment is inherited by children; so it names the socket that a worker has as its standard input, which its children
//! do not have. Program and arguments may be anything, even a script that starts the program proper.

use super::config::Config;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};

pub(crate) const VARIABLE: &str = "THREADBUS_WORKER";

/// What a worker learns from its environment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Marker {
    socket: u64,
    pub(crate) max_frame: usize,
    pub(crate) niceness: u8,
}

/// The variable's value, for a worker that gets this socket.
pub(crate) fn value(socket: &OwnedFd, config: &Config) -> io::Result<String> {
    let number = socket_number(socket)?.unwrap_or_default();
    Ok(format!("{number},{},{}", config.max_frame, config.niceness))
}

fn parse(value: &str) -> Option<Marker> {
    let mut numbers = value.split(',');
    let marker = Marker {
        socket: numbers.next()?.parse().ok()?,
        max_frame: numbers.next()?.parse().ok()?,
        niceness: numbers.next()?.parse().ok()?,
    };
    numbers.next().is_none().then_some(marker)
}

/// The socket that a pool has given this process as its standard input, and what it said with it. None if no pool has started this process.
pub(crate) fn of_this_process() -> Option<(Marker, OwnedFd)> {
    let marker = parse(&std::env::var(VARIABLE).ok()?)?;
    let stdin = io::stdin().as_fd().try_clone_to_owned().ok()?;
    (socket_number(&stdin).ok()? == Some(marker.socket)).then_some((marker, stdin))
}

/// Whether this process is a worker that has not called `serve`.
pub(crate) fn stdin_is_a_pools() -> bool {
    of_this_process().is_some()
}

/// A number that no two open sockets share. None if the file is no socket.
fn socket_number(fd: &OwnedFd) -> io::Result<Option<u64>> {
    let found = File::from(fd.try_clone()?).metadata()?;
    Ok(found.file_type().is_socket().then(|| found.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_pool_wrote_is_a_marker() {
        assert_eq!(parse("7,100,19"), Some(Marker { socket: 7, max_frame: 100, niceness: 19 }));
        for other in ["", "7", "7,100", "7,100,19,1", "x,100,19", "7,-1,0", "7,100,300"] {
            assert_eq!(parse(other), None);
        }
    }
}

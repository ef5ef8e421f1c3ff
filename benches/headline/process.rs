//! A process for each group of figures.

use crate::machine::Mode;
use crate::measure::{self, Measured};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// The argument that makes this program measure one group and print its rounds.
pub const GROUP: &str = "--group";

/// Measures a group in a process of its own. Empty if that fails; the table says so.
pub fn measure_timing(group: &str, mode: Mode, rounds: usize) -> Measured {
    let mut program = Command::new(std::env::current_exe().expect("the path of this program"));
    program.args([GROUP, group, mode.name(), "--rounds", &rounds.to_string()]);
    measured_by(&mut program)
}

/// The same by the program whose allocator counts, which cargo finds, and makes if need be.
pub fn measure_counting(mode: Mode) -> Measured {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["bench", "--quiet", "--bench", "gates"]).current_dir(env!("CARGO_MANIFEST_DIR"));
    // Where this program was built: target/release/deps.
    let program = std::env::current_exe().expect("the path of this program");
    if let Some(target) = program.ancestors().nth(3).filter(|target| target.join("CACHEDIR.TAG").exists()) {
        cargo.arg("--target-dir").arg(target);
    }
    measured_by(cargo.arg("--").arg(mode.name()))
}

fn measured_by(program: &mut Command) -> Measured {
    let name = Path::new(program.get_program()).display().to_string();
    match program.stderr(Stdio::inherit()).output() {
        Ok(output) if output.status.success() => measure::parse(&String::from_utf8_lossy(&output.stdout)),
        other => {
            let end = other.map_or_else(|error| error.to_string(), |output| output.status.to_string());
            eprintln!("{name}: {end}");
            Measured::new()
        }
    }
}

/// Ends this process with an error if it is still there after `limit`.
pub fn end_after(limit: Duration) {
    std::thread::spawn(move || {
        std::thread::sleep(limit);
        eprintln!("not done after {limit:?}");
        std::process::exit(3);
    });
}

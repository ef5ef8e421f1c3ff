//! Draws a picture of the Mandelbrot set in worker processes, kills one of them on purpose, and draws it to the end all the same.
//!
//! `cargo run --release --features process --example image_farm -- --help`
//!
//! ```text
//!  this process                                            worker processes (this program again)
//!  ────────────                                            ─────────────────────────────────────
//!  Tile 1 … Tile n ──► bus, parallel ──► pool ── socket ──► process::serve ──► draw ──► numbers
//!    │                    │                ▲                    ✗ killed by Command("kill") at a quarter of the way
//!    ├─ batch: progress   └─ retry ────────┘ a fresh one
//!    └─ results ──► picture ──► FILE.ppm
//! ```
//!
//! - `farm`: the event, its handler in the workers, the bus and the kill. Read this one first.
//! - `picture`: the arithmetic and the file. `args`: the command line.
//!
//! Exit code 1: it could not be drawn or written, or `--check` has found a difference; 2: bad arguments.
#![deny(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

#[cfg(not(unix))]
compile_error!("worker processes are for Unix");

mod args;
mod farm;
mod picture;

use args::{Command, Request};
use picture::Picture;
use std::error::Error;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;
use std::time::Instant;

const FAILED: u8 = 1;
const BAD_ARGUMENTS: u8 = 2;

fn main() -> ExitCode {
    // Before all else: in a worker it does not return.
    farm::serve();
    env_logger::init();
    let drawn = match args::parse(std::env::args_os().skip(1)) {
        Ok(Command::Help) => writeln!(io::stdout(), "{}", args::USAGE).map_err(Box::from),
        Ok(Command::Draw(request)) => draw(&request),
        Err(error) => {
            let _ = writeln!(io::stderr(), "image_farm: {error}\n{}", args::USAGE);
            return ExitCode::from(BAD_ARGUMENTS);
        }
    };
    match drawn {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "image_farm: {error}");
            ExitCode::from(FAILED)
        }
    }
}

fn draw(request: &Request) -> Result<(), Box<dyn Error>> {
    let began = Instant::now();
    // Before the work: what cannot be written should not be drawn first.
    let file = request.out.as_ref().map(|path| File::create(path).map_err(|error| format!("--out {path:?}: {error}")));
    let file = file.transpose()?;
    let (picture, report) = farm::draw(request)?;
    writeln!(io::stdout(), "{report}, {:.1} s", began.elapsed().as_secs_f64())?;
    if request.check {
        let here = Picture::drawn_here(request.size);
        let wrong = here.differences(&picture);
        if wrong > 0 {
            return Err(format!("{wrong} pixels differ from what one process draws").into());
        }
        writeln!(io::stdout(), "checked: every pixel is as one process draws it")?;
    }
    if let Some(file) = file {
        let mut file = BufWriter::new(file);
        picture.write(&mut file)?;
        file.flush()?;
    }
    Ok(())
}

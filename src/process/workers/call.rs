//! A request's way to a worker and back: it waits for a worker, or has one started, and for the worker's reply.

use super::claim::Claim;
use super::frame;
use super::link::{Link, Reply, Stage};
use super::slots::{Found, Slots};
use crate::bus::at_process;
use crate::event::HandlerFailure;
use std::sync::Arc;

impl Slots {
    /// Has a worker handle a request, and waits for the reply.
    ///
    /// The request's number is put into `frame`. `begins` is called once the handler has begun in the worker. A worker that is gone before
    /// its handler began is no failure of the handler: the request goes to another worker, as often as workers that have answered before are
    /// lost, and once if none has.
    pub(crate) fn call(
        self: &Arc<Self>,
        claim: &Claim,
        frame: &mut [u8],
        begins: impl Fn(),
    ) -> Result<Reply, HandlerFailure> {
        let (mut fresh_ones, mut lost) = (0, 0);
        loop {
            let words = || format!("waits for a worker process of {}", self.config.name());
            let checked_out = at_process(words, || self.check_out(claim))?;
            let Some(CheckedOut { link, request, was_idle }) = checked_out else { return Ok(Reply::GivenUp) };
            frame::number(frame, request);
            fresh_ones += u32::from(link.answered_so_far() == 0);
            *claim.on.lock() = Some((Arc::clone(&link), request));
            let starts = || format!("waits for worker process {} to start", link.pid);
            let taken_up = at_process(starts, || link.take_up(request, &claim.given_up, claim.logged));
            let works = || format!("waits for worker process {}", link.pid);
            let ended = taken_up.then(|| at_process(works, || link.call(frame, &begins)));
            *claim.on.lock() = None;
            let (reply, stage) = ended.unwrap_or((Reply::GivenUp, Stage::Starting));
            match &reply {
                Reply::Outcome { .. } => self.check_in(link),
                // The worker has not had the request.
                Reply::GivenUp if stage == Stage::Starting => self.check_in(link),
                Reply::Gone { stage: Stage::Sent, .. } if fresh_ones < 2 => continue,
                // The worker was started for another request, or for none.
                Reply::Gone { stage: Stage::Starting, .. } if was_idle && lost == 0 => {
                    lost += 1;
                    continue;
                }
                // No other request gets that worker.
                Reply::Gone { .. } | Reply::GivenUp => {}
            }
            return Ok(reply);
        }
    }

    /// A worker for the claim's request, an idle one or a new one. None if the claim is given up.
    fn check_out(self: &Arc<Self>, claim: &Claim) -> Result<Option<CheckedOut>, HandlerFailure> {
        let (request, found) = self.find(claim)?;
        Ok(match found {
            Found::Idle(link) => Some(CheckedOut { link, request, was_idle: true }),
            Found::Room => Some(CheckedOut { link: self.start(claim.logged)?, request, was_idle: false }),
            Found::GivenUp => None,
        })
    }
}

/// A worker that one request has for itself.
struct CheckedOut {
    link: Arc<Link>,
    request: u64,
    was_idle: bool,
}

//! The jobs of one bus that wait for a thread.

use crate::event::{Fairness, Priority};
use crate::rules::Lanes;
use crate::runtime::job::Job;
use crate::runtime::lane::Half;
use std::collections::VecDeque;

/// The level of a job that has no priority of its own.
pub(super) const NORMAL: u8 = Priority::NORMAL.0;

#[derive(Default)]
pub(super) struct Waiting {
    granted: VecDeque<Job>,
    others: VecDeque<Job>,
    /// From the first job on that is not of normal priority: all of them, and the two above are empty.
    sorted: Option<Box<Sorted>>,
    /// The last job taken was a granted one: if both halves have some, the next one is not.
    others_are_next: bool,
    pub(super) fairness: Fairness,
}

struct Sorted {
    granted: Lanes<Job>,
    others: Lanes<Job>,
}

impl Waiting {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        match &self.sorted {
            None => self.granted.is_empty() && self.others.is_empty(),
            Some(sorted) => sorted.granted.len() + sorted.others.len() == 0,
        }
    }

    /// Takes the next one.
    pub(super) fn take(&mut self) -> Option<Job> {
        let others_first = self.others_are_next;
        self.others_are_next = !others_first;
        match &mut self.sorted {
            None if others_first => self.others.pop_front().or_else(|| self.granted.pop_front()),
            None => self.granted.pop_front().or_else(|| self.others.pop_front()),
            Some(sorted) if others_first => sorted.others.pop().or_else(|| sorted.granted.pop()),
            Some(sorted) => sorted.granted.pop().or_else(|| sorted.others.pop()),
        }
    }

    /// The level of the best job.
    #[inline]
    pub(super) fn best(&self) -> u8 {
        let Some(sorted) = &self.sorted else { return NORMAL };
        sorted.granted.highest().max(sorted.others.highest()).map_or(NORMAL, Priority::level)
    }

    #[inline]
    pub(super) fn put(&mut self, job: Job, half: Half) {
        let priority = job.priority();
        if self.sorted.is_none() && priority == Priority::NORMAL {
            match half {
                Half::Granted => self.granted.push_back(job),
                Half::Others => self.others.push_back(job),
            }
            return;
        }
        let sorted = self.sort();
        match half {
            Half::Granted => sorted.granted.push_back(priority, job),
            Half::Others => sorted.others.push_back(priority, job),
        }
    }

    #[cold]
    fn sort(&mut self) -> &mut Sorted {
        let fairness = self.fairness;
        self.sorted.get_or_insert_with(|| {
            let mut sorted = Sorted { granted: Lanes::new(fairness), others: Lanes::new(fairness) };
            self.granted.drain(..).for_each(|job| sorted.granted.push_back(Priority::NORMAL, job));
            self.others.drain(..).for_each(|job| sorted.others.push_back(Priority::NORMAL, job));
            Box::new(sorted)
        })
    }

    pub(super) fn iter(&self, half: Half) -> impl Iterator<Item = &Job> {
        let jobs = match half {
            Half::Granted => &self.granted,
            Half::Others => &self.others,
        };
        let sorted = self.sorted.iter().flat_map(move |sorted| match half {
            Half::Granted => sorted.granted.iter(),
            Half::Others => sorted.others.iter(),
        });
        jobs.iter().chain(sorted)
    }

    /// Takes the first one of a half that is wanted, out of turn.
    pub(super) fn take_first(&mut self, half: Half, wanted: impl Fn(&Job) -> bool) -> Option<Job> {
        let (jobs, sorted) = match half {
            Half::Granted => (&mut self.granted, self.sorted.as_mut().map(|sorted| &mut sorted.granted)),
            Half::Others => (&mut self.others, self.sorted.as_mut().map(|sorted| &mut sorted.others)),
        };
        match sorted {
            Some(sorted) => sorted.take_first(wanted),
            None => jobs.remove(jobs.iter().position(wanted)?),
        }
    }
}

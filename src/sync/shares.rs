//! Which of three bands of priorities goes next, by smooth weighted round robin.
//!
//! At every turn each band with something queued gains its weight, the one with the most credit goes, and pays what all gained together. So
//! shares are exact over time and spread evenly, and a band waits no longer than the others' credit lasts.

/// Which of the eleven priorities belong to a band: high (8 to 10), normal (4 to 7), low (0 to 3).
pub(crate) const BANDS: [u16; 3] = [0b111_0000_0000, 0b1111_0000, 0b1111];

#[derive(Debug)]
pub(crate) struct Shares {
    weights: [i64; 3],
    credit: [i64; 3],
    /// The credit before the last turn.
    before: [i64; 3],
}

impl Shares {
    pub(crate) fn new(weights: [u32; 3]) -> Self {
        Shares { weights: weights.map(i64::from), credit: [0; 3], before: [0; 3] }
    }

    /// The priorities among which the next turn falls. `occupied`: those of which something waits.
    pub(crate) fn next(&self, occupied: u16) -> u16 {
        self.next_band(occupied).map_or(occupied, |band| occupied & BANDS[band])
    }

    /// `None` if only bands of weight 0 have something.
    fn next_band(&self, occupied: u16) -> Option<usize> {
        // Of equal credit the higher band goes first; `max_by_key` takes the last.
        self.gaining(occupied).rev().max_by_key(|band| self.credit[*band] + self.weights[*band])
    }

    fn gaining(&self, occupied: u16) -> impl DoubleEndedIterator<Item = usize> + use<> {
        let weights = self.weights;
        (0..BANDS.len()).filter(move |band| occupied & BANDS[*band] != 0 && weights[*band] > 0)
    }

    /// Takes the turn that [`next`](Shares::next) tells.
    pub(crate) fn turn(&mut self, occupied: u16) -> u16 {
        self.before = self.credit;
        let Some(next) = self.next_band(occupied) else { return occupied };
        for band in self.gaining(occupied) {
            self.credit[band] += self.weights[band];
            self.credit[next] -= self.weights[band];
        }
        occupied & BANDS[next]
    }

    /// The last turn was not used.
    pub(crate) fn undo(&mut self) {
        self.credit = self.before;
    }

    /// With nothing left that waits, no band is owed a turn.
    pub(crate) fn forget(&mut self) {
        self.credit = [0; 3];
    }
}

//! When to look through a list for what is gone: so seldom that an addition hardly pays for it, so often that the list stays short.

/// Lists shorter than this are not worth a look.
const LEAST: usize = 32;

/// Belongs to a list whose entries die without leaving it: at most as many dead ones as live ones stay there, or [`LEAST`].
#[derive(Debug)]
pub(crate) struct Sweep {
    at: usize,
}

impl Default for Sweep {
    fn default() -> Self {
        Sweep { at: LEAST }
    }
}

impl Sweep {
    /// Before an entry is added to a list of this length: is it to be swept first?
    pub(crate) fn is_due(&self, len: usize) -> bool {
        len >= self.at
    }

    /// After a sweep that has left so many.
    pub(crate) fn has_left(&mut self, len: usize) {
        self.at = LEAST.max(2 * len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Adds so many, of which every `stays`th lives for ever; how many entries were looked at, and the longest list.
    fn looks(count: usize, stays: usize) -> (usize, usize) {
        let (mut sweep, mut list, mut looked, mut longest) = (Sweep::default(), Vec::new(), 0, 0);
        for n in 0..count {
            if sweep.is_due(list.len()) {
                looked += list.len();
                list.retain(|n| n % stays == 0);
                sweep.has_left(list.len());
            }
            list.push(n);
            longest = longest.max(list.len());
        }
        (looked, longest)
    }

    #[test]
    fn each_addition_pays_for_two_looks_at_most() {
        for stays in [1, 2, 10, usize::MAX] {
            let (looked, longest) = looks(100_000, stays);
            let lives = 100_000_usize.div_ceil(stays);
            assert!(looked <= 2 * 100_000, "{looked} looks, every {stays}th stays");
            assert!(longest <= 2 * lives + 2 * LEAST, "{longest} of {lives}");
        }
    }
}

//! What a tree shows, and how.

/// How a [`log_tree`](crate::EventBus::log_tree) looks.
///
/// Two runs of the same program differ in ids and times only: leave them out to compare.
///
/// ```
/// use threadbus::TreeStyle;
/// let to_compare = TreeStyle::new().ids(false).times(false);
/// let for_a_terminal = TreeStyle::new().colour(true).width(120);
/// # let _ = (to_compare, for_a_terminal);
/// ```
#[derive(Clone, Debug)]
pub struct TreeStyle {
    pub(super) ids: bool,
    pub(super) times: bool,
    pub(super) colour: bool,
    pub(super) width: usize,
}

impl TreeStyle {
    /// All defaults.
    pub fn new() -> Self {
        TreeStyle { ids: true, times: true, colour: false, width: 80 }
    }

    /// Whether events, handlers and buses show the last four digits of their ids. Default: true.
    pub fn ids(mut self, shown: bool) -> Self {
        self.ids = shown;
        self
    }

    /// Whether to show when something started, and how long it took. Default: true.
    pub fn times(mut self, shown: bool) -> Self {
        self.times = shown;
        self
    }

    /// Whether to colour failures and fade times, by ANSI escape codes. Default: false.
    pub fn colour(mut self, coloured: bool) -> Self {
        self.colour = coloured;
        self
    }

    /// Columns of the longest line. Default: 80; less than 60 becomes 60.
    pub fn width(mut self, columns: usize) -> Self {
        self.width = columns.max(60);
        self
    }
}

impl Default for TreeStyle {
    fn default() -> Self {
        Self::new()
    }
}

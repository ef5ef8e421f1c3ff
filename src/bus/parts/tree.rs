//! What is in a log tree, in the order in which it is drawn.

/// How something stands, or ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sign {
    Waiting,
    Running,
    Done,
    Failed,
    TimedOut,
    Cancelled,
    GivenUp,
}

/// An event, or one handler's run of it.
pub(crate) struct Node {
    pub(crate) sign: Sign,
    /// With the last digits of ids, and without.
    pub(crate) label: String,
    pub(crate) name: String,
    /// `[14:03:05.123 (1.2ms)]`, or nothing.
    pub(crate) time: String,
    /// What came out of it, with what leads to it: ` → 42`, `: no network`. Or nothing.
    pub(crate) result: String,
    pub(crate) children: Vec<usize>,
}

#[derive(Default)]
pub(crate) struct Tree {
    pub(crate) nodes: Vec<Node>,
    pub(crate) roots: Vec<usize>,
    /// How many events of the history it was made of, and of how many they are the last.
    pub(crate) events: usize,
    pub(crate) of: usize,
}

impl Tree {
    /// Its place.
    pub(crate) fn add(&mut self, node: Node, parent: Option<usize>) -> usize {
        let place = self.nodes.len();
        self.nodes.push(node);
        match parent {
            Some(parent) => self.nodes[parent].children.push(place),
            None => self.roots.push(place),
        }
        place
    }
}

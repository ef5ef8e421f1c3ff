//! The shortest way from one cell to another, breadth first. It takes its time, and so it has a thread of its own.

use crate::world::{Cell, Map, SIZE};
use std::collections::VecDeque;

/// From the cell after `from` to `to`; `None` if there is no way.
pub(crate) fn find(map: &Map, from: Cell, to: Cell) -> Option<Vec<Cell>> {
    let index = |cell: Cell| (cell.y * SIZE + cell.x) as usize;
    let mut came_from: Vec<Option<Cell>> = vec![None; (SIZE * SIZE) as usize];
    let mut open = VecDeque::from([from]);
    came_from[index(from)] = Some(from);
    while let Some(cell) = open.pop_front() {
        if cell == to {
            let mut path = Vec::new();
            let mut at = cell;
            while at != from {
                path.push(at);
                at = came_from[index(at)]?;
            }
            path.reverse();
            return Some(path);
        }
        for next in cell.neighbours() {
            if map.is_free(next) && came_from[index(next)].is_none() {
                came_from[index(next)] = Some(cell);
                open.push_back(next);
            }
        }
    }
    None
}

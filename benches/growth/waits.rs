//! Handlers that wait: herds, chains, and what stands beside them.

use crate::row::Row;

pub static ROWS: &[Row] = &[];

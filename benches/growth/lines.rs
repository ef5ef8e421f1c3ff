//! Lines: of a limit, of a type's handlers, of commands.

use crate::row::Row;

pub static ROWS: &[Row] = &[];

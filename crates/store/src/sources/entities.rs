//! Tables of sources, one file each.

pub(crate) mod protected_column;
pub(crate) mod source;
pub(crate) mod source_table;

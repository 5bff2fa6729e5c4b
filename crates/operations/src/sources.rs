//! Sources, their tables and columns: looked at before anything is written, declared, renamed, released.

pub(crate) mod accept;
pub(crate) mod by_table;
pub(crate) mod check;
pub(crate) mod counting;
pub(crate) mod effects;
pub(crate) mod look;
pub(crate) mod opening;
pub(crate) mod protected_tables;
pub(crate) mod release;
pub(crate) mod rename;
pub(crate) mod strays;
pub(crate) mod whereabouts;

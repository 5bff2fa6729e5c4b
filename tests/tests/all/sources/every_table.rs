//! Every table: whatever its shape, all its values move and nothing else of its rows changes.

mod apart;
mod beside;
mod clinic;
mod damaged;
mod growing;
mod keys;
mod late;
mod many;
mod mended;
mod moved;
mod names;
mod replaced;
mod schema;
mod trees;
mod triggers;
mod wide;

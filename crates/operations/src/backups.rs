//! Backups of keys: bundles are sealed, stored at destinations and proved by drills, which are restores.

mod attempt;
pub(crate) mod checkpointing;
mod comparing;
pub(crate) mod deployment;
pub(crate) mod drilling;
pub(crate) mod due;
pub(crate) mod erasing;
pub(crate) mod places;
pub(crate) mod pruning;
pub(crate) mod recognising;
pub(crate) mod recovery;
pub(crate) mod request;
pub(crate) mod restoring;
pub(crate) mod sealed_anew;
pub(crate) mod sealing;
mod states;
pub(crate) mod storing;
pub(crate) mod views;
pub(crate) mod work;

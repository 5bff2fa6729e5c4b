//! Rotations: asked for, held up, ended; what they count.

pub(crate) mod canary;
pub(crate) mod cancel;
pub(crate) mod census;
pub(crate) mod dispatch;
pub(crate) mod pause;
pub(crate) mod plan;
mod renamed;
pub(crate) mod rotate;
pub(crate) mod stragglers;
pub(crate) mod sweep;
pub(crate) mod too_new;
pub(crate) mod views;

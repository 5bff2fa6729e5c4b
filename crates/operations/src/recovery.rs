//! Recovery: a key, or all that a deployment was, is brought back from what destinations keep; and a store that was rolled
//! back is told what it forgot.

pub(crate) mod finding;
pub(crate) mod key;
pub(crate) mod listing;
pub(crate) mod opening;
pub(crate) mod rebuilding;
pub(crate) mod reconciling;
pub(crate) mod whole;

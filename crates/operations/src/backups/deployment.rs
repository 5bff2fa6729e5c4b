//! The deployment's bundle: what the store knows beside keys, kept at every destination and proved as keys are.

pub(crate) mod contents;
pub(crate) mod keeping;
